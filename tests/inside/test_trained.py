"""Runs read back: their network from model.keras, their snapshots, the images that figures show;
and models that Keras saved, whoever trained them."""
import dataclasses
import pathlib
import shutil
import sys
import types
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_one_line, change_weights, run_script, write_images
from small_networks import as_record, network_of, one_hot
from written import packed

from inside import mistakes
from inside.trained import (
    Network,
    Record,
    first_of_each_class,
    flat,
    load_keras,
    read_pictures,
    read_snapshots,
    recognised_of_each_class,
    require_same_images,
    without_softmax,
)
from sources.images import Images, Reading
from system import machine
from system.command_line import InputError, NotDrawn, import_script
from system.files import load_arrays, read_json, write_json
from training import graph, plain
from training.checkpoints import snapshots
from training.events import read_events
from training.loop import evaluate

L = keras.layers


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


@pytest.mark.parametrize("name, read", [
    ("a.png", lambda file: read_pictures(Network(file, Reading(), None, None, Images(
        "x", "x", ("a", "b"), *[np.zeros((1, 4, 4, 1), np.uint8), np.int32([0])] * 2), 0.0, 1.0),
        [file])),
    ("a.keras", lambda file: load_keras(file, "digits", "data", 255)),
    ("model.keras", lambda file: plain.load(file.parent, types.SimpleNamespace(weights=[]))),
    ("events.out.tfevents.1", lambda file: read_events(file.parent)), ("a.npz", load_arrays),
    ("config.json", read_json)])
def test_pipes_and_devices_are_not_read(tmp_path, name, read):
    """From a pipe one would wait for ever, a device may have no end."""
    (tmp_path / name).symlink_to("/dev/null")
    with pytest.raises(InputError, match=f"{name} is a pipe or a device, no file"):
        read(tmp_path / name)


reading_a_model = pytest.mark.parametrize("name, read", [
    ("a.keras", lambda file: load_keras(file, "digits", "data", 255)),
    ("model.keras", lambda file: plain.load(file.parent, types.SimpleNamespace(weights=[])))])


@reading_a_model
def test_a_model_with_code_of_its_own_is_refused(tmp_path, monkeypatch, name, read):
    """That of a Lambda layer, which would leave a file."""
    monkeypatch.chdir(tmp_path)
    sequential(L.Lambda(lambda x: open("ran", "wb") and x), L.Flatten(), L.Dense(10)).save(name)
    pathlib.Path("ran").unlink()
    with pytest.raises(InputError, match=f"^[^\n]*{name}[^\n]* `?Lambda`? [^\n]*$"):
        read(tmp_path / name)
    assert_one_line(run_script("visualize", "mistakes", name, "--data", "digits"), name, "Lambda")
    assert not pathlib.Path("ran").exists()


@reading_a_model
def test_a_model_that_promises_more_than_memory_holds_is_refused(tmp_path, monkeypatch, name, read):
    packed(tmp_path / "a.zip", {"config.json": b"{}", "model.weights.h5": bytes(99)}).rename(
        tmp_path / name)
    monkeypatch.setattr(machine, "free_memory", lambda: 100)
    with pytest.raises(InputError, match=f"{name}, unpacked, would take 0.0 GB of memory"):
        read(tmp_path / name)
    monkeypatch.setattr(machine, "free_memory", lambda: 101)
    with pytest.raises(InputError, match="damaged|no Keras model"):  # but not for its size
        read(tmp_path / name)


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
            "beta", "moving_mean", "moving_variance")), "unused_units/relu_hidden"]
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
    for text, said in (("{}", "script None, not the plain name"), ('{"script": "none"}', "none.py"),
                       ('{"script": "cifar_lenet5"}', "not a run's of cifar_lenet5.py")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=said):
            _ = Record(tmp_path, import_script).network


def test_a_run_does_not_bring_its_own_code(tmp_path, monkeypatch):
    """A script counts if it lies here or beside the others, not wherever config.json says."""
    run = tmp_path / "here/bad"
    run.mkdir(parents=True)
    for folder in (run, tmp_path):
        (folder / "evil.py").write_text("open('was here', 'w')")
    monkeypatch.chdir(tmp_path / "here")
    for script in ("bad/evil", "./bad/evil.py", str(run / "evil"), str(run / "evil.py"),
                   "../evil", "..", ""):
        write_json(run / "config.json", {"script": script})
        with pytest.raises(InputError, match="not the plain name"):
            _ = Record(run, import_script).network
    assert "evil" not in sys.modules and [*pathlib.Path().iterdir()] == [pathlib.Path("bad")]


# ------------------------------------------------------------------- models that Keras saved

def sequential(*layers, name=None):
    return keras.Sequential([keras.Input((8, 8, 1)), *layers], name=name)


def test_models_within_a_model_are_laid_open():
    """What they compute stays; what they are made of has its names."""
    block = sequential(L.Conv2D(3, 3, padding="same", activation="relu", name="conv"), name="block")
    x = keras.Input((8, 8, 1), name="images")
    y = L.Concatenate()([block(x), block(2 * x)])
    model = keras.Model(x, L.Dense(4, name="logits")(L.Flatten()(block(y[..., :1]))))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1))
    opened = flat(model)
    assert [*graph.stages(opened)] == ["conv", "conv:2", "conv:3"] and not graph.stages(model)
    np.testing.assert_allclose(opened(images), model(images), atol=1e-6)


