"""What other systems than Linux do not have is not needed."""
import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT

POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}
SOURCES = [*ROOT.glob("*.py"), *(file for package in (
    "system", "sources", "training", "inside", "comparisons") for file in (ROOT / package).rglob(
        "*.py"))]
PRELUDE = """
import os, pathlib, runpy, signal, sys
for name in "sched_getaffinity", "fork", "killpg", "setsid", "getuid", "geteuid":
    delattr(os, name)
for name in "SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "alarm":
    delattr(signal, name)
read_text = pathlib.Path.read_text
def without_proc(path, *args, **options):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(path)
    return read_text(path, *args, **options)
pathlib.Path.read_text = without_proc
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_no_module_imports_what_only_posix_has():
    assert len(SOURCES) > 50
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not POSIX & {name.partition(".")[0] for name in names}, file


@pytest.mark.slow
def test_training_without_proc_fork_or_affinity(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE, ROOT / "cifar_lenet5.py", "--data", "digits", "--filters",
         "2", "3", "--units", "4", "--steps", "3", "--evaluations", "1", "--logdir", tmp_path],
        text=True, capture_output=True, cwd=tmp_path, env={**os.environ, "HOME": "/nowhere"})
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert list(tmp_path.rglob("result.json"))
