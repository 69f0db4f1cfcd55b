"""A student edits build_model: the scripts train, resume and draw what it says, or refuse it."""
import csv
import json
import sys

import numpy as np
import pytest
from conftest import ROOT, assert_one_line, interrupted_at, run_script
from PIL import Image

from system.command_line import import_script
from training.loop import make_model

SMALL = ("--data", "images", "--steps", 60, "--batch-size", 16, "--evaluations", 2, "--name", "a",
         "--precision", "float32")
BEGIN, END = "    x = images = keras.Input(input_shape, name=\"images\")\n", (
    "    model = keras.Model(images, logits, name=\"lenet5\")\n")
RUN = "logs/cifar_lenet5/a-seed0"

MLP = """    x = keras.layers.Flatten()(images)
    x = keras.layers.Dense(20, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    logits = keras.layers.Dense(classes)(keras.layers.Dense(12, activation="relu")(x))
"""
RESIDUAL = """    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(images)
    x = keras.layers.MaxPooling2D(4)(x)
    y = keras.layers.Conv2D(3, 3, padding="same")(keras.activations.gelu(x))
    x = keras.layers.SpatialDropout2D(0.2)(x + y)
    logits = keras.layers.Dense(classes)(keras.layers.Flatten()(keras.activations.relu(x)))
"""
SOFTMAX = """    x = keras.layers.Flatten()(images)
    logits = keras.layers.Dense(classes, activation="softmax", name="end")(x)
"""


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A function: build_model's body -> cifar_lenet5.py with it, in tmp_path; one to run scripts
    there; tmp_path, with images of three classes of 12x12 pixels, which are quick to draw."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 12)):
        for label in range(3):
            (tmp_path / "images" / part / f"{label}").mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (12, 12), np.uint8)
                pixels[4 * label:4 * label + 4, rng.integers(8):][:, :4] += 100
                Image.fromarray(pixels).save(tmp_path / "images" / part / f"{label}/{i}.png")

    def edit(body):
        source = (ROOT / "cifar_lenet5.py").read_text()
        before, begin, rest = source.partition(BEGIN)
        after = rest.partition(END)[2]
        assert begin and after
        (tmp_path / "cifar_lenet5.py").write_text(
            before + begin.replace("x = ", "") + body + END + after)
        monkeypatch.setitem(sys.modules, "cifar_lenet5", None)
        del sys.modules["cifar_lenet5"]  # imported anew, and undone after the test

    def go(script, *words):
        return run_script(script, *words, cwd=tmp_path)
    return edit, go, tmp_path


@pytest.mark.slow
def test_a_network_without_convolution_is_drawn_as_far_as_it_goes(edited, quick_figures):
    """And transfer.py reads its features, and trains it from scratch."""
    edit, go, here = edited
    edit(MLP)
    status, out, err = go("cifar_lenet5.py", *SMALL, "--steps", 300)
    assert (status, err) == (0, "")
    assert json.loads((here / RUN / "result.json").read_text())["test_accuracy"] > 0.6
    status, out, err = go("visualize.py", "all", RUN)
    assert (status, err) == (0, ""), err
    drawn = {file.stem for file in (here / "figures" / "a-seed0").glob("*.png")}
    assert drawn == {"curves", "invariance", "correspondence", "mistakes"}
    said = [line for line in out.splitlines() if line.startswith("not drawn: ")]
    assert all(any(name in line for line in said) for name in (
        "filters", "over_time", "activations", "statistics", "strongest", "evolution", "diagnosis",
        "occlusion"))
    assert "no feature maps" in out and "no convolution" in out
    assert_one_line(go("visualize.py", "occlusion", RUN), "nothing can be drawn", "feature maps")
    status, out, err = go("transfer.py", RUN, "--data", "images", "--per-class", 2,
                          "--scratch-steps", 3, "--strengths", 1)
    assert (status, err) == (0, ""), err
    result = json.loads(next((here / "logs/transfer").rglob("result.json")).read_text())
    assert {"test_accuracy/softmax/dense/2", "test_accuracy/svm/dense_2/2",
            "test_accuracy/scratch/2"} <= set(result)


@pytest.mark.slow
def test_a_residual_network_is_drawn_as_far_as_it_goes(edited, quick_figures):
    edit, go, here = edited
    edit(RESIDUAL)
    assert go("cifar_lenet5.py", *SMALL)[::2] == (0, "")
    status, out, err = go("visualize.py", "all", RUN)
    assert (status, err) == (0, ""), err
    drawn = {file.stem for file in (here / "figures" / "a-seed0").glob("*.png")}
    assert {"curves", "filters", "activations", "statistics", "strongest_conv2d", "invariance",
            "diagnosis", "correspondence", "occlusion"} <= drawn
    assert "not drawn: " in out and "no deconvnet rule" in out
    with open(here / "figures" / "a-seed0" / "statistics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["layer"] for row in rows} == {"conv2d", "gelu", "re_lu"}


def test_what_cannot_be_trained_is_refused_before_anything_is_written(edited):
    edit, go, here = edited
    edit(SOFTMAX)
    assert_one_line(go("cifar_lenet5.py", *SMALL), "'end'", "softmax", "logits")
    assert not (here / "logs").exists()


@pytest.mark.slow
def test_a_run_of_another_network_is_neither_resumed_nor_drawn(edited):
    edit, go, here = edited
    edit(MLP)
    with interrupted_at(30):
        assert go("cifar_lenet5.py", *SMALL)[0] == 143
    before = sorted((here / RUN).rglob("*"))
    edit(MLP.replace('activation="relu"', 'activation="tanh"', 1))  # the same weights
    for words in (("cifar_lenet5.py", *SMALL, "--resume"), ("visualize.py", "invariance", RUN)):
        assert_one_line(go(*words), "dense", "relu", "tanh")
    assert sorted((here / RUN).rglob("*")) == before
    edit(MLP)
    assert go("cifar_lenet5.py", *SMALL, "--resume")[::2] == (0, "")


def test_a_seed_gives_the_same_network_again_without_seeds_in_it(edited):
    edit, _, here = edited
    edit(MLP)
    script = import_script(str(here / "cifar_lenet5.py"))
    one, same, other = (make_model(script.build_model, (12, 12, 1), 3, script.Config(seed=seed))
                        .get_layer("dense").kernel.numpy() for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
