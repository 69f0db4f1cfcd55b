"""A schedule, an optimizer or a cell is added in one place: its decorated function."""
import json
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_one_line, run_script, write_images

import training
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
    folder, config = trained("cifar_lenet5", "--schedule", "by-thirds", "--filters", 2)
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
    folder, config = trained("cifar_lenet5", "--optimizer", "backwards", "--filters", 2)
    assert config["options"]["optimizer"] == "backwards" and seen
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