def test_two_layers_of_one_name_stay_within_their_models():
    """As of two networks that were trained apart."""
    blocks = [sequential(L.Conv2D(1, 3, padding="same", name="conv"), name=name) for name in "ab"]
    model = sequential(*blocks, L.Flatten(), L.Dense(4))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1))
    np.testing.assert_allclose(flat(model)(images), model(images), atol=1e-6)
    assert {"a", "b"} <= {layer.name for layer in flat(model).layers}


DRAWN = {"mistakes", "strongest_conv1", "strongest_conv2", "occlusion", "attribution", "filters",
         "activations", "statistics", "invariance", "correspondence", "diagnosis", "maximize_conv1",
         "maximize_conv2", "maximize_classes", "picture_0"}
NOT_DRAWN = ("curves: model.keras holds no TensorBoard events", "over_time: model.keras is a model",
             "reading: model.keras: the network has no recurrent layer", "projector: TensorBoard's "
             "projector shows", "evolution: model.keras has no snapshots", "sanity: only of a run")


def test_a_gate_of_one_position_is_no_feature_map():
    """As squeeze and excitation has it: Grad-CAM of it would be the same everywhere."""
    images = keras.Input((6, 6, 1))
    maps = L.Conv2D(4, 3, activation="relu", name="maps")(images)
    gate = L.Conv2D(4, 1, activation="sigmoid", name="gate")(
        L.GlobalAveragePooling2D(keepdims=True)(maps))
    model = keras.Model(images, L.Dense(2)(L.Flatten()(L.Multiply()([maps, gate]))))
    assert list(graph.feature_maps(model)) == ["maps"]


def test_images_of_one_pixel_have_maps_of_one_position():
    images = keras.Input((1, 1, 1))
    maps = L.Conv2D(4, 3, padding="same", activation="relu", name="maps")(images)
    assert list(graph.feature_maps(keras.Model(images, L.Dense(2)(L.Flatten()(maps))))) == ["maps"]


@pytest.mark.parametrize("ending", [
    [L.Dense(3, activation="softmax")], [L.Dense(3), L.Softmax()], [L.Dense(3), keras.ops.softmax],
    [L.Dense(3), L.Activation("softmax")], [L.Dense(3)]])
def test_a_softmax_at_the_end_is_taken_off_once(ending):
    images = keras.Input((4, 4, 1))
    x = L.Flatten()(images)
    for operation in ending:
        x = operation(x)
    model, x = keras.Model(images, x), np.random.default_rng(0).normal(size=(5, 4, 4, 1))
    expected = model(x) if len(ending) > 1 or ending[0].activation.__name__ == "softmax" else (
        tf.nn.softmax(model(x)))
    np.testing.assert_allclose(tf.nn.softmax(without_softmax(model)(x)), expected, atol=1e-6)


@pytest.mark.parametrize("ending", [L.Dense(3, activation="sigmoid"), keras.ops.sigmoid])
def test_a_sigmoid_at_the_end_is_refused(ending):
    images = keras.Input((3,))
    with pytest.raises(InputError, match="sigmoid"):
        without_softmax(keras.Model(images, ending(images)))


def test_a_softmax_before_the_last_layer_is_refused():
    """By what it gives: there are too many ways to write one."""
    images = keras.Input((4,))
    x = L.Activation("linear", dtype="float32")(L.Dense(3, activation="softmax")(images))
    with pytest.raises(InputError, match="not of its last layer"):
        without_softmax(keras.Model(images, x))
    lost = keras.Model(images, L.Dense(3, bias_initializer=keras.initializers.Constant(np.nan))(
        images))
    for model in (lost, keras.Model(images, L.Softmax()(lost(images)))):
        with pytest.raises(InputError, match="no numbers"):
            without_softmax(model)


def test_logits_that_are_no_numbers_are_no_class():
    """The largest of NaN would be the first class."""
    network = network_of(one_hot(3), np.array([0, 9, 0] * 2).reshape(2, 1, 3, 1), [0, 1],
                         std=1 / 255)
    np.testing.assert_array_equal(network.test_logits, [[0, 9, 0]] * 2)
    lost = dataclasses.replace(network, model=keras.Model(
        network.model.input, keras.ops.log(-network.model.output)))
    with pytest.raises(InputError, match="made gives values that are no numbers"):
        mistakes.draw(as_record(lost))


