"""Options as flags, recipes, names of runs; errors as one line and an exit status."""
import dataclasses
import errno
import os
import pathlib
import shlex
import signal
import subprocess
import sys

import pytest

from system.command_line import (
    Diverged,
    InputError,
    Interrupted,
    as_text,
    check_values,
    first_line,
    import_script,
    in_one_line,
    is_plain,
    main,
    option,
    options_of,
    parse,
)
from system.files import ROOT

RECIPES = {"plain": {}, "fast": dict(steps=5, rate_of_change=0.5), "fast heavy": dict(rate=2.0)}


@dataclasses.dataclass(frozen=True)
class Base:
    """How it works. And more."""
    recipe: str = option("plain", "set of defaults", names_run=False)
    name: str = option("", "name", names_run=False)
    group: str = option("", "group", names_run=False)
    steps: int = option(10, "steps", low=0, clears="epochs")
    epochs: float = option(0.0, "epochs, 100 % of them", low=0, clears="steps")
    rate: float = option(1.0, "rate")


@dataclasses.dataclass(frozen=True)
class Config(Base):
    """What it is."""
    NAME = "{kind}-{recipe}"
    kind: str = option("light", "kind", ("light", "heavy"))
    sides: tuple = option((3, 4), "sides", low=1)
    share: float = option(0.5, "share", low=0, high=1)
    smooth: bool = option(True, "smooth")
    rate_of_change: float = option(0.25, "another rate")
    data: str = option("x", "data")
    threads: int = option(2, "threads", low=1, names_run=False)
    rate: float = 3.0  # another default
    third: float = option(1 / 3, "a third")
    thirds: tuple = option((1 / 3, 1.0), "two of them")


def parsed(*words):
    return parse(Config, RECIPES, words)


def test_defaults_recipes_and_flags():
    assert parsed().rate == 3.0 and parsed().sides == (3, 4) and parsed().steps == 10
    fast = parsed("--recipe", "fast")
    assert (fast.steps, fast.rate_of_change, fast.rate) == (5, 0.5, 3.0)
    heavy = parsed("--recipe", "fast", "--kind", "heavy")
    assert (heavy.steps, heavy.rate) == (5, 2.0)  # what "fast heavy" adds
    config = parsed("--recipe", "fast", "--rate", "7", "--sides", "1", "2", "3", "--no-smooth")
    assert (config.rate, config.sides, config.smooth) == (7.0, (1, 2, 3), False)


def test_hyphens_and_underscores_are_one():
    assert parsed("--rate-of-change", "9").rate_of_change == 9
    assert parsed("--rate_of_change=9").rate_of_change == 9
    assert parsed("--data=a_b").data == "a_b"  # a value stays as it is


def test_a_small_negative_number_is_a_number():
    assert parsed("--rate", "-1e-3").rate == -1e-3 and parsed("--rate", "-.5E2").rate == -50
    with pytest.raises(SystemExit):
        parsed("--rate", "-e")


def test_a_flag_of_another_name_when_off_has_the_usual_one_too():
    script = import_script("cifar_lenet5")
    for word, coarse in (("--coarse", True), ("--fine", False), ("--no-coarse", False)):
        assert parse(script.Config, script.RECIPES, [word, "--data", "cifar100"]).coarse is coarse


def test_recipes_hold_what_flags_would_take(capsys):
    """A whole number for one with a point is that number; what is none is refused before a run has
    it."""
    found = parse(Config, {"plain": {"rate": 2, "share": 0}}, [])
    assert (found.rate, found.share) == (2.0, 0.0)
    assert type(found.rate) is type(found.share) is float
    for recipe, said in (({"share": 2.0}, "share = 2.0"), ({"steps": 1.5}, "steps = 1.5"),
                         ({"kind": "odd"}, "kind = 'odd'"), ({"sides": [3]}, "sides = [3]"),
                         ({"shares": 1}, "unexpected keyword argument 'shares'")):
        with pytest.raises(SystemExit) as left:
            parse(Config, {"plain": recipe}, [])
        err = capsys.readouterr().err
        assert left.value.code == 2 and "recipe 'plain': " in err and said in err
        assert err.count("\n") == 1


