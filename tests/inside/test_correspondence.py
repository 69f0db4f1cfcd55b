"""The same part of images hidden, by hand."""
import numpy as np
import pytest
from small_networks import linear

from inside.correspondence import correspondence, sign_distance


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
