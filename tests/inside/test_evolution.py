"""Feature maps through training, drawn from slim snapshots."""
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest
from small_networks import output

import utils
from inside import evolution
from inside.strongest import filled, project_strongest
from inside.trained import Record
from system.command_line import InputError, NotDrawn, import_script


@pytest.mark.slow
def test_evolution_is_drawn_from_snapshots(small_run):
    """The last snapshot's strongest images are the finished network's, of 2,000 training images,
    named by their place among all."""
    record = Record(small_run, import_script)
    figure, numbers = evolution.draw(record, count=3)
    plt.close(figure)
    assert numbers["steps"].tolist() == [0, 1, 6, 40] and numbers["image"].shape == (3, 4)
    network = record.network
    maps = network.layers[-1]
    images = network.data.train_images
    chosen = utils.evenly(len(images), 2000)
    assert len(images) > 2000 and numbers["image"].max() > 2000
    most = output(network.model, maps, network.inputs(images[chosen])).max((1, 2))
    strongest = chosen[most[:, numbers["maps"]].argmax(0)]
    np.testing.assert_array_equal(numbers["image"][:, -1], strongest)
    largest = most.max(0)[numbers["maps"]]
    assert largest.tolist() == sorted(most.max(0))[:-4:-1]
    np.testing.assert_allclose(numbers["activation"][:, -1], largest, rtol=1e-5)
    found, _, projections = project_strongest(network.model, maps, images[chosen], 1,
                                              network.inputs, numbers["maps"])
    np.testing.assert_array_equal(chosen[found[0][numbers["maps"], 0]], numbers["image"][:, -1])
    last = filled([own[0] for own in projections], numbers["projection"].shape[2:4])
    np.testing.assert_allclose(numbers["projection"][:, -1], last, rtol=1e-4, atol=1e-6)
    assert numbers["projection"].dtype == np.float32
    assert [*evolution.table(numbers)][0][1:] == ("step 0", "step 1", "step 6", "step 40")


@pytest.mark.slow
def test_without_snapshots_nothing_is_drawn(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run", ignore=lambda *_: ["snapshots"])
    with pytest.raises(NotDrawn, match="no snapshots; train with --snapshots 8"):
        evolution.draw(Record(run, import_script))


@pytest.mark.slow
def test_a_snapshot_of_another_network_is_refused(small_run, tmp_path):
    """Its weights are not left out in silence, which would draw the final ones in their place."""
    run = shutil.copytree(small_run, tmp_path / "run")
    file = sorted((run / "snapshots").glob("*.npz"))[1]
    with np.load(file) as arrays:
        np.savez(file, **{name.replace("conv1", "other"): x for name, x in arrays.items()})
    with pytest.raises(InputError, match="step-00000001.*another network"):
        evolution.draw(Record(run, import_script))
    plt.close("all")
