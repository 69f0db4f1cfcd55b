"""Runs read back: their network from model.keras, their snapshots, the images that figures show."""
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import change_weights, run_script

from inside.trained import (
    Network,
    Record,
    first_of_each_class,
    read_snapshots,
    recognised_of_each_class,
    require_same_images,
)
from sources.images import Images
from system.command_line import InputError, NotDrawn, import_script
from system.files import load_arrays, read_json
from training.checkpoints import snapshots
from training.loop import evaluate


def test_first_images_by_hand():
    labels = np.array([1, 0, 1, 1, 0])
    assert first_of_each_class(labels, 2)[1].tolist() == [[1, 4], [0, 2]]
    assert first_of_each_class(labels, 3)[1].tolist() == [[1, 4], [0, 2]]  # there are two of each


def test_recognised_images_by_hand():
    """A network whose logits are the three pixels: it recognises the brightest one's number."""
    pixels = keras.Input((1, 3, 1))
    model = keras.Model(pixels, keras.layers.Flatten(name="logits")(pixels))
    images = np.uint8([[9, 0, 0],   # a 0, recognised
                       [9, 0, 0],   # a 1, taken for a 0
                       [0, 9, 0],   # a 1, recognised
                       [9, 0, 1],   # a 2, taken for a 0
                       [0, 9, 1],   # a 2, taken for a 1
                       [0, 9, 0]])[:, None, :, None]
    labels = np.int32([0, 1, 1, 2, 2, 1])
    data = Images("x", "x", ("a", "b", "c"), images, labels, images, labels)
    network = Network("x", None, None, model, data, 0.0, 1.0)
    assert recognised_of_each_class(network, 3).tolist() == [0, 2, 3]
    assert recognised_of_each_class(network, 2).tolist() == [0, 2]


@pytest.mark.slow
def test_the_network_is_that_of_the_run(small_run):
    """From model.keras, and it is as good as result.json says; there are no checkpoints."""
    assert (small_run / "model.keras").exists() and not (small_run / "checkpoints").exists()
    network = Record(small_run, import_script).network
    logits = network.model(network.inputs(network.data.test_images), training=False)
    accuracy = evaluate(logits, network.data.test_labels)[1]
    assert accuracy == pytest.approx(read_json(small_run / "result.json")["test_accuracy"],
                                     abs=0.003)
    assert list(network.stages) == ["relu1", "relu2", "relu_hidden"]
    assert network.layers == ["relu1", "relu2"] and network.name == "small-seed0"


@pytest.mark.slow
def test_figures_load_the_final_weights_and_no_others(small_run, tmp_path):
    """Those of model.keras or, in older runs, of weights.npz; without them, or with another
    network's, nothing is drawn."""
    run = shutil.copytree(small_run, tmp_path / "run")

    def drawn():
        return {v.path: v.numpy() for v in Record(run, import_script).network.model.weights}
    before = drawn()
    change_weights(run, lambda path, x: x + 1)
    found = drawn()
    np.testing.assert_equal(found, {path: x + 1 for path, x in before.items()})
    (run / "model.keras").unlink()
    with pytest.raises(InputError, match="has no model.keras"):
        drawn()
    np.savez(run / "weights.npz", **before)
    np.testing.assert_equal(drawn(), before)
    np.savez(run / "weights.npz", **before | {"conv1/kernel": np.zeros(3)})
    with pytest.raises(InputError, match="conv1/kernel"):
        drawn()


@pytest.mark.slow
def test_snapshots_are_slim_and_leave_the_network_as_it_was(small_run):
    """They hold what lies below the last feature maps, and counts of unused dense units."""
    files = snapshots(small_run)
    assert [file.stem for file in files] == [f"step-{step:08d}" for step in (0, 1, 6, 40)]
    assert sorted(load_arrays(files[0])) == [
        "conv1/kernel", "conv2/kernel", *(f"norm{i}/{name}" for i in (1, 2) for name in (
            "beta", "moving_mean", "moving_variance")), "unused/relu_hidden"]
    model = Record(small_run, import_script).network.model
    own = model.get_weights()
    kernels = [model.get_layer("conv1").kernel.numpy() for _ in read_snapshots(files, model)]
    for kernel, file in zip(kernels, files):
        np.testing.assert_array_equal(kernel, load_arrays(file)["conv1/kernel"])
    assert (kernels[0] != kernels[-1]).any()
    for a, b in zip(own, model.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_finished_run_is_small(tmp_path):
    """A LeNet-5 of the default size, 3.3 million weights: less than 25 MB in all.

    It is evaluated twice instead of the default's 21 times, and trained for fewer steps than the
    default's 5,000, of which each takes some 100 bytes.
    """
    status, _, err = run_script(
        "cifar_lenet5", "--data", "synthetic", "--per-class", 4, "--steps", 3, "--batch-size", 2,
        "--precision", "float32", "--evaluations", 1, "--name", "x", cwd=tmp_path)
    assert status == 0, err
    run = tmp_path / "logs" / "cifar_lenet5" / "x-seed0"
    assert read_json(run / "config.json")["parameters"] > 3.2e6
    files = {file: file.stat().st_size * (11 if "tfevents" in file.name else 1)
             for file in run.rglob("*") if file.is_file()}
    snapshot = files[snapshots(run)[-1]]  # at most nine of them
    assert run / "model.keras" in files and len(snapshots(run)) >= 4
    assert sum(files.values()) + 5 * snapshot + 5000 * 150 < 25e6, sorted(
        files.items(), key=lambda pair: -pair[1])[:5]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no TensorBoard events"):
        _ = Record(tmp_path, import_script).events
    with pytest.raises(InputError, match="config.json is not there"):
        _ = Record(tmp_path, import_script).network
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        tf.summary.scalar("x", 1.0, step=0)
    with pytest.raises(NotDrawn, match="no events over_time/state"):
        Record(tmp_path, import_script).series("over_time/state")
    for text, said in (("{}", "does not say which script"), ('{"script": "none"}', "none.py"),
                       ('{"script": "cifar_lenet5"}', "not a run's of cifar_lenet5.py")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=said):
            _ = Record(tmp_path, import_script).network


def test_runs_of_other_images_are_not_drawn_together():
    """The title names the images of the first only."""
    def record(value):
        images, labels = np.full((2, 1, 1, 1), value, np.uint8), np.int32([0, 1])
        data = Images("x", f"images of {value}", ("a", "b"), images, labels, images, labels)
        network = Network("x", None, None, None, data, 0.0, 1.0)
        return types.SimpleNamespace(folder=f"run{value}", network=network)
    require_same_images([record(1), record(1)])
    with pytest.raises(InputError, match="run2 is of other images .images of 2. than run1"):
        require_same_images([record(1), record(1), record(2)])
