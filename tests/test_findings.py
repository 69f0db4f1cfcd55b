"""The tables of figures' numbers, by hand."""
import numpy as np
import pytest
from conftest import assert_one_line, run

NUMBERS = {
    # map 0 is active at 20 and 40 % of the places in the two classes, map 1 at 50 and 50 %
    "statistics": {"classes": np.array(["cat", "dog"]),
                   "relu1/active": np.array([[0.2, 0.5], [0.4, 0.5], [0.3, 0.5]]),
                   "relu1/dead": np.array([], int), "relu1/near_duplicates": np.zeros((1, 3))},
    "diagnose": {"norms": np.array([1.0, 2.0, 5.0]), "dead": np.array([1]),
                 "near_duplicates": np.zeros((0,))},
    "evolution": {"maps": np.array([7, 3]), "steps": np.array([0, 10, 1000]),
                  "image": np.array([[5, 5, 6], [4, 4, 4]])},
    "invariance": {"relu1/usual": np.array(2.0), "relu2/usual": np.array(4.0)} | {
        f"{kind}/{name}": values for kind, at in (
            ("shift", np.arange(-10, 11)), ("scale", np.geomspace(0.5, 2, 21)),
            ("rotation", np.arange(-180, 181, 10)))
        for name, values in (("amounts", at), ("probability", np.ones((len(at), 5))),
                             ("distances", np.stack([np.abs(at)[:, None] * np.ones(5)] * 2)))},
    # two groups of images, five trials of one random part
    "correspondence": {"layers": np.array(["relu1"]), "top": np.array([[0.1], [0.3]]),
                       "centre": np.array([[0.3], [0.5]]), "top, mixed": np.array([[0.5], [0.5]]),
                       "centre, mixed": np.array([[0.5], [0.5]]),
                       "random": np.array([[0.4]] * 5 + [[0.6]] * 5),
                       "random, mixed": np.full((10, 1), 0.7)}}
LINES = {
    "statistics": ["| relu1 | 2 | 40 (30 .. 50) | 0 | 1 | 1.5 | 2.0 | cat | dog |"],
    "diagnose": ["| 3 | 1 | 0 | 0.5 | 2.5 |"],
    "evolution": ["step, of 0, 10, 1,000 |", "| 7 | 1,000 |", "| 3 |  |"],
    "invariance": ["| shifted up and down, 4 px | 2.00 | 1.00 | 1.00 |",
                   "| larger and smaller, 2 times | 0.62 | 0.31 | 1.00 |",  # (2 + 0.5) / 2 of 2
                   "| rotated both ways, by 20 degrees | 10.00 | 5.00 | 1.00 |"],
    "correspondence": [  # fixed: 0.2 and 0.4 in the two groups
        "| relu1 | 0.300 +- 0.141 | 0.500 +- 0.141 | 0.500 +- 0.000 | 0.700 +- 0.000 |"]}


@pytest.mark.parametrize("name", NUMBERS)
def test_tables_by_hand(name, tmp_path):
    np.savez(tmp_path / name, **NUMBERS[name])
    status, out, err = run("visualize.py", "findings", tmp_path / f"{name}.npz")
    assert (status, err) == (0, "")
    for line in LINES[name]:
        assert line in out, out


def test_other_numbers_are_one_line(tmp_path):
    np.savez(tmp_path / "statistics", norms=np.ones(3))
    np.savez(tmp_path / "diagnose", other=np.ones(3))
    assert_one_line(run("visualize.py", "findings", tmp_path / "diagnose.npz"), "norms")
    assert_one_line(run("visualize.py", "findings", tmp_path / "statistics.npz"), "is not what")
    assert_one_line(run("visualize.py", "findings", tmp_path / "curves.npz"), "statistics.npz")
    assert_one_line(run("visualize.py", "findings", tmp_path / "evolution.npz"), "damaged")
