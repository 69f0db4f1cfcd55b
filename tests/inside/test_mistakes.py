"""Confusion, intervals, calibration and the worst mistakes, by hand and against other ways."""
import csv
import re
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import change_weights, run_script
from scipy import optimize
from small_networks import as_record, network_of, one_hot

from inside import mistakes
from inside.mistakes import draw, draw_together
from inside.scores import confusion, measure, reliability, wilson
from sources.images import Images
from system.command_line import InputError
from system.files import load_arrays, read_json


def by_hand(*answers, classes=3, names=None):
    """A record of test images [(label, logits)]; the network's logits are the pixels."""
    images = np.array([logits for _, logits in answers])[:, None, :, None]
    return as_record(network_of(one_hot(classes), images, [label for label, _ in answers], names,
                                std=1 / 255))  # a pixel of 3 is a logit of 3


FIVE = [(0, (9, 0, 0)), (0, (0, 3, 0)), (1, (0, 5, 0)), (2, (7, 0, 0)), (2, (0, 1, 0))]


@pytest.mark.parametrize("right, count, low, high", [
    (8, 10, 0.4902, 0.9433), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662)])
def test_wilson_by_known_values(right, count, low, high):
    """The last is the example of Newcombe (1998)."""
    assert wilson(right, count) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_none_right_begins_at_nought():
    assert all(str(float(wilson(0, count)[0])) == "0.0" for count in range(1, 100))


@pytest.mark.parametrize("right, count", [(3, 7), (50, 51), (999, 1000)])
def test_wilson_is_where_the_normal_test_rejects(right, count):
    """Its ends are the shares p that lie 1.96 of their own deviations from the one observed."""
    def off(p):
        return abs(right / count - p) / np.sqrt(p * (1 - p) / count) - 1.959964
    low, high = wilson(right, count)
    assert low == pytest.approx(optimize.brentq(off, 1e-9, right / count - 1e-9), rel=1e-5)
    assert high == pytest.approx(optimize.brentq(off, right / count + 1e-9, 1 - 1e-9), rel=1e-5)


def test_confusion_by_hand():
    """Rows are true classes; a class that no image is of, or is taken for, has its zeros."""
    found = confusion(np.int32([0, 0, 2, 2, 2]), np.array([0, 1, 1, 1, 2]), 4)
    assert found.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0]]


def test_calibration_error_by_hand():
    """Three bins of a third: of two images at 0.5 one is right, three of 0.9 are, one of 1 not."""
    confidence = np.array([0.5, 0.5, 0.9, 0.9, 0.9, 1.0])
    right = np.array([True, False, True, True, True, False])
    count, said, true, error = reliability(confidence, right, bins=3)
    assert count.tolist() == [0, 2, 4]
    np.testing.assert_allclose(said, [0, 0.5, 0.925])
    np.testing.assert_allclose(true, [0, 0.5, 0.75])
    assert error == pytest.approx(4 / 6 * 0.175)


def test_bins_hold_their_upper_end():
    """As in Guo et al.: ((m - 1) / M, m / M]; no confidence falls outside of all."""
    count, *_ = reliability(np.array([0.0, 0.5, 0.5001, 1.0]), np.ones(4, bool), bins=2)
    assert count.tolist() == [2, 2]


