"""Faults of first layers and unused dense units, of which snapshots hold the counts."""
import shutil
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import weights_of

from inside import diagnosis
from inside.trained import Record
from system.command_line import InputError, import_script
from system.files import load_arrays
from training.checkpoints import snapshots
from training.loop import Training


@pytest.mark.slow
def test_unused_units_stand_in_the_snapshots(small_run, tmp_path):
    """As counted in training; without snapshots they are counted in the finished network."""
    run = shutil.copytree(small_run, tmp_path / "run")
    files = snapshots(run)
    arrays = load_arrays(files[1])
    np.savez(files[1], **arrays | {"unused_units/relu_hidden": 16})
    figure, numbers = diagnosis.draw(Record(run, import_script))
    plt.close(figure)
    kernel = weights_of(run)["conv1/kernel"]
    np.testing.assert_array_equal(numbers["kernel"], kernel)
    np.testing.assert_allclose(numbers["norms"], np.sqrt(np.square(kernel).sum((0, 1, 2))))
    assert numbers["steps"].tolist() == [0, 1, 6, 40, 40]
    unused = numbers["dense_unused"][:, 0]
    assert unused[1] == 16 and numbers["dense_units"].tolist() == [16]
    assert [*diagnosis.table(numbers)][1][-1] == f"{unused[-1]} of 16; at most 16, at step 1"
    assert abs(unused[-1] - unused[-2]) <= 1  # what training counted; parts of a batch round
    for wrong in ([3, 4], "three", 0.5):
        np.savez(files[1], **arrays | {"unused_units/relu_hidden": wrong})
        with pytest.raises(InputError, match="00001.npz is damaged: its unused units"):
            diagnosis.draw(Record(run, import_script))
    shutil.rmtree(run / "snapshots")
    steps, counted = diagnosis.unused_over_time(Record(run, import_script).network, ["relu_hidden"])
    assert steps == [0] and counted.tolist() == [[unused[-1]]]


@pytest.mark.slow
def test_all_images_are_counted_of_a_network_with_one_dense_activation(small_run):
    """Of a list of one tensor Keras returns no list, and of its first image each unit is one."""
    training = types.SimpleNamespace(model=Record(small_run, import_script).network.model,
                                     sample=np.float32(np.random.default_rng(0).normal(
                                         size=(50, 28, 28, 1))))
    hidden = training.model.get_layer("hidden")
    kernel, bias = hidden.get_weights()[0], np.full(16, 100.0)
    bias[[2, 3, 7]] = -1e4  # unused, the others always positive
    before = [v.numpy() for v in hidden.weights]
    hidden.set_weights([kernel, bias][:len(before)])
    counted = Training.snapshot(training)["unused_units/relu_hidden"]
    hidden.set_weights([np.full_like(kernel, np.nan), bias][:len(before)])
    diverged = Training.snapshot(training)["unused_units/relu_hidden"]  # without a warning
    hidden.set_weights(before)
    assert counted == 3 and diverged == 16
