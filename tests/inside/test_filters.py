"""Kernels sorted by how edge-like they are."""
import functools
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest

from inside import filters, gabor


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_sorted_by_their_fit(channels, monkeypatch):
    monkeypatch.setattr(gabor, "edge_likeness", functools.partial(gabor.edge_likeness, shuffles=4))
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 5, channels, 9))
    kernel[..., 4] = np.sin(np.arange(5))[:, None, None]  # horizontal stripes
    series = np.array([0, 7]), None, [rng.normal(size=kernel.shape), kernel]
    figure, numbers = filters.draw(types.SimpleNamespace(name="r", series=lambda tag: series))
    assert numbers["order"][0] == 4 and numbers["r2"][4] > 0.99 and numbers["step"] == 7
    assert min(numbers["angle"][4], 180 - numbers["angle"][4]) < 2
    own = figure.subfigs[0].axes[0].images[0].get_array()
    assert own.shape == (2 * 7 - 2, 8 * 7 - 2, 3)
    assert "9 first-layer kernels" in figure.get_suptitle()
    plt.close(figure)


def test_moments_by_hand():
    """At most six evaluations, early ones closer together."""
    assert filters.moments(1).tolist() == [0] and filters.moments(3).tolist() == [0, 1, 2]
    assert filters.moments(32).tolist() == [0, 1, 3, 7, 15, 31]
