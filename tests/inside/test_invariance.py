"""Shifted, scaled and rotated images, by hand."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
from small_networks import L, as_record, keras, linear, network_of

from inside.invariance import draw, invariance, table, transform
from system.command_line import NotDrawn


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


def test_one_test_image_is_compared_with_no_other():
    images = keras.Input((6, 6, 1))
    model = keras.Model(images, L.Dense(2)(L.Dense(4, activation="relu")(L.Flatten()(images))))
    with pytest.raises(NotDrawn, match="two test images"):
        draw(as_record(network_of(model, np.zeros((1, 6, 6, 1)), [0])))


def test_a_network_with_one_activation(quick_figures):
    """Keras's first tutorial has one hidden layer: it is drawn once, also where it is dead."""
    images = keras.Input((6, 6, 1))
    hidden = L.Dense(4, activation="relu", name="hidden")(L.Flatten()(images))
    model = keras.Model(images, L.Dense(2, name="logits")(hidden))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 1))
    for dead in (False, True):
        if dead:
            model.get_layer("hidden").set_weights([np.zeros((36, 4)), -np.ones(4)])
            model.get_layer("logits").set_weights([np.zeros((4, 2)), np.float32([1, 0])])
        figure, numbers = draw(as_record(network_of(model, pixels, np.arange(12) % 2)))
        assert numbers["shift/distances"].shape[0] == 1 and len({*numbers}) == 10
        labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
        assert labels == ["distance / that of\ntwo images", "probability"] * 3
        if not dead:
            assert len([*table(numbers)][0]) == 3
        plt.close(figure)
