"""Where the real data is, and how tests run the scripts as a user does."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

import machine

ROOT = pathlib.Path(__file__).parent.parent
machine.use_replicas(2)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets. Tests that need it are skipped without it, but never in CI."""
    folder = pathlib.Path(os.environ.get("DATA_DIR", "data")).resolve()
    if not (folder / "CIFAR10.zip").exists():
        reason = f"no CIFAR10.zip in {folder}; set DATA_DIR to the folder that holds it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return folder


def start(script, *words, cwd=ROOT, **environment):
    """Start `python script words...` and return the process, its output piped."""
    return subprocess.Popen([sys.executable, str(ROOT / script), *map(str, words)], text=True,
                            cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, **environment})


def run(script, *words, cwd=ROOT, **environment):
    """The same, to its end: (exit status, stdout, stderr)."""
    process = start(script, *words, cwd=cwd, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def short_runs(folder, steps):
    """A run named "a" of each network on the stand-in data, in `folder`/logs: their folders."""
    for script in ("cifar_lenet5.py", "mnist_rnn.py"):
        status, _, err = run(script, "--data", "synthetic", "--steps", steps, "--evaluations", 2,
                             "--batch", 8, "--name", "a", cwd=folder)
        assert status == 0, err
    return [folder / "logs" / script / "a-seed0" for script in ("cifar_lenet5", "mnist_rnn")]


def tags_not_in_readme(events):
    """The (part, tag) of a run that are no row of README's table, or of another part there."""
    table = (ROOT / "README.md").read_text().partition("| TensorBoard tag |")[2].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", table, re.M))
    strange = []
    for part, tag in events:
        places = next((where for row, where in rows.items() if row == tag or (
            row.endswith("/...") and tag.startswith(row[:-3]))), "nowhere")
        if not tag.startswith("_hparams_") and not any(
                part == where or where.endswith("...") and part.startswith(where[:-3])
                for where in places.split(", ")):
            strange.append((part, tag))
    return strange


def assert_one_line(result, *words):
    """The script refused its input: status 2, one line on stderr that holds all `words`."""
    status, _, err = result
    assert status == 2, err
    assert err.count("\n") == 1 and "Traceback" not in err, err
    for word in words:
        assert word in err, err
