"""What is added is added in one place: a schedule, an optimizer or a cell by its decorated
function, an experiment by one file, that of training/README.md, which trains, resumes, sweeps and
draws.
"""
import csv
import json
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    ROOT,
    assert_one_line,
    attempt_here,
    interrupted_at,
    run_script,
    weights_of,
    write_images,
)

import sweep
import training
from system.files import read_json
from training.cells import CELLS, cell, rnn
from training.checkpoints import load_weights
from training.events import read_events
from training.optimizers import OPTIMIZERS, optimizer
from utils import SCHEDULES, schedule

SMALL = ("--data", "images", "--steps", 4, "--batch-size", 8, "--evaluations", 1, "--snapshots", 0,
         "--warmup", 0, "--units", 4, "--threads", 1, "--name", "x")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A function: script, options -> (the folder of a short run, its config.json), as by a process
    that was started now. Afterwards registries and modules are as they were."""
    before = [(registry, dict(registry)) for registry in (SCHEDULES, OPTIMIZERS, CELLS)]
    monkeypatch.setattr(training, "config", None, raising=False)

    def begin():
        for name in ("training.config", "cifar_lenet5", "mnist_rnn"):
            monkeypatch.setitem(sys.modules, name, None)
            del sys.modules[name]

    def train(script, option, value, *words):
        begin()
        write_images(tmp_path / "images", side=8)
        folder = tmp_path / "logs" / script / "x-seed0"
        status, _, err = run_script(script, *SMALL, *words, option, value, cwd=tmp_path)
        assert (status, err) == (0, "")
        assert_one_line(run_script(script, option, "no-such"), "no-such", value)
        return folder, json.loads((folder / "config.json").read_text())
    yield train
    for registry, kept in before:
        registry.clear()
        registry.update(kept)
    monkeypatch.undo()


@pytest.mark.slow
def test_a_schedule(trained):
    @schedule
    def by_thirds(step, learning_rate, decay_rate, total_steps):
        return learning_rate * decay_rate ** (3 * step // total_steps)
    folder, config = trained("cifar_lenet5", "--schedule", "by-thirds", "--filters", 2,
                             "--decay-rate", 0.5)
    assert config["options"]["decay_rate"] == 0.5
    rate, factor = config["options"]["learning_rate"], config["options"]["decay_rate"]
    rates = read_events(folder)["train", "learning_rate"][2]
    np.testing.assert_allclose(rates, rate * factor ** np.array([0, 0, 1, 2]), rtol=1e-6)


@pytest.mark.slow
def test_an_optimizer(trained):
    seen = []

    @optimizer("before", decoupled=True)
    def backwards(w, g, slots, at):
        seen.append(at.nesterov)
        tf.raw_ops.AssignVariableOp(resource=slots[0], value=g)
        tf.raw_ops.ResourceApplyGradientDescent(var=w, alpha=-at.rate, delta=g)
    folder, config = trained("cifar_lenet5", "--optimizer", "backwards", "--filters", 2,
                             "--no-nesterov")
    assert config["options"]["optimizer"] == "backwards" and seen and not any(seen)
    losses = np.float64(read_events(folder)["train", "batch/loss"][2])
    assert len(losses) == 4 and np.isfinite(losses).all()


@pytest.mark.slow
def test_a_cell(trained):
    @cell(gates=1)
    def half_as_fast(x, W, U, b):
        h, backward = rnn(0.5 * x, W, U, b)

        def halved(*dh):
            dx, *others = backward(*dh)
            return 0.5 * dx, *others
        return h, halved
    folder, config = trained("mnist_rnn", "--cell", "half-as-fast")
    assert config["options"]["cell"] == "half-as-fast"
    weights = load_weights(folder)
    assert weights["half-as-fast1/kernel"].shape == (8, 4)
    assert "half-as-fast2/recurrent_kernel" in weights  # the best recipe has two layers


def test_nothing_is_left():
    assert not {"by-thirds", "backwards", "half-as-fast"} & {*SCHEDULES, *OPTIMIZERS, *CELLS}


# ------------------------------------------------------------------------------ an experiment

TEXT = re.search(r'```python\n("""Train a multi-layer perceptron.*?)```',
                 (ROOT / "training/README.md").read_text(), re.DOTALL)[1]
MLP_WORDS = ["--data", "synthetic", "--classes", "0-3", "--steps", "150", "--evaluations", "2",
             "--snapshots", "3", "--threads", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder that holds the experiment and nothing else, in which one is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist_mlp.py").write_text(TEXT)
    monkeypatch.delitem(sys.modules, "mnist_mlp", raising=False)
    yield tmp_path
    sys.modules.pop("mnist_mlp", None)


def test_an_experiment_is_short():
    assert len(TEXT.splitlines()) <= 60


@pytest.mark.slow
def test_an_experiment_trains_resumes_sweeps_and_draws(here, quick_figures, monkeypatch):
    """Stopped and resumed, it ends as it does without a stop."""
    whole, stopped = (here / "logs" / "mnist_mlp" / f"{name}-seed0" for name in ("whole", "x"))
    status, out, err = run_script("mnist_mlp.py", *MLP_WORDS, "--name", "whole")
    assert (status, err) == (0, "") and "SYNTHETIC stand-in, drawn digits" in out
    assert read_json(whole / "result.json")["test_accuracy"] > 0.5

    words = ("mnist_mlp.py", *MLP_WORDS, "--name", "x")
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
