"""The analyses of Zeiler & Fergus on networks small enough to know the answer."""
import keras
import numpy as np
import pytest

import analyses

L = keras.layers


def linear(kernel, size=(7, 9), head=None):
    """One convolution with `kernel` (k, k, 1, maps), ReLU and a dense layer of the maps' totals."""
    x = keras.Input((*size, 1))
    y = L.Conv2D(kernel.shape[3], kernel.shape[0], padding="same", use_bias=False,
                 activation="relu", name="conv")(x)
    z = L.Dense(2, use_bias=False, name="logits")(L.Flatten(name="flatten")(y))
    model = keras.Model(x, z)
    model.get_layer("conv").set_weights([kernel.astype(np.float32)])
    if head is not None:
        model.get_layer("logits").set_weights([head.astype(np.float32)])
    return model


def test_statistics_by_hand():
    activations = np.zeros((3, 2, 1, 2), np.float32)
    activations[0, :, 0, 0] = [1, 3]
    activations[1, 0, 0, 0] = -1
    result = analyses.activation_statistics(activations, np.array([0, 1, 1]), 2)
    np.testing.assert_allclose(result["mean"][:, 0], [2, -0.25, 0.5])
    np.testing.assert_allclose(result["std"][0], [1, 0])
    np.testing.assert_allclose(result["max"][:, 0], [3, 0, 3])
    np.testing.assert_allclose(result["active"], [[1, 0], [0, 0], [1 / 3, 0]])


def test_near_duplicates():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 4, 4))
    stack = np.stack([a, b, 2 * a + 3, np.zeros_like(a), -a, a + 0.01 * b], -1)
    pairs = [(i, j) for i, j, _ in analyses.near_duplicates(stack)]
    assert pairs == [(0, 2), (0, 5), (2, 5)]  # neither the dead map nor the negative one


def test_strongest_by_hand():
    activations = np.zeros((3, 2, 3, 2))
    activations[0, 1, 2, 0], activations[0, 0, 0, 0] = 5, 4  # an image counts once
    activations[2, 0, 1, 0], activations[1, 1, 1, 1] = 7, 1
    image, row, column, value = analyses.strongest(activations, 2)
    assert image[0].tolist() == [2, 0] and row[0].tolist() == [0, 1]
    assert column[0].tolist() == [1, 2] and value[0].tolist() == [7, 5]
    assert (image[1, 0], row[1, 0], column[1, 0], value[1, 0]) == (1, 1, 1, 1)


def test_strongest_patch_and_projection():
    """A kernel finds itself in noise: its patch is the planted one, the projection the kernel."""
    kernel = np.zeros((3, 3, 1, 1))
    kernel[..., 0, 0] = [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    images = 0.1 * np.random.default_rng(0).normal(size=(5, 7, 9, 1)).astype(np.float32)
    images[3, 2:5, 4:7, 0] = kernel[..., 0, 0]
    (image, row, column, value), patches, projections = analyses.project_strongest(
        linear(kernel), "conv", images, 2)
    assert (image[0, 0], row[0, 0], column[0, 0]) == (3, 3, 5)
    np.testing.assert_array_equal(patches[0][0], images[3, 2:5, 4:7])
    np.testing.assert_allclose(projections[0][0], value[0, 0] * kernel[..., 0], rtol=1e-5)


# ------------------------------------------------------------------------------------ occlusion

def corner_detector():
    """A network whose first class is evidence in the top left 2x2 pixels, in map 1."""
    kernel = np.zeros((1, 1, 1, 2))
    kernel[0, 0, 0] = [0.1, 1.0]
    head = np.zeros((7, 9, 2, 2))
    head[:2, :2, 1, 0] = 1.0
    return linear(kernel, head=head.reshape(-1, 2))


def test_occlusion_finds_the_corner():
    model = corner_detector()
    result = analyses.occlusion(model, "conv", np.ones((1, 7, 9, 1), np.float32), [0], side=3)
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
    whole = analyses.occlusion(corner_detector(), "conv", images, [0, 1], side=2, stride=2)
    parts = analyses.occlusion(corner_detector(), "conv", images, [0, 1], side=2, stride=2,
                               chunk=chunk)
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-5)


@pytest.mark.parametrize("side, stride", [(1, 1), (3, 2), (4, 3), (2, 2), (5, 4)])
def test_every_pixel_is_covered(side, stride):
    image = np.zeros((1, 7, 10, 1), np.float32)
    rows, columns, positions = analyses.occlude(image, side, stride, 1.0)
    covered = sum(hidden for *_, hidden in positions)
    assert covered.min() > 0 and rows[-1] == 6 and columns[-1] == 9
    assert image.max() == 0  # the original is left alone


# ----------------------------------------------------------------------------------- invariance

def test_transform_by_hand():
    image = np.arange(20, dtype=np.float32).reshape(1, 5, 4, 1)
    np.testing.assert_allclose(analyses.transform(image, "shift", 1)[0, 1:], image[0, :-1])
    np.testing.assert_allclose(analyses.transform(image, "rotation", 180)[0], image[0, ::-1, ::-1],
                               atol=1e-4)
    for kind, nothing in (("shift", 0), ("scale", 1.0), ("rotation", 0)):
        np.testing.assert_allclose(analyses.transform(image, kind, nothing), image, atol=1e-5)
    blob = np.zeros((1, 9, 9, 1), np.float32)
    blob[0, 4, 2:7] = 1
    assert analyses.transform(blob, "scale", 0.5)[0, 4, :, 0].sum() == pytest.approx(2.5, abs=0.51)
    assert analyses.transform(blob, "scale", 1.5)[0, 4, :, 0].sum() > 6.5


def test_invariance_by_hand():
    """Distance of the features of a 1x1 kernel is that of the images."""
    images = np.abs(np.random.default_rng(0).normal(size=(3, 7, 9, 1))).astype(np.float32)
    model = linear(np.ones((1, 1, 1, 1)))
    distances, probability = analyses.invariance(
        model, [model.get_layer("conv").output], images, [0, 1, 0], "shift", [0, 2])
    assert distances.shape == (1, 2, 3) and probability.shape == (2, 3)
    np.testing.assert_allclose(distances[0, 0], 0, atol=1e-5)
    moved = analyses.transform(images, "shift", 2)
    np.testing.assert_allclose(distances[0, 1],
                               np.linalg.norm((images - moved).reshape(3, -1), axis=1), rtol=1e-5)


# ------------------------------------------------------------------------------- correspondence

def test_delta_by_hand():
    """Signs (+ - 0), (+ + 0), (- - 0): the pairs differ in 1, 1 and 2 of three features."""
    differences = np.array([[1.0, -2, 0], [3, 4, 0], [-1, -1, 0]])
    assert analyses.sign_distance(differences) == pytest.approx(4 / 9)
    assert analyses.sign_distance(np.ones((4, 3))) == 0


def test_same_part_of_equal_images_is_alike():
    rng = np.random.default_rng(0)
    one = rng.uniform(0.5, 1, size=(1, 7, 9, 1)).astype(np.float32)
    model = linear(rng.normal(size=(3, 3, 1, 4)))
    fixed = [(slice(0, 3), slice(0, 3))] * 6
    anywhere = [(slice(r, r + 3), slice(c, c + 3)) for r, c in zip(rng.integers(0, 5, 6),
                                                                  rng.integers(0, 7, 6))]
    same, different = analyses.correspondence(model, [model.get_layer("conv").output],
                                              np.repeat(one, 6, 0), [fixed, anywhere])
    assert same[0] == 0 and different[0] > 0.05