def test_weights_that_keras_does_not_find_are_an_error(tmp_path):
    """It warns of them, and leaves them as random as they were."""
    images = keras.Input((8, 8, 1))
    x = L.Flatten()(L.Conv2D(2, 3, use_bias=False)(images))
    keras.Model(images, L.Dense(10)(x)).save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole, zipfile.ZipFile(
            tmp_path / "a.keras", "w") as other:
        for name in whole.namelist():
            content = whole.read(name).replace(b'"use_bias": false', b'"use_bias": true')
            other.writestr(name, content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match="a.keras: no Keras model that can be loaded"):
            load_keras(tmp_path / "a.keras", "digits", "data", 255)
    assert not said


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """A model as Keras's tutorials make them, model.keras; images for it; their folder."""
    folder = tmp_path_factory.mktemp("tutorial")
    keras.utils.set_random_seed(0)
    sequential(
        sequential(L.RandomFlip("horizontal"), L.RandomRotation(0.1), name="data_augmentation"),
        L.Rescaling(1 / 255), L.Conv2D(4, 3, padding="same", activation="relu", name="conv1"),
        L.MaxPooling2D(), L.Conv2D(5, 3, activation="relu", name="conv2"), L.Dropout(0.2),
        L.Flatten(), L.Dense(8, activation="relu"), L.Dense(3, activation="softmax")).save(
            folder / "model.keras")
    write_images(folder / "images", 3, 8, 8)
    return folder


@pytest.mark.slow
def test_every_command_takes_a_tutorials_model(tutorial, quick_figures):
    """It is drawn, or one line says why not; nothing is written beside the model."""
    said = ""
    for command in ("all", "maximize", "sanity", "picture"):
        words = {"picture": ["images/test/0/0.png"], "maximize": ["--steps", 5]}.get(command, [])
        status, out, err = run_script("visualize", command, "model.keras", *words, "--data",
                                      "images", "--out", "f", cwd=tutorial)
        assert status == (2 if command == "sanity" else 0), err
        said += out + err
    made = {path.stem for path in (tutorial / "f" / "model.keras").glob("*.png")}
    assert DRAWN <= made and (tutorial / "f/model.keras/explore.html").exists()
    assert {name.removesuffix("_all") for name in made} == DRAWN
    assert all(reason in said for reason in NOT_DRAWN), said
    kernel, = load_arrays(tutorial / "f/model.keras/filters.npz")["kernels"]
    np.testing.assert_array_equal(kernel, keras.models.load_model(
        tutorial / "model.keras").get_layer("conv1").kernel)
    assert sorted(path.name for path in tutorial.iterdir()) == ["f", "images", "model.keras"]


@pytest.mark.slow
def test_a_models_data_may_be_split_and_its_classes_are_said(tutorial, small_run):
    """Keras's own loaders put folders of numbers in another order: 0, 1, 10, 2."""
    words = "--data", "images/train", "--test-split", 0.5, "--out", "f"
    status, out, err = run_script("visualize", "mistakes", "model.keras", *words, cwd=tutorial)
    assert (status, err) == (0, "") and "taken for 0, 1, 2, in this order" in out
    counts = load_arrays(tutorial / "f/model.keras/mistakes.npz")["confusion"]
    assert counts.sum() == len([*(tutorial / "images/train").rglob("*.png")]) / 2
    assert_one_line(run_script("visualize", "mistakes", small_run, *words[2:], cwd=tutorial),
                    "--test-split", "trained with")


@pytest.mark.slow
def test_a_runs_model_is_drawn_as_the_run_is(small_run, tmp_path):
    """From raw pixels, and as strongly excited."""
    data = ("--data", tmp_path / "images.npz")
    images = Record(small_run, import_script).network.data
    np.savez(tmp_path / "images.npz", x_train=images.train_images, y_train=images.train_labels,
             x_test=images.test_images, y_test=images.test_labels)
    for path, words in ((small_run, ()), (small_run / "model.keras", data)):
        status, _, err = run_script("visualize", "strongest", path, *words, "--out", tmp_path)
        assert (status, err) == (0, "")
    run, model = (load_arrays(tmp_path / folder / "strongest_relu2.npz")["activation"]
                  for folder in ("small-seed0", "model.keras"))
    np.testing.assert_allclose(run, model, rtol=1e-4)


@pytest.mark.parametrize("words, said", [
    ((), "say by --data what images"), (("--data", "nowhere"), "nowhere"),
    (("--data", "digits"), "tells 3 classes apart"), (("--data", "damaged"), "can be loaded"),
    (("--data", "two inputs"), "wanted is a functional or sequential model"),
    (("--data", "two outputs"), "wanted is a functional or sequential model"),
    (("--data", "channels first"), "wanted is a functional or sequential model")])
def test_what_a_keras_file_cannot_be_drawn_with(tutorial, tmp_path, words, said):
    file = tmp_path / "m.keras"
    file.write_bytes((tutorial / "model.keras").read_bytes()[:-40 if said == "can be loaded" else
                                                             None])
    x, y, first = keras.Input((8, 8, 1)), keras.Input((8, 8, 1)), keras.Input((1, 8, 8))
    odd = {"two inputs": lambda: keras.Model([x, y], L.Dense(3)(L.Flatten()(x + y))),
           "two outputs": lambda: keras.Model(x, [L.Dense(3)(L.Flatten()(x)) for _ in range(2)]),
           "channels first": lambda: keras.Model(first, L.Dense(3)(L.Flatten()(first)))}
    if said.startswith("wanted"):
        odd[words[1]]().save(file)
    assert_one_line(run_script("visualize", "mistakes", file, *words, cwd=tutorial), said)


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
