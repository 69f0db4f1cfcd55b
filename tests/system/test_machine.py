"""TensorFlow is imported late and in silence; the processor is known."""
import ast
import io
import os
import subprocess
import sys

import pytest
from conftest import SOURCES, run

from system import machine, progress
from system.command_line import InputError
from system.files import ROOT


def test_freed_memory_is_given_back_where_the_system_can(monkeypatch):
    """A hundred megabytes in small pieces, of which the last is kept: what glibc would not give."""
    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    pieces = [bytes(1000 * 64) for _ in range(1600)]
    pieces = [pieces[-1]]
    before = resident()
    machine.give_memory_back()
    assert before - resident() > 50_000_000
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    machine.give_memory_back()


GONE = {"os": ["sched_getaffinity", "fork", "killpg", "setsid", "getuid", "geteuid"],
        "signal": ["SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "alarm"]}  # on other systems
FORGET = """
import importlib
for module, names in GONE.items():
    for name in names:
        delattr(importlib.import_module(module), name)
"""
LATE = """
import pickle, sys, threading, cloudpickle
from system import machine
import keras, tensorflow as tf
def twice(x):
    return float(tf.constant(x) * 2)
travels = cloudpickle.dumps(twice)  # as joblib and dask send it
assert not {"tensorflow.python", "keras.src"} & set(sys.modules), "imported at once"
import training.optimizers, training.cells, sources.images  # nor by what only names it
assert not {"tensorflow.python", "keras.src"} & set(sys.modules), "imported by a module of ours"
one = threading.Thread(target=lambda: found.append(tf.constant(2)))  # two at a time
found = []
one.start()
found.append(tf.constant(2))
one.join()
assert [int(x) for x in found] == [2, 2]
assert keras.layers.Dense(1).units == 1
assert not {"sklearn", "matplotlib"} & set(sys.modules), "imported by Keras"
import matplotlib, sklearn
assert pickle.loads(travels)(1.0) == 2
for name in MODULES:
    importlib.import_module(name)
"""


@pytest.mark.slow
def test_tensorflow_is_imported_when_it_is_first_used():
    """In silence, from any thread, without what only Keras's wrappers of scikit-learn need; a
    function that uses it travels to other processes before. Every module can be imported on other
    systems."""
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in SOURCES
               if file.name != "__init__.py"]
    code = f"GONE, MODULES = {GONE}, {modules}\n{FORGET}\n{LATE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_tensorflow_is_missing():
    """The hook finds nothing where there is nothing."""
    code = ("import sys\nfrom system import machine\n"
            "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
            "try: import tensorflow\nexcept ModuleNotFoundError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("No module named 'tensorflow'\n", "")


def test_the_processor_is_known(monkeypatch):
    assert 1 <= machine.cores() <= os.cpu_count() and machine.processor()
    monkeypatch.setattr(machine, "cpu_info", lambda: (
        "processor : 0\nmodel name\t: Fast CPU @ 2 GHz\nflags\t\t: fpu avx512_bf16 amx_bf16\n"))
    assert machine.processor() == "Fast CPU @ 2 GHz" and machine.has_bfloat16()
    monkeypatch.setattr(machine, "cpu_info", lambda: "flags : fpu sse\n")
    assert machine.processor() and not machine.has_bfloat16()


def test_a_run_knows_its_machine(monkeypatch):
    facts = machine.facts()
    assert 1e9 < facts["memory"] < 1e14 and facts["processor"] and facts["system"]
    assert facts["versions"]["tensorflow"].count(".") == 2 <= len(facts["settings"])
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert {line.partition("==")[0] for line in pinned} < {*facts["versions"]} and len(pinned) > 9
    monkeypatch.delattr(os, "sysconf")
    assert machine.total_memory() is None


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux's")
def test_cores_are_those_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_two_threads_may_import_at_once(tmp_path):
    """One of them a submodule, which the package, as slow as TensorFlow, then wants too."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/__init__.py").write_text("import time\ntime.sleep(0.6)\nimport slow.below\n")
    (tmp_path / "slow/below.py").touch()
    code = """
import threading, time
from system import machine
machine._Finder.names = "slow",
import slow
one = threading.Thread(target=lambda: slow.below)
one.start()
time.sleep(0.2)
assert "slow.below" not in machine.sys.modules
import slow.below
one.join()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=100,
                   env={**os.environ, "PYTHONPATH": str(tmp_path)})


def test_what_needs_more_memory_than_is_free_is_refused_unless_forced(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 3e9)
    machine.check_memory(3e9, "this", "less of it")
    machine.check_memory(4.2e9, "this", "less of it", force=True)
    with pytest.raises(InputError, match="^this would take 4.2 GB of memory, 3.0 GB are free; "
                                         "less of it, or --force tries it$"):
        machine.check_memory(4.2e9, "this", "less of it", force=False)
    with pytest.raises(InputError, match="GB are free; less of it$"):  # no option of that name
        machine.check_memory(4.2e9, "this", "less of it")
    monkeypatch.undo()
    assert machine.free_memory() > 0


# ---------------------------------------- what other systems than Linux do not have is not needed

POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}