def test_calibrated_confidence_has_no_error():
    """Images that are right as often as they say; and all at 1 though a tenth is right: 0.9."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 1, 200_000)
    assert reliability(p, rng.random(len(p)) < p)[3] < 0.01
    assert reliability(np.ones(10), np.arange(10) == 0)[3] == pytest.approx(0.9)


def test_measure_by_hand():
    """The most confident mistake first: 7 against 0, then 3, then 1."""
    numbers = measure(by_hand(*FIVE).network)
    assert numbers["confusion"].tolist() == [[1, 1, 0], [0, 1, 0], [1, 1, 0]]
    assert numbers["wrong"].tolist() == [3, 1, 4]
    assert numbers["predicted"].tolist() == [0, 1, 1, 0, 1]
    np.testing.assert_allclose(numbers["confidence"], [1 / (1 + 2 * np.exp(-x)) for x in (
        9, 3, 5, 7, 1)], rtol=1e-5)


def test_table_and_sheet_by_hand():
    """A class without test images has no row, and its column."""
    numbers = dict(classes=np.array(["a", "b", "c"]),
                   confusion=np.array([[8, 2, 0], [0, 0, 0], [3, 4, 3]]))
    assert [*mistakes.table(numbers)] == [
        ("class", "test images", "accuracy", "low", "high", "most often taken for", "how often"),
        ("a", 10, "80.0", "49.0", "94.3", "b", 2), ("c", 10, "30.0", "10.8", "60.3", "b", 4)]
    header, *rows = mistakes.sheet(numbers)
    assert header[7:] == ("taken for a", "taken for b", "taken for c")
    assert [row[7:] for row in rows] == [(8, 2, 0), (3, 4, 3)]
    assert [float(row[2]) for row in rows] == [0.8, 0.3]


def test_table_and_sheet_of_several_by_hand():
    """Means over networks: accuracies of 80 and 60 % deviate by 14.1 points, and no interval of a
    single network's is given. The counts of a row keep their sum."""
    numbers = dict(classes=np.array(["a", "b", "c"]), confusion=np.array(
        [[[8, 2, 0], [0, 0, 0], [0, 0, 3]], [[6, 1, 3], [0, 0, 0], [0, 0, 3]]]))
    assert [*mistakes.table(numbers)] == [
        ("class", "test images", "mean accuracy", "standard deviation", "most often taken for",
         "how often"),
        ("a", 10, "70.0", "14.1", "b", "1.5"), ("c", 3, "100.0", "0.0", "", "0.0")]
    header, *rows = mistakes.sheet(numbers)
    assert header[5:] == ("how often", "taken for a", "taken for b", "taken for c")
    assert [row[6:] for row in rows] == [(7, 1.5, 1.5), (0, 0, 3)]
    assert float(rows[0][3]) == pytest.approx(np.sqrt(0.02)) and float(rows[0][2]) == 0.7


def test_several_runs_by_hand(quick_figures, monkeypatch):
    """The matrices of two networks side by side, and the mean of their calibration errors; where
    they disagree, the mean of their probabilities follows the surer one: 4 of 5, not 2 or 3."""
    monkeypatch.setattr(Images, "checksum", "one")  # here what a network answers is in its images
    other = [(0, (9, 0, 0)), (0, (5, 0, 0)), (1, (0, 0, 4)), (2, (7, 0, 0)), (2, (0, 0, 2))]
    records = [by_hand(*FIVE), by_hand(*other)]
    figure, numbers = draw_together(records)
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, [[75, 25, 0], [0, 50, 50], [50, 25, 25]])
    assert numbers["confusion"].tolist() == [[[1, 1, 0], [0, 1, 0], [1, 1, 0]],
                                             [[2, 0, 0], [0, 0, 1], [1, 0, 1]]]
    np.testing.assert_allclose(numbers["calibration_error"],
                               [measure(r.network)["calibration_error"] for r in records])
    assert numbers["ensemble_accuracy"] == 0.8
    assert "accuracy 50.00 % on average, 80.00 % by the mean" in figure.get_suptitle()
    plt.close(figure)


def accuracies_of(axis):
    """{class: its accuracy} as an axis of accuracies shows them."""
    line = axis.containers[0].lines[0]
    return dict(zip([t.get_text() for t in axis.get_yticklabels()],
                    np.round(line.get_xdata(), 6).tolist()))


@pytest.mark.parametrize("runs", [1, 2])
def test_a_class_without_test_images_has_no_accuracy(runs, quick_figures):
    """It is not shown as if all of its images were mistaken."""
    record = by_hand(*(answer for answer in FIVE if answer[0] != 1))
    figure, numbers = draw(record) if runs == 1 else draw_together([record, record])
    assert accuracies_of(figure.axes[1]) == {"class 2": 0.0, "class 0": 50.0}
    assert np.all(numbers["confusion"][..., 1, :] == 0)
    plt.close(figure)


def test_other_classes_are_refused():
    with pytest.raises(InputError, match="other classes than made"):
        draw_together([by_hand(*FIVE), by_hand(*FIVE, names=["a", "b", "c"])])


def test_no_mistakes_are_drawn(quick_figures):
    """All right: no picture of a mistake, and none of the classes is taken for another."""
    figure, numbers = draw(by_hand(FIVE[0], FIVE[2], (2, (0, 0, 4))))
    assert not len(numbers["wrong"]) and "0 mistakes on 3 test images" in figure.get_suptitle()
    assert [row[5:] for row in [*mistakes.table(numbers)][1:]] == [("", 0)] * 3
    plt.close(figure)


