"""First-layer kernels of several configurations, below each other."""
import numpy as np
import pytest

from comparisons import kernels
from system.command_line import NotDrawn


def row(name, seed):
    return {"configuration": name, "seed": seed, "status": "finished", "data": "D",
            "test_accuracy": 0.5, "train_seconds": 1}


def test_last_kernels_of_the_seed_asked_for(monkeypatch):
    rng = np.random.default_rng(0)
    found = {(name, seed): rng.normal(size=(size, size, channels, 3)) for name, size, channels in (
        ("a", 5, 1), ("b", 7, 3)) for seed in (0, 1)}
    monkeypatch.setattr(kernels, "series_of", lambda row: {("train", "filters/kernel"): (
        [0, 9], [0, 1], [np.zeros(3), found[row["configuration"], row["seed"]]])})
    rows = [row(*key) for key in found]
    figure, numbers = kernels.make(rows, seed=1)
    assert list(numbers) == ["a", "b"]
    for name in "ab":
        np.testing.assert_array_equal(numbers[name], found[name, 1])
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "a, test accuracy 50.0 %", "b, test accuracy 50.0 %"]
    assert "D" in figure.get_suptitle() and "seed 1" in figure.get_suptitle()
    with pytest.raises(NotDrawn, match="no run of seed 2"):
        kernels.make(rows, seed=2)


def test_colours_by_hand():
    """The largest value is 0 or 1, 0 is the middle grey."""
    np.testing.assert_allclose(kernels.picture(np.array([[[-2.0]], [[0.0]], [[1.0]]]))[:, 0, 0],
                               [0, 0.5, 0.75])
    assert kernels.picture(np.zeros((2, 2, 3))).tolist() == np.full((2, 2, 3), 0.5).tolist()
