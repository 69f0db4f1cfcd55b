"""Tables of what a figure of one network says, from its arrays: by hand."""
import numpy as np
import pytest

from comparisons import report
from system.command_line import InputError

NUMBERS = {
    # map 0 is active at 20 and 40 % of the places in the two classes, map 1 at 50 and 50 %, map 2
    # nowhere; of the second layer one map is silent in one class
    "statistics": {"classes": np.array(["cat", "dog"]),
                   "relu1/active": np.array([[0.2, 0.5, 0], [0.4, 0.5, 0], [0.3, 0.5, 0]]),
                   "relu2/active": np.array([[0.2], [0.0], [0.1]]),
                   "relu2/dead": np.array([], int),
                   "relu2/near_duplicates": np.zeros((0,)), "relu1/dead": np.array([2]),
                   "relu1/near_duplicates": np.zeros((1, 3))},
    "diagnosis": {"norms": np.array([1.0, 2.0, 5.0]), "dead": np.array([1]),
                 "near_duplicates": np.zeros((0,))},
    "evolution": {"maps": np.array([7, 3]), "steps": np.array([0, 10, 1000]),
                  "image": np.array([[5, 5, 6], [4, 4, 4]])},
    "invariance": {"relu1/usual": np.array(2.0), "relu2/usual": np.array(4.0)} | {
        f"{kind}/{name}": values for kind, at in (
            ("shift", np.arange(-10, 11)), ("scale", np.geomspace(0.5, 2, 21)),
            ("rotation", np.arange(-180, 181, 10)))
        for name, values in (("amounts", at), ("probability", np.ones((len(at), 5))),
                             ("distances", np.stack([np.abs(at)[:, None] * np.ones(5)] * 2)))},
    # two groups of images
    "correspondence": {"layers": np.array(["relu1"]), "top": np.array([[0.1], [0.3]]),
                       "centre": np.array([[0.3], [0.5]]), "top, mixed": np.array([[0.5], [0.5]]),
                       "centre, mixed": np.array([[0.5], [0.5]]),
                       "random": np.array([[0.4], [0.6]]), "random, mixed": np.full((2, 1), 0.7)},
    "occlusion": {"classes": np.array(["cat", "dog"]), "labels": np.array([1, 0]),
                  "untouched": np.array([0.9, 0.456]),
                  "predicted": np.array([[[1, 1], [0, 1]], [[0, 0], [0, 0]]])}}
LINES = {
    "statistics": ["| relu1 | 3 | 27 (0 .. 50) | 1 | 1 | 1.5 | 2.0 | cat | dog |",
                   "| relu2 | 1 | 10 (10 .. 10) | 0 | 0 | inf | inf | dog | cat |"],
    "diagnosis": ["| 3 | 1 | 0 | 0.5 | 2.5 |"],
    "evolution": ["| strongest image of | step 0 | step 10 | step 1,000 |", "|---|---|---|---|",
                  "| map 7 | 5 | 5 | 6 |", "| map 3 | 4 | 4 | 4 |"],
    "invariance": ["| shifted up and down, 4 px | 2.00 | 1.00 | 1.00 |",
                   "| larger and smaller, 2 times | 0.62 | 0.31 | 1.00 |",  # (2 + 0.5) / 2 of 2
                   "| rotated both ways, by 20 degrees | 10.00 | 5.00 | 1.00 |"],
    "occlusion": ["| class of the image | its probability, nothing hidden | another class the most "
                  "probable, of 4 positions of the square |", "|---|---|---|",
                  "| dog | 0.90 | 1 |", "| cat | 0.46 | 0 |"],
    "correspondence": [  # fixed: 0.2 and 0.4 in the two groups
        "| relu1 | 0.300 ± 0.141 | 0.500 ± 0.141 | 0.500 ± 0.000 | 0.700 ± 0.000 |".replace(
            " ± ", "\xa0±\xa0")]}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a figure's arrays and returns their table."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figures/best").mkdir(parents=True)

    def written(name, numbers):
        np.savez(tmp_path / f"figures/best/{name}.npz", **numbers)
        return report.of_figure(f"best/{name}").splitlines()
    return written


@pytest.mark.parametrize("name", NUMBERS)
def test_tables_by_hand(name, write):
    table = write(name, NUMBERS[name])
    assert [line for line in table if line in LINES[name]] == LINES[name], table
    if name in ("evolution", "occlusion"):
        assert table == LINES[name]


@pytest.mark.parametrize("name, wrong", [
    ("diagnosis", {"other": np.ones(3)}),
    ("diagnosis", NUMBERS["diagnosis"] | {"norms": np.zeros(3)}),
    ("statistics", {"classes": np.array(["cat"])}),
    ("statistics", NUMBERS["statistics"] | {"classes": np.array(["cat"])}),
    ("invariance", NUMBERS["invariance"] | {"shift/amounts": np.arange(30)[::-1]}),
    ("invariance", NUMBERS["invariance"] | {"shift/amounts": np.zeros(21)}),
    ("occlusion", NUMBERS["occlusion"] | {"classes": np.array(["cat"])}),
    ("correspondence", {"layers": np.array(["relu1"]), "random": np.zeros((2, 1))})])
def test_other_arrays_are_refused(name, wrong, write):
    with pytest.raises(InputError, match=f"{name}.npz has not the arrays of this figure; draw it"):
        write(name, wrong)


def test_what_is_no_figure_is_refused(write):
    for name, said in (("best/curves", "no figure curves"), ("best/pictures", "no figure pictures"),
                       ("best/occlusion", "best/occlusion.npz is not there")):
        with pytest.raises(InputError, match=said):
            report.of_figure(name)


def test_dense_units_that_are_never_used_are_counted(write):
    heading, _, row = write("diagnosis", NUMBERS["diagnosis"] | {
        "dense_units": np.array([1024]), "dense_unused": np.array([[3], [850], [41]]),
        "steps": np.array([0, 26, 2000])})
    assert heading.endswith("| dense units positive on none of all test images |")
    assert row == "| 3 | 1 | 0 | 0.5 | 2.5 | 41 of 1,024; at most 850, at step 26 |"