def test_a_field_that_is_no_option_is_named(capsys):
    @dataclasses.dataclass(frozen=True)
    class Own(Config):
        hidden: int = 100
    with pytest.raises(SystemExit) as left:
        parse(Own, RECIPES, [])
    said = "Own.hidden: declare it as hidden: int = option(default, help)"
    assert left.value.code == 2 and said in capsys.readouterr().err


def test_steps_clear_epochs_and_epochs_steps(capsys):
    config = parsed("--epochs", "2")
    assert (config.epochs, config.steps) == (2.0, 0)
    config = parsed("--steps", "7", "--recipe", "fast")
    assert (config.epochs, config.steps) == (0, 7)
    config = parsed("--steps", "7", "--epochs", "0")
    assert (config.epochs, config.steps) == (0, 7)
    with pytest.raises(SystemExit):
        parsed("--steps", "7", "--epochs", "2")  # one of them would say nothing
    assert "--steps and --epochs cannot both be given" in capsys.readouterr().err


@pytest.mark.parametrize("words, name", [
    ("", "light-plain"), ("--recipe fast --kind heavy", "heavy-fast"),
    ("--rate 3", "light-plain"), ("--rate 4 --share 0.75", "light-plain-rate=4.0-share=0.75"),
    ("--sides 5 6 --no-smooth", "light-plain-sides=5,6-no-smooth"),
    ("--data /a/b/c.zip", "light-plain-data=c"), ("--threads 9", "light-plain"),
    ("--name mine --rate 4", "mine")])
def test_a_run_is_named_after_what_differs(words, name):
    assert parsed(*words.split()).name == name


@pytest.mark.parametrize("words, said", [
    ("--bogus 1", "--bogus"), ("--steps 0.5", "a whole number"), ("--steps -1", "of at least 0"),
    (f"--steps {2 ** 63}", "of at most 18 digits"),
    ("--rate fast", "'fast' is not a number"), ("--share nan", "up to 1"),
    ("--share 1.5", "of at least 0 up to 1"), ("--sides 3 x", "'x'"), ("--sides 0", "at least 1"),
    ("--kind odd", "light"), ("--recipe odd", "plain, fast"), ("--recipe 'fast heavy'", "none of"),
    ("--name a/b", "plain folder name"), ("--name ..", "plain"), ("--group ../x", "--group"),
    ("--st 3", "--st"), ("more", "more"), ("'more\nlines'", r"more\nlines")])
def test_bad_options_are_one_line_and_status_2(words, said, capsys):
    with pytest.raises(SystemExit) as left:
        parsed(*shlex.split(words))
    out, err = capsys.readouterr()
    assert left.value.code == 2 and out == "" and err.count("\n") == 1 and said in err, err


@pytest.mark.parametrize("words, said", [
    ("--optimizer adam --momentum 0.5", "--momentum changes nothing with optimizer adam, only with "
     "sgd or rmsprop"),
    ("--no-nesterov", "--nesterov changes nothing with optimizer adamw, only with sgd"),
    ("--decay-rate 0.5", "--decay-rate changes nothing with schedule cosine"),
    ("--schedule inverse-time --no-staircase", "--staircase changes nothing with schedule"),
    ("--activation relu --negative-slope 0.2", "--negative-slope changes nothing with activation"),
    ("--momentum 0.9", ""), ("--optimizer sgd --momentum 0.5 --no-nesterov", ""),
    ("--recipe original --decay-steps 9 --no-staircase", "")])
def test_options_that_would_change_nothing_are_refused(words, said, capsys):
    """A sweep over them would show that they do not matter; their usual value does no harm."""
    def read():
        script = import_script("cifar_lenet5")
        return parse(script.Config, script.RECIPES, words.split())
    if not said:
        assert read()
        return
    with pytest.raises(SystemExit) as exit:
        read()
    err = capsys.readouterr().err
    assert exit.value.code == 2 and said in err and err.count("\n") == 1


