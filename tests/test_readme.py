"""The commands of README.md and studies/README.md, at a small budget; and every path named."""
import functools
import glob
import pathlib
import re
import shlex
import shutil

import pytest
from conftest import ROOT, SOURCES, attempt_here, run_script, write_images

import sweep
import visualize
from comparisons.report import DOCUMENTS
from sources import images
from system.command_line import import_script, parse
from training.loop import load_training_data, make_model

README = (ROOT / "README.md").read_text()
LINES = [line for text in (README, (ROOT / "studies/README.md").read_text())
         for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
         for line in block.splitlines()]
COMMANDS = [*dict.fromkeys(command.strip() for line in LINES for command in re.findall(
    r"python (?!-m)[^#;&\n]*", line))]
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SMALL = "--steps 3 --evaluations 1 --snapshots 0 --batch-size 8 --threads 1".split()
LESS = {"cifar_lenet5.py": [*SMALL, *"--filters 4 --units 4 --precision float32".split()],
        "mnist_rnn.py": [*SMALL, *"--units 4 --layers 1".split()],
        "transfer.py": "--per-class 2 --scratch-steps 2 --strengths 1 --threads 1".split()}
EXPERIMENTS = "cifar_lenet5.py", "mnist_rnn.py"


def small(script, words):
    """A training command with its budget and its network cut, but the name it has in full, and
    recurrent nets with small images; a sweep with one seed and the last value of each option."""
    def without_epochs(words):  # --steps are given
        return shlex.split(re.sub(r"--epochs \S+", "", shlex.join(words)))
    if script == "sweep.py" and words[0] in LESS:
        words = shlex.split(re.sub(r"--seeds 0( \d)+", "--seeds 0", shlex.join(words)))
        words = [re.sub(r"=.*,", "=", word) for word in words]
        return [*without_epochs(words), *([] if "--" in words else ["--"]), *LESS[words[0]]]
    if script not in LESS or "--help" in words:
        return words
    experiment = import_script(script)
    config = parse(experiment.Config, getattr(experiment, "RECIPES", {}), words)
    tiny = ["--data", "tiny"] if script == "mnist_rnn.py" else []
    return [*without_epochs(words), *LESS[script], *tiny, "--name", config.name]


def begin(script, words):
    """Do what a training command does before its first step, and return what its data is."""
    experiment = import_script(script)
    config = parse(experiment.Config, experiment.RECIPES, words)
    data = load_training_data(config)
    make_model(experiment.build_model, data.shape, len(data.classes), config)
    return 0, data.source.title, ""


def is_read(words):
    """Whether another command reads the run of a training command in README's words."""
    return any(f"{words[words.index('--name') + 1]}-seed" in command for command in COMMANDS)


def test_there_are_commands():
    """Every line of README's sh blocks is one that is tried below, or one of these."""
    assert len(COMMANDS) >= 20 and CODE
    assert "pip install -r requirements.txt && python cifar_lenet5.py" in README
    assert "pip install -r requirements-dev.txt && pytest" in README
    for line in LINES:
        for command in filter(None, re.split("&&|;", line.partition("#")[0])):
            assert command.split()[0] in (
                "python", "pip", "pytest", "tensorboard", "."), line


def test_tensorboard_answers_this_machine_alone():
    """No command of a document, nor one that a script prints, opens it to the network."""
    texts = [file.read_text(encoding="utf-8") for file in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md"),
                                                           *SOURCES)]
    commands = [line for text in texts for line in re.findall(r"tensorboard [^\n`]*--.*", text)]
    assert len(commands) >= 5
    assert not [line for line in commands if "--bind_all" in line or "--host" in line]


@pytest.mark.slow
def test_every_command_works(tmp_path, monkeypatch, real_data, quick_figures):
    """In their order, in an empty folder: later commands use what the earlier ones wrote; then the
    lines of Python. Each data set is read once.

    `visualize.py all` draws two figures here, and all in test_scripts.py. What no later command
    reads is begun and not trained: what options compute is tested where they are.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "attempt", attempt_here)
    for name, own in images.DATA_SETS.items():
        monkeypatch.setitem(images.DATA_SETS, name, own._replace(load=functools.cache(own.load)))
    rooms = visualize.commands()
    few = {"inside": dict.fromkeys(("filters", "diagnosis"), ""), "comparisons": {}}
    write_images(tmp_path / "tiny")
    (tmp_path / "data").symlink_to(real_data)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    (tmp_path / "figures").mkdir()
    for command in COMMANDS:
        _, script, *words = shlex.split(command.replace("$seed", "0"))
        globs = {word: sorted(glob.glob(word)) for word in words if "*" in word}
        assert all(globs.values()), f"{command}: nothing is named so"
        words = small(script, [w for word in words for w in globs.get(word, [word])])
        monkeypatch.setattr(visualize, "commands",
                            lambda all=words[:1] == ["all"]: few if all else rooms)
        assert (ROOT / script).exists()
        only_begun = script in EXPERIMENTS and "--name" in words and not is_read(words)
        status, out, err = begin(script, words) if only_begun else run_script(script, *words)
        assert status == 0, f"{command}\n{out}{err}"
        assert err == "", f"{command} warns: {err}"
        assert "SYNTHETIC" not in out, f"{command} did not find the data"
    for block in CODE:
        exec(block, {})
    for line in LINES:
        if line.startswith("tensorboard"):
            assert [*pathlib.Path(line.split()[2]).rglob("events*")], line


@pytest.mark.parametrize("document, name", [
    (document, name) for document in DOCUMENTS
    for name in sorted(set(re.findall(r"\]\(([^):#]+)[^):]*\)", (ROOT / document).read_text())))])
def test_every_link_leads_somewhere(document, name):
    assert (ROOT / document).parent.joinpath(name).exists()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_line_may_break_within_a_number(document):
    """"70.0 ± 1.2 %" has no-break spaces; code and tables, which are made, are passed over."""
    prose = re.sub(r"```.*?```|`[^`\n]*`|<!-- .*?<!-- end -->", "", (ROOT / document).read_text(),
                   flags=re.DOTALL)
    assert not re.findall(r".*(?:\d [±%]|± \d).*", prose)


def test_layout_names_every_file():
    """Every module and package at the top level stands in README's list."""
    packages = [path.parent for path in ROOT.glob("*/__init__.py")]
    for path in [*ROOT.glob("*.py"), *packages]:
        assert f"`{path.name}{'/' * path.is_dir()}`" in README, path.name
