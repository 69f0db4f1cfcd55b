"""The experiment of training/README.md: one new file trains, resumes, sweeps and draws, and no
other file of the project is touched."""
import csv
import re
import sys

import numpy as np
import pytest
from conftest import (
    ROOT,
    assert_one_line,
    attempt_here,
    interrupted_at,
    run_script,
    weights_of,
)

import sweep
from system.files import read_json
from training.events import read_events

TEXT = re.search(r'```python\n("""Train a multi-layer perceptron.*?)```',
                 (ROOT / "training/README.md").read_text(), re.DOTALL)[1]
WORDS = ["--data", "synthetic", "--classes", "0-3", "--steps", "150", "--evaluations", "2",
         "--snapshots", "3", "--threads", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder that holds the experiment and nothing else, in which one is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist_mlp.py").write_text(TEXT)
    monkeypatch.delitem(sys.modules, "mnist_mlp", raising=False)
    yield tmp_path
    sys.modules.pop("mnist_mlp", None)


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 60


@pytest.mark.slow
def test_it_trains_resumes_sweeps_and_draws(here, quick_figures, monkeypatch):
    """Stopped and resumed, it ends as it does without a stop."""
    whole, stopped = (here / "logs" / "mnist_mlp" / f"{name}-seed0" for name in ("whole", "x"))
    status, out, err = run_script("mnist_mlp.py", *WORDS, "--name", "whole")
    assert (status, err) == (0, "") and "SYNTHETIC stand-in, drawn digits" in out
    assert read_json(whole / "result.json")["test_accuracy"] > 0.5

    words = ("mnist_mlp.py", *WORDS, "--name", "x")
    with interrupted_at(75):
        status, _, err = run_script(*words)
    assert status == 143 and "step 75, saved" in err and "--resume" in err
    assert_one_line(run_script(*words), "interrupted")
    assert run_script(*words, "--resume")[::2] == (0, "")
    np.testing.assert_equal(weights_of(stopped), weights_of(whole))
    for key in (("train", "batch/loss"), ("validation", "evaluation/accuracy")):
        one, other = read_events(whole)[key], read_events(stopped)[key]
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[2], other[2])

    monkeypatch.setattr(sweep, "attempt", attempt_here)
    status, out, err = run_script(
        ROOT / "sweep.py", "mnist_mlp.py", "--grid", "units=20", "--", "--data", "digits",
        "--steps", 2, "--evaluations", 1)
    assert (status, err) == (0, "") and "1 of 1 runs finished" in out
    with open("logs/sweeps/mnist_mlp-units/results.csv", newline="") as file:
        assert [(row["units"], row["status"]) for row in csv.DictReader(file)] == [
            ("20", "finished")]

    status, out, err = run_script("visualize.py", "all", whole, "--data-dir", "nowhere")
    assert (status, err) == (0, "")
    drawn = {path.stem for path in (here / "figures" / "whole-seed0").glob("*.png")}
    assert {"curves", "invariance", "correspondence"} <= drawn
    assert "not drawn" in out and "no feature maps" in out