def test_help_says_meanings_choices_and_defaults_in_groups(capsys):
    with pytest.raises(SystemExit) as left:
        parsed("--help")
    usage, said = " ".join(capsys.readouterr().out.split()).split("options: -h")
    assert left.value.code == 0 and "Options as flags, recipes, names of runs" in usage
    assert said.index("how it works: ") < said.index("--steps") < said.index("what it is: ")
    for text in ("epochs, 100 % of them (default: 0)", "kind {light, heavy} (default: light)",
                 "set of defaults {plain, fast} (default: plain)", "steps (default: 10; fast 5)",
                 "a third (default: 0.3333)", "two of them (default: 0.3333,1)",
                 "sides (default: 3,4)", "--no-smooth"):
        assert text in said, text


def test_options_know_where_they_were_declared():
    found = {own.name: own for own in options_of(Config)}
    assert list(found)[:3] == ["recipe", "name", "group"] and found["rate"].default == 3.0
    assert found["rate"].group == "How it works" and found["kind"].group == "What it is"
    assert found["rate_of_change"].flag == "--rate-of-change"


def test_small_words():
    assert as_text((3, 4)) == "3,4" and as_text([1]) == "1" and as_text(0.5) == "0.5"
    assert [is_plain(name) for name in ("a", "a b.c", "", "..", ".", "a/b", "/")] == [
        True, True, False, False, False, False, False]
    assert first_line(ValueError("a\nb")) == "a" and first_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("error, status, said", [
    (InputError("no such thing"), 2, "no such thing"), (Diverged("nan at 3"), 3, "nan at 3"),
    (Interrupted("saved", 15), 143, "saved"), (Interrupted("saved", 2), 130, "saved"),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "f"), 2, "f: No space left"),
    (OSError("odd"), 2, "writing: odd")])
def test_errors_are_one_line_and_a_status(error, status, said, capsys):
    def fail(error):
        raise error
    assert main(fail, error) == status
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_script_and_says_what_is_kept(number, capsys):
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main(os.kill, os.getpid(), number) == 128 + number
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert capsys.readouterr().err.endswith(": stopped; what was finished before is kept\n")


def test_a_signal_during_the_slow_imports_is_one_line_too():
    code = ("import os, signal\nfrom system import machine\nfrom system.command_line import "
            "exit_on_signals\nexit_on_signals()\nwith machine.quiet_import():\n"
            "    os.kill(os.getpid(), signal.SIGTERM)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.endswith(": stopped before anything was begun\n")


def test_values_that_no_command_line_takes_are_found():
    check_values(Config())
    for wrong in ({"steps": -1}, {"steps": 0.5}, {"sides": (3, 0)}, {"sides": 3}, {"kind": "odd"},
                  {"steps": 2 ** 63}, {"sides": (3, 10 ** 400)}, {"share": 1.5},
                  {"share": float("nan")}, {"smooth": 1}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            check_values(dataclasses.replace(Config(), **wrong))


def test_what_ends_well_has_status_0_and_what_is_a_mistake_is_seen():
    assert main(lambda: None) == 0 and main(lambda x: x, 5) == 5
    with pytest.raises(ZeroDivisionError):  # of ours, not of the user's: with its traceback
        main(lambda: 1 / 0)


def test_scripts_are_found_here_first(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", None)
    del sys.modules["mine"]
    (tmp_path / "mine.py").write_text("HERE = __file__\n")
    monkeypatch.chdir(tmp_path)
    assert pathlib.Path(import_script("mine").HERE).parent == tmp_path
    assert import_script("mine.py") is import_script("mine")
    with pytest.raises(InputError, match="nowhere.py: no such script"):
        import_script("nowhere")


def test_a_script_is_not_taken_for_another_module_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signal.py").write_text("Config = 1\n")
    with pytest.raises(InputError, match="another module is called signal"):
        import_script("signal")


def test_messages_are_one_line_whatever_names_are_in_them():
    """What would end the line or move the cursor, and what is no text, is written out."""
    said = in_one_line("a\nb\r\x1b[2J\x85\u2028\udcff é 猫\tc")
    assert said == r"a\nb\r\x1b[2J\x85\u2028\udcff é 猫\tc" and len(said.splitlines()) == 1
    assert str(InputError("x\ny: no such file")) == r"x\ny: no such file"
    said.encode()