def test_no_module_imports_what_only_posix_has():
    assert len(SOURCES) > 50
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not POSIX & {name.partition(".")[0] for name in names}, file


WITHOUT = """
import pathlib, runpy, sys
sys.modules.update(dict.fromkeys(POSIX))  # None: importing it raises ImportError
read_text = pathlib.Path.read_text
def without_proc(path, *args, **options):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(path)
    return read_text(path, *args, **options)
pathlib.Path.read_text = without_proc
sys.path.insert(0, "")
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("script, words", [
    ("cifar_lenet5.py", ("--data", "digits", "--filters", 2, 3, "--units", 4)),
    ("mnist_rnn.py", ("--data", "digits", "--units", 4, "--layers", 1)),
    ("transfer.py", ("--data", "synthetic", "--per-class", 2, "--scratch-steps", 2))])
def test_scripts_without_proc_fork_affinity_and_fcntl(script, words, small_run, tmp_path):
    """In a process of its own, where they are gone before anything is imported."""
    code = f"GONE, POSIX = {GONE}, {POSIX - {'posix'}}\n{FORGET}\n{WITHOUT}"
    words = (small_run, *words) if script == "transfer.py" else (
        *words, "--steps", 3, "--evaluations", 1)
    done = subprocess.run([sys.executable, "-c", code, *map(str, (
        script, *words, "--logdir", tmp_path))], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "") and [*tmp_path.rglob("result.json")]


@pytest.mark.slow
def test_text_is_utf_8_whatever_the_locale_says():
    """A document is read, and what an ASCII terminal cannot print is written out."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(
                node, ast.Call) else ""
            if name == "read_text" or name == "open" and isinstance(node.func, ast.Name):
                said = {one.arg for one in node.keywords} | {
                    "encoding" for one in node.args[1:] if one.value.endswith("b")}
                assert "encoding" in said, f"{file}, line {node.lineno}"
    result = run("visualize.py", "table", "recipes", LC_ALL="C", PYTHONUTF8="0",
                 PYTHONCOERCECLOCALE="0")
    assert result[0] == 0 and r"\xa0\xb1\xa0" in result[1] and not result[2], result


# ------------------------------------------------------------------------------- long work

@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_file_has_a_line_a_minute_and_no_carriage_returns(monkeypatch, terminal):
    now, said = [0.0], io.StringIO()
    said.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress(total=4, desc="work", delay=0) as bar:
        for _ in range(4):
            progress.Progress.write("note", file=said)
            now[0] += 50
            bar.update()
            bar.refresh()
    lines = said.getvalue().replace("note\n", "")
    if terminal:
        assert "\r" in lines
    else:  # after 100 and 200 seconds
        assert lines.count("\n") == 2 and "\r" not in lines and "work:  50%" in lines, lines
