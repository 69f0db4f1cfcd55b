"""What hiding a part of an image changes: occlusion and correspondence, by hand."""
import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from small_networks import L, as_record, linear, network_of

from inside.correspondence import correspondence, sign_distance
from inside.correspondence import draw as draw_correspondence
from inside.occlusion import draw, occlude, occlusion


def corner_detector():
    """A network whose first class is evidence in the top left 2x2 pixels, in map 1."""
    kernel = np.zeros((1, 1, 1, 2))
    kernel[0, 0, 0] = [0.1, 1.0]
    head = np.zeros((7, 9, 2, 2))
    head[:2, :2, 1, 0] = 1.0
    return linear(kernel, head=head.reshape(-1, 2))


def test_occlusion_finds_the_corner():
    model = corner_detector()
    result = occlusion(model, "conv", np.ones((1, 7, 9, 1), np.float32), [0], side=3)
    assert result["map"].tolist() == [1]
    assert (result["rows"].tolist() == list(range(7))
            and result["columns"].tolist() == list(range(9)))
    probability = result["probability"][0]
    lost = probability < probability.max() - 1e-6
    assert lost[:3, :3].all() and lost.sum() == 9  # where the square touches the corner
    # Centred at (0, 0) it hides the four pixels: the logits are equal. Total activation: 63 - 4.
    assert probability[0, 0] == pytest.approx(0.5)
    assert result["activation"][0, 0, 0] == pytest.approx(59)
    assert result["activation"][0, 3, 4] == pytest.approx(54)
    assert result["predicted"][0, 5, 5] == 0


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_chunk_size_has_no_influence(chunk):
    images = np.random.default_rng(0).normal(size=(2, 7, 9, 1)).astype(np.float32)
    whole = occlusion(corner_detector(), "conv", images, [0, 1], side=2, stride=2)
    parts = occlusion(corner_detector(), "conv", images, [0, 1], side=2, stride=2, chunk=chunk)
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-5)


@pytest.mark.parametrize("side, stride", [(1, 1), (3, 2), (4, 3), (2, 2), (5, 4)])
def test_every_pixel_is_covered(side, stride):
    image = np.zeros((1, 7, 10, 1), np.float32)
    rows, columns, hide = occlude(image, side, stride, 1.0)
    covered = hide(np.arange(len(rows) * len(columns))).sum(0)
    assert covered.min() > 0 and rows[-1] == 6 and columns[-1] == 9
    assert image.max() == 0  # the original is left alone


def test_delta_by_hand():
    """Signs (+ - 0), (+ + 0), (- - 0): the pairs differ in 1, 1 and 2 of three features."""
    differences = np.array([[1.0, -2, 0], [3, 4, 0], [-1, -1, 0]])
    assert sign_distance(differences) == pytest.approx(4 / 9)
    assert sign_distance(np.ones((4, 3))) == 0


def test_same_part_of_equal_images_is_alike():
    rng = np.random.default_rng(0)
    one = rng.uniform(0.5, 1, size=(1, 7, 9, 1)).astype(np.float32)
    model = linear(rng.normal(size=(3, 3, 1, 4)))
    fixed = [(slice(0, 3), slice(0, 3))] * 6
    anywhere = [(slice(r, r + 3), slice(c, c + 3))
                for r, c in zip(rng.integers(0, 5, 6), rng.integers(0, 7, 6))]
    same, different = correspondence(model, [model.get_layer("conv").output],
                                     np.repeat(one, 6, 0), [fixed, anywhere])
    assert same[0] == 0 and different[0] > 0.05


@pytest.mark.parametrize("size, square", [(12, 3), (16, 8), (40, 10)])
def test_a_network_without_a_deconvnet_is_drawn_without_projection(size, square):
    """By a square that is no more than half as wide as the image; the rest is as it would be."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((size, size, 1))
    maps = L.Conv2D(2, 3, padding="same", activation="elu")(pixels)
    model = keras.Model(pixels, L.Dense(2)(L.Flatten()(maps)))
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 1))
    figure, numbers = draw(as_record(network_of(model, images, [0, 1, 0, 1], std=255.0)))
    plt.close(figure)
    titles = [axis.get_title().replace("\n", " ") for axis in figure.axes]
    assert "is no ReLU" in titles[1] and titles.count("no projection") == 1  # of two rows
    assert f"a {square}x{square} grey square" in figure.get_suptitle()
    assert numbers["probability"].shape[1:] == (-(-size // -(-size // 32)) + (size == 40),) * 2


def test_images_one_pixel_high_lose_a_part(quick_figures):
    """Half of their width, not nothing: then all images would seem alike."""
    images = keras.Input((1, 8, 1))
    maps = L.Conv2D(2, (1, 3), padding="same", activation="relu", name="conv")(images)
    model = keras.Model(images, L.Dense(2, name="logits")(L.Flatten()(maps)))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 1))
    _, numbers = draw_correspondence(as_record(network_of(model, pixels, np.arange(8) % 2)))
    plt.close("all")
    assert max(np.max(x) for name, x in numbers.items() if name != "layers") > 0