@pytest.mark.slow
def test_many_classes_have_no_numbers(quick_figures):
    """200 classes: colours alone, every fifth named, the 30 worst and best."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 200
    images = rng.integers(0, 3, (400, 1, 200, 1)) + 4 * (
        np.arange(200) == labels[:, None])[:, None, :, None] * (rng.random((400, 1, 1, 1)) < 0.5)
    record = as_record(network_of(one_hot(200), images, labels, std=1 / 255))
    figure, numbers = draw(record)
    left, right = figure.axes[:2]
    assert not left.texts and len(left.get_xticks()) == 40
    shown = accuracies_of(right)
    assert len(shown) == 30 and "30 worst and best of 200" in right.get_title()
    shares = np.sort(numbers["confusion"].diagonal()) / 2
    assert [*shown.values()] == [*(100 * shares[:15]), *(100 * shares[-15:])]
    plt.close(figure)


@pytest.fixture(scope="module")
def two_runs(recurrent_run, tmp_path_factory):
    """A run, and another whose network answers "3" to everything; and the folder of both."""
    folder = tmp_path_factory.mktemp("runs")
    run, other = (shutil.copytree(recurrent_run, folder / name)
                  for name in ("r-seed0", "other-seed0"))
    change_weights(other, lambda path, x: 99.0 * (np.arange(10) == 3) if path == "logits/bias"
                   else x)
    return folder, run, other


@pytest.mark.slow
def test_the_sheet_adds_up_to_the_result(two_runs, recurrent_run, quick_figures):
    """The CSV parses back; its accuracies, weighted, are result.json's; and the best and the worst
    are those that the run's last lines name."""
    folder, run, _ = two_runs
    status, out, err = run_script("visualize", "mistakes", run, "--out", "f", cwd=folder)
    assert (status, err) == (0, "") and "wrote f/r-seed0/mistakes.csv" in out
    with open(folder / "f" / "r-seed0" / "mistakes.csv", newline="") as stream:
        rows = [*csv.DictReader(stream)]
    assert [row["class"] for row in rows] == [*"0123456789"]
    right = sum(float(row["accuracy"]) * int(row["test images"]) for row in rows)
    result = read_json(run / "result.json")
    assert right / 360 == pytest.approx(result["test_accuracy"], abs=1e-9)
    said = re.search("class    best (.), ([0-9.]+) %; worst (.), ([0-9.]+) %\n",
                     (recurrent_run.parents[2] / "r.txt").read_text()).groups()
    for name, shown, choose in ((*said[:2], max), (*said[2:], min)):
        every = {row["class"]: float(row["accuracy"]) for row in rows}
        assert every[name] == choose(every.values()) and shown == f"{100 * every[name]:.1f}"
    counts = np.array([[int(row[f"taken for {c}"]) for c in "0123456789"] for row in rows])
    np.testing.assert_array_equal(counts, load_arrays(folder / "f/r-seed0/mistakes.npz")[
        "confusion"])
    assert counts.sum(1).tolist() == [int(row["test images"]) for row in rows]
    for row, own in zip(rows, counts):
        assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"])
        own[int(row["class"])] = 0
        assert int(row["how often"]) == own.max() == own[int(row["most often taken for"])]


@pytest.mark.slow
def test_several_runs_are_drawn_together(two_runs, quick_figures):
    """Into figures/compared, not into the folder of one of them."""
    folder, *runs = two_runs
    status, out, err = run_script("visualize", "mistakes", *runs, "--out", "g", cwd=folder)
    assert (status, err) == (0, "") and "wrote g/compared/mistakes.png" in out
    assert [p.name for p in (folder / "g").iterdir()] == ["compared"]
    with open(folder / "g/compared/mistakes.csv", newline="") as stream:
        rows = [*csv.DictReader(stream)]
    one, other = load_arrays(folder / "g/compared/mistakes.npz")["confusion"]
    assert np.trace(one) / 360 == pytest.approx(
        read_json(runs[0] / "result.json")["test_accuracy"], abs=1e-9)
    assert other[:, 3].tolist() == other.sum(1).tolist() == one.sum(1).tolist()
    for row, counts in zip(rows, (one + other) / 2, strict=True):
        assert [float(row[f"taken for {c}"]) for c in "0123456789"] == counts.tolist()
        assert float(row["mean accuracy"]) == pytest.approx(
            counts[int(row["class"])] / int(row["test images"]))
