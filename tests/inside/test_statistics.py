"""How often feature maps are active, by hand."""
import numpy as np

from inside.statistics import Summary


def test_statistics_by_hand():
    activations = np.zeros((3, 2, 1, 2), np.float32)
    activations[0, :, 0, 0] = [1, 3]
    activations[1, 0, 0, 0] = -1
    result = Summary().add(activations[:2]).add(activations[2:]).statistics(np.array([0, 1, 1]))
    np.testing.assert_allclose(result["mean"][:, 0], [2, -0.25, 0.5])
    np.testing.assert_allclose(result["std"][0], [1, 0])
    np.testing.assert_allclose(result["max"][:, 0], [3, 0, 3])
    np.testing.assert_allclose(result["active"], [[1, 0], [0, 0], [1 / 3, 0]])


def test_near_duplicates():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 4, 4))
    stack = np.stack([a, b, 2 * a + 3, np.zeros_like(a), -a, a + 0.01 * b], -1)
    pairs = [(i, j) for i, j, _ in Summary().add(stack).near_duplicates()]
    assert pairs == [(0, 2), (0, 5), (2, 5)]  # neither the dead map nor the negative one
