"""Shifted, scaled and rotated images, by hand."""
import numpy as np
import pytest
from small_networks import linear

from inside.invariance import invariance, transform


def test_transform_by_hand():
    image = np.arange(20, dtype=np.float32).reshape(1, 5, 4, 1)
    np.testing.assert_allclose(transform(image, "shift", 1)[0, 1:], image[0, :-1])
    np.testing.assert_allclose(transform(image, "rotation", 180)[0], image[0, ::-1, ::-1],
                               atol=1e-4)
    for kind, nothing in (("shift", 0), ("scale", 1.0), ("rotation", 0)):
        np.testing.assert_allclose(transform(image, kind, nothing), image, atol=1e-5)
    blob = np.zeros((1, 9, 9, 1), np.float32)
    blob[0, 4, 2:7] = 1
    assert transform(blob, "scale", 0.5)[0, 4, :, 0].sum() == pytest.approx(2.5, abs=0.51)
    assert transform(blob, "scale", 1.5)[0, 4, :, 0].sum() > 6.5


def test_invariance_by_hand():
    """Distance of the features of a 1x1 kernel is that of the images."""
    images = np.abs(np.random.default_rng(0).normal(size=(3, 7, 9, 1))).astype(np.float32)
    model = linear(np.ones((1, 1, 1, 1)))
    distances, probability = invariance(
        model, [model.get_layer("conv").output], images, [0, 1, 0], "shift", [0, 2])
    assert distances.shape == (1, 2, 3) and probability.shape == (2, 3)
    np.testing.assert_allclose(distances[0, 0], 0, atol=1e-5)
    moved = transform(images, "shift", 2)
    np.testing.assert_allclose(distances[0, 1],
                               np.linalg.norm((images - moved).reshape(3, -1), axis=1), rtol=1e-5)
