"""Gabor fits: known stripes are found, noise is not."""
import numpy as np
import pytest

from inside.gabor import derivatives, fit, gabor, principal, structure


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
@pytest.mark.parametrize("size, frequency", [(7, 0.2), (11, 0.12)])
def test_known_stripes_are_found(angle, size, frequency):
    kernel = gabor(size, size, 3, 0.4, -0.3, np.radians(angle), frequency, 1.0, size / 3, size / 4)
    result = fit(kernel)
    assert result["r2"] > 0.999
    assert abs((result["angle"] - angle + 90) % 180 - 90) < 1
    assert result["frequency"] == pytest.approx(frequency, abs=0.005)
    np.testing.assert_allclose(result["fitted"], kernel, atol=0.05)


def test_angle_is_that_of_the_stripes():
    """Horizontal stripes vary down the columns only; at 45 degrees they rise to the right."""
    horizontal = gabor(9, 9, 1, 0, 0, 0, 0.2, 0, 100, 100)
    assert np.ptp(horizontal, axis=1).max() < 0.02 and np.ptp(horizontal[:, 4]) > 1
    rising = gabor(9, 9, 1, 0, 0, np.pi / 4, 0.2, 0, 100, 100)
    assert rising[4, 4] == pytest.approx(rising[2, 6], abs=0.01)
    assert abs(rising[4, 4] - rising[6, 6]) > 0.5


def test_derivatives_are_those_of_the_function():
    p = np.array([1.1, 0.3, -0.2, 0.7, 0.2, 0.4, 1.3, 1.6])
    central = [(gabor(5, 6, *(p + d)) - gabor(5, 6, *(p - d))).ravel() / 2e-6
               for d in 1e-6 * np.eye(8)]
    np.testing.assert_allclose(derivatives(5, 6, *p), np.transpose(central), atol=1e-8)


@pytest.mark.slow
def test_structure_tells_edges_from_noise():
    rng = np.random.default_rng(1)
    edges = np.stack([gabor(7, 7, 1, 0, 0, a, 0.15, p, 3, 2) for a, p in
                      zip(rng.uniform(0, 3, 6), rng.uniform(0, 6, 6))], -1)[:, :, None]
    fits, chance, share = structure(edges + 0.05 * rng.normal(size=edges.shape), 12)
    assert share == 1 and np.mean([f["r2"] for f in fits]) > 0.95 and len(chance) == 12
    assert structure(rng.normal(size=(7, 7, 1, 6)), 12)[2] < 0.4


def test_colour_kernels_are_seen_along_their_main_direction():
    plane = gabor(5, 5, 1, 0, 0, 1, 0.2, 0, 2, 2)
    kernel = plane[..., None] * np.array([0.6, 0.8, 0.0])
    np.testing.assert_allclose(principal(kernel), plane, atol=1e-12)
    assert fit(np.zeros((5, 5)))["r2"] == 0
