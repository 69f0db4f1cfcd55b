"""Faults of first layers and unused dense units, of which snapshots hold the counts."""
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import weights_of

from inside import diagnosis
from inside.trained import Record
from system.command_line import import_script
from system.files import load_arrays
from training.checkpoints import snapshots


@pytest.mark.slow
def test_unused_units_stand_in_the_snapshots(small_run, tmp_path):
    """As counted in training; without snapshots they are counted in the finished network."""
    run = shutil.copytree(small_run, tmp_path / "run")
    files = snapshots(run)
    arrays = load_arrays(files[1])
    np.savez(files[1], **arrays | {"unused/relu_hidden": 11})
    figure, numbers = diagnosis.draw(Record(run, import_script))
    plt.close(figure)
    kernel = weights_of(run)["conv1/kernel"]
    np.testing.assert_array_equal(numbers["kernel"], kernel)
    np.testing.assert_allclose(numbers["norms"], np.sqrt(np.square(kernel).sum((0, 1, 2))))
    assert numbers["steps"].tolist() == [0, 1, 6, 40]
    unused = numbers["dense_unused"][:, 0]
    assert unused[1] == 11 and numbers["dense_units"].tolist() == [16]
    assert [*diagnosis.table(numbers)][1][-1] == f"{unused[-1]} of 16; at most 11, at step 1"
    shutil.rmtree(run / "snapshots")
    steps, counted = diagnosis.unused_over_time(Record(run, import_script).network, ["relu_hidden"])
    assert steps == [0] and abs(counted[0, 0] - unused[-1]) <= 1  # parts of a batch round
