"""Which attribution method is right: deletion and insertion by hand, and the figure."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import assert_one_line, run_script
from PIL import Image
from small_networks import L, keras, network_of

from inside import attribution
from inside.attribution import STEPS, area, curves
from inside.deconvnet import project
from inside.saliency import METHODS
from inside.trained import Record
from system.command_line import import_script
from system.files import load_arrays


def one_pixel(row, column, size=(4, 6), weight=4.0):
    """A network whose first logit is one pixel times a weight, the other 0; grey is 0.2."""
    images = keras.Input((*size, 1))
    maps = L.Conv2D(1, 1, use_bias=False, activation="relu", name="conv")(images)
    model = keras.Model(images, L.Dense(2, use_bias=False, name="logits")(L.Flatten()(maps)))
    head = np.zeros((*size, 2), np.float32)
    head[row, column, 0] = weight
    model.set_weights([np.ones((1, 1, 1, 1), np.float32), head.reshape(-1, 2)])
    return network_of(model, np.full((2, *size, 1), 51), [0, 1])


def test_area_by_hand():
    """Of a line from 1 to 0, of one that falls at once, of one that never does."""
    line = np.linspace(1, 0, STEPS + 1)
    at_once, never = np.r_[1, np.zeros(STEPS)], np.ones(STEPS + 1)
    np.testing.assert_allclose(area(np.stack([line, at_once, never])), [0.5, 0.5 / STEPS, 1])
    assert area(line[None] ** 2)[0] == pytest.approx(np.trapezoid(line[::-1] ** 2, line[::-1]))


@pytest.mark.parametrize("place, steps", [(0, 1), (2, 1), (3, 2), (12, 5), (23, 8)])
def test_deletion_and_insertion_by_hand(place, steps):
    """24 pixels, 3 a step: the probability falls, or rises, when the one that counts is reached."""
    network = one_pixel(1, 2)
    order = np.roll(np.delete(np.arange(24), 8), 5)  # pixel 8 is the one at (1, 2)
    order = np.insert(order, place, 8)[None]
    images = np.ones((1, 4, 6, 1), np.float32)
    (deleted, inserted), = curves(network, images, np.array([0]), [order])
    high, low = (1 / (1 + np.exp(-4 * x)) for x in (1, 0.2))
    np.testing.assert_allclose(deleted[0], np.where(np.arange(9) < steps, high, low), atol=1e-6)
    np.testing.assert_allclose(inserted[0], np.where(np.arange(9) < steps, low, high), atol=1e-6)


def test_each_image_has_its_order_and_its_class():
    network = one_pixel(0, 0)
    images = np.stack([np.ones((4, 6, 1)), np.full((4, 6, 1), 0.6)]).astype(np.float32)
    order = np.stack([np.arange(24), np.arange(24)[::-1]])
    (deleted, inserted), = curves(network, images, np.array([0, 1]), [order])
    first, second, grey = (1 / (1 + np.exp(-4 * x)) for x in (1, 0.6, 0.2))
    np.testing.assert_allclose(deleted, [[first, *[grey] * 8], [1 - second] * 8 + [1 - grey]],
                               atol=1e-6)
    np.testing.assert_allclose(inserted, [[grey, *[first] * 8], [1 - grey] * 8 + [1 - second]],
                               atol=1e-6)


@pytest.mark.slow
def test_methods_find_the_pixel_and_chance_does_not():
    """All that are as fine as pixels find it first; a random order, on average, halfway."""
    network = one_pixel(1, 2, weight=20.0)
    network = network_of(network.model, np.random.default_rng(0).integers(150, 256, (40, 4, 6, 1)),
                         [0] * 40, train=(np.full((2, 4, 6, 1), 0, np.uint8), np.int32([0, 1])))
    numbers = attribution.measure(network, 40)
    assert attribution.methods_of(numbers) == [*METHODS, "random order"]
    assert all(x.shape == (40, STEPS + 1) for x in numbers.values())
    for name in METHODS:
        if name not in ("Grad-CAM", "occlusion"):
            assert area(numbers[f"{name}/deletion"]).max() < 0.6, name
            assert area(numbers[f"{name}/insertion"]).min() > 0.9, name
    chance = area(numbers["random order/deletion"])
    assert 0.6 < chance.mean() < 0.9 and chance.std() > 0.05
    np.testing.assert_allclose(chance + area(numbers["random order/insertion"]), 1.5, atol=0.07)
    rows = [*attribution.table(numbers)]
    assert rows[0][0] == "method" and [row[0] for row in rows[1:]] == [*METHODS, "random order"]


def test_table_by_hand():
    """Areas 0.25 and 0.75 of two images, random order's 0.5 and 0.6: on average 0.05 less, the
    differences -0.25 and 0.15 deviate by 0.28, their mean by 0.2."""
    curves = {"gradient": [[0.5, 0], [1, 0.5]], "random order": [[0.5, 0.5], [0.6, 0.6]]}
    numbers = {f"{name}/{kind}": np.array(values) for name, values in curves.items()
               for kind in ("deletion", "insertion")}
    _, method, random = attribution.table(numbers)
    assert method == ["gradient", *["0.500 ± 0.354", "-0.050 ± 0.200"] * 2]
    assert random == ["random order", *["0.550 ± 0.071", ""] * 2]


@pytest.mark.slow
def test_classes_of_a_run_are_drawn(small_run, quick_figures):
    """One image of each of two classes, two methods beside it; the title says of how many."""
    figure, numbers = attribution.draw(Record(small_run, import_script), count=2, images=5)
    grid = figure.axes[0]
    assert [text.get_text() for text in grid.texts] == ["image", "gradient", "guided backprop"]
    assert len(grid.get_yticklabels()) == 2 and "2 of 4 classes" in figure.get_suptitle()
    assert numbers["gradient/map"].shape == (2, 28, 28, 1)
    assert numbers["random order/deletion"].shape == (5, STEPS + 1)
    plt.close(figure)


@pytest.mark.slow
def test_own_pictures_are_drawn(small_run, tmp_path, coarse_figures):
    """By every method, on batch norm, leaky rectifiers and pooling with padding; for the class that
    the network predicts."""
    own = Record(small_run, import_script).network
    image = own.data.test_images[5]
    Image.fromarray(image[..., 0]).save(tmp_path / "a.png")
    status, out, err = run_script("visualize", "attribution", small_run, "--images", 2,
                                  "--pictures", "a.png", "--out", "f", cwd=tmp_path)
    assert (status, err) == (0, "")
    found = load_arrays(tmp_path / "f" / "small-seed0" / "attribution.npz")
    for name in METHODS:
        maps = found[f"{name}/map"]
        assert maps.shape == (1, 28, 28, 1) and np.isfinite(maps).all() and maps.any(), name
        assert found[f"{name}/deletion"].shape == (2, STEPS + 1)
    inputs = own.inputs(image[None])
    best = own.model(inputs).numpy().argmax(1)
    np.testing.assert_allclose(found["gradient/map"], METHODS["gradient"](own, inputs, best),
                               atol=1e-5)
    expected = project(own.model, "logits", inputs, np.eye(4, dtype=np.float32)[best])
    np.testing.assert_allclose(found["deconvnet/map"], expected,
                               atol=1e-4 * np.abs(expected).max())
    assert_one_line(run_script("visualize", "attribution", small_run, "--pictures", "b.png",
                               cwd=tmp_path), "b.png")


def test_pixels_of_one_value_are_hidden_in_random_order(monkeypatch):
    """A map that is the same everywhere is a random order, not one from the top down."""
    network = one_pixel(3, 4)
    network = network_of(network.model, np.random.default_rng(0).integers(0, 256, (6, 4, 6, 1)),
                         [0] * 6)
    monkeypatch.setattr(attribution, "METHODS", {
        "flat": lambda network, inputs, classes: np.zeros(inputs.shape, np.float32)})
    numbers = attribution.measure(network, 6)
    for kind in ("deletion", "insertion"):
        np.testing.assert_array_equal(
            *(numbers[f"{name}/{kind}"] for name in ("flat", "random order")))
