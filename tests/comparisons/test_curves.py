"""Curves of our runs, of studies and of logs that other tools wrote."""
import json
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest

from comparisons import curves, stored
from comparisons.curves import make, scalars
from comparisons.measures import smooth
from system.command_line import InputError, NotDrawn


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def series(losses, times=None):
    steps = np.arange(len(losses)) * 10
    return {("train", "batch/loss"): (steps, np.array(times or steps, float), losses)}


def scalar(*values, steps=None):
    steps = np.arange(len(values)) if steps is None else np.array(steps)
    return steps, np.zeros(len(values)), [np.float32(v) for v in values]


def plot(by="step", tags=None, per_epoch=None, **groups):
    """make(...) of {group: series of a seed, or a list of them}."""
    return make({name: [(own, per_epoch) for own in (seeds if isinstance(seeds, list) else [seeds])]
                 for name, seeds in groups.items()}, by, tags)


def drawn(figure):
    """{title of a panel: [what its lines show]}."""
    return {axis.get_title(): [line.get_ydata().tolist() for line in axis.lines]
            for axis in figure.axes}


def test_smooth_by_hand():
    np.testing.assert_allclose(smooth([0.0, 3, 6, 9], 3), [1.5, 3, 6, 7.5])
    np.testing.assert_allclose(smooth([1.0, 2], 0), [1, 2])
    np.testing.assert_allclose(smooth([1.0, 2], 9), [1, 1.5])  # no window is wider than the run


def test_curves_draw_the_numbers_they_save():
    figure, numbers = plot(a=[series([3.0, 2.0]), series([1.0, 4.0])], b=series([5.0, 5.0]))
    left, = figure.axes
    assert left.lines[0].get_ydata().tolist() == [2, 3]  # two seeds of one configuration
    assert [text.get_text() for text in left.get_legend().texts] == ["a (n = 2)", "b (n = 1)"]
    np.testing.assert_allclose(numbers["a/train/batch/loss"],
                               [[0, 2, np.sqrt(2)], [10, 3, np.sqrt(2)]])
    assert len(left.collections) == 1 and left.get_xlabel() == "step"
    figure, numbers = plot("time", b=series([5.0, 5.0], [0, 120]))
    assert numbers["b/train/batch/loss"][:, 0].tolist() == [0, 2]
    figure, numbers = plot("epoch", per_epoch=4, b=series([5.0, 5.0]))
    assert numbers["b/train/batch/loss"][:, 0].tolist() == [0, 2.5]
    assert figure.axes[0].get_xlabel() == "epoch"


def test_seeds_without_a_finite_loss_are_not_counted():
    """And each seed's running mean is as wide as 2 % of its own steps."""
    figure, numbers = plot(a=[series([3.0, 2.0]), series([np.nan, np.nan])])
    said = [text.get_text() for text in figure.axes[0].get_legend().texts]
    assert said == ["a (n = 1): not finite", "a (n = 1)"]
    assert numbers["a/train/batch/loss"][:, 1].tolist() == [3, 2]
    many, few = np.arange(200.0) % 2, np.arange(40.0)
    one = plot(a=[series(many), series(few)])[1]["a/train/batch/loss"]
    np.testing.assert_allclose(one, plot(a=[series(few), series(many)])[1]["a/train/batch/loss"])


def test_curves_of_a_network_that_is_never_wrong(recwarn):
    """The accuracy axis keeps a height, and nothing is warned of."""
    steps = np.arange(3)
    figure, _ = plot(a=series([3.0, 2.0]) | {
        ("test", "evaluation/accuracy"): (steps, steps, [1.0] * 3)})
    low, high = figure.axes[1].get_ylim()
    assert low == 99 and 100 < high < 101 and not list(recwarn)


def test_accuracies_in_a_panel_each():
    """Those of a row share their limits, which are of the lowest."""
    steps = np.arange(3)
    figure, numbers = curves.accuracies({name: [(series([3.0, 2.0]) | {
        (part, "evaluation/accuracy"): (steps, steps, [0.1, level, level])
        for part, level in (("train", 1.0), ("validation", last))}, None)]
        for name, last in (("a", 0.5), ("b", 0.75))})
    assert drawn(figure) == {"a, n = 1": [[10, 100, 100], [10, 50, 50]],
                             "b, n = 1": [[10, 100, 100], [10, 75, 75]]}
    assert [text.get_text() for text in figure.axes[1].get_legend().texts] == [
        "train", "validation"]
    assert {axis.get_ylim() for axis in figure.axes} == {(0, 100)}
    assert [*numbers["b/validation/evaluation/accuracy"][:, 1]] == [0.1, 0.75, 0.75]


def test_curves_of_events_that_others_wrote():
    """Keras's own tags, for one: what is named after a loss or an accuracy is drawn."""
    figure, numbers = plot(k={("train", "epoch_loss"): scalar(3, 2),
                              ("validation", "epoch_accuracy"): scalar(0.5, 0.75),
                              ("train", "note"): (np.zeros(1), None, [np.array(b"x")])})
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [3, 2]
    assert right.lines[0].get_ydata().tolist() == [50, 75] and len(numbers) == 2
    assert right.get_legend().texts[0].get_text() == "k, validation/epoch_accuracy"
    assert left.get_xlabel() == right.get_xlabel() == "epoch"


def test_every_scalar_of_others_is_drawn():
    """What is neither a loss nor an accuracy has a panel of its own; a pattern chooses."""
    own = {("", "Mean_20"): scalar(1, 2), ("", "layer1.w.std"): scalar(3, 4),
           ("a", "Mean_20"): scalar(5, 6), ("", "kernel"): (np.zeros(1), None, [np.zeros((2, 2))])}
    figure, numbers = plot(k=own)
    assert drawn(figure) == {"Mean_20": [[1, 2], [5, 6]], "layer1.w.std": [[3, 4]]}
    assert sorted(numbers) == ["k//Mean_20", "k//layer1.w.std", "k/a/Mean_20"]
    figure, numbers = plot(k=own, tags="Mean*")
    assert list(drawn(figure)) == ["Mean_20"] and len(numbers) == 2
    with pytest.raises(NotDrawn, match="k has no scalars.*loss"):
        plot(k=own, tags="loss")
    with pytest.raises(NotDrawn, match="j has no scalars"):
        plot(k=own, j={("", "x"): (np.zeros(1), None, [np.zeros(3)])})


@pytest.mark.parametrize("key, expected", [
    (("train", "epoch_loss"), ("loss", "epoch", "train")),
    (("validation", "evaluation_accuracy_vs_iterations"), ("accuracy", "step", "validation")),
    (("", "val_loss"), ("loss", "step", "validation")), (("", "trainAcc"), ("accuracy", "step",
                                                                           "train")),
    (("", "Loss/test"), ("loss", "step", "test")), (("", "lossless"), ("lossless", "step", "")),
    (("run_test", "train_loss"), ("loss", "step", "train")), (("", "VALLoss"), (
        "loss", "step", "validation")), (("eval", "loss"), ("loss", "step", "validation")),
    (("", "loss_scale"), ("loss_scale", "step", "")), (("test", "top1"), ("top1", "step", "test"))])
def test_names_say_what_a_scalar_is(key, expected):
    assert scalars({key: scalar(1.0)}) == {key: expected}


def test_epochs_and_steps_have_axes_of_their_own():
    figure, _ = plot(k={
        ("train", "epoch_accuracy"): scalar(0.25, 0.5),
        ("validation", "evaluation_accuracy_vs_iterations"): scalar(0.125, 0.75, steps=(0, 900))})
    assert [(axis.get_xlabel(), axis.lines[0].get_ydata().tolist()) for axis in figure.axes] == [
        ("step", [12.5, 75]), ("epoch", [25, 50])]


def test_accuracies_in_per_cent_stay():
    figure, _ = plot(k={("", "acc"): scalar(11.5, 94)}, j={("", "acc"): scalar(0.5, 1)})
    assert drawn(figure) == {"Accuracy": [[11.5, 94], [50, 100]]}


def test_what_is_not_finite_is_marked():
    figure, numbers = plot(k={("", "loss"): scalar(3, np.nan, 1, np.inf)})
    marks, line = figure.axes[0].lines
    assert marks.get_xdata().tolist() == [1, 3] and "not finite" in marks.get_label()
    assert line.get_xdata().tolist() == [0, 2] and line.get_ydata().tolist() == [3, 1]
    assert np.isfinite(numbers["k//loss"]).all()


def test_a_run_of_another_tool_beside_ours():
    figure, _ = plot(ours=series([3.0, 2.0]), theirs={("", "loss"): scalar(7, 6),
                                                      ("", "lr"): scalar(1, 1)})
    assert drawn(figure) == {"Loss, running mean over 2 % of the steps": [[3, 2], [7, 6]],
                             "lr": [[1, 1]]}


def test_seeds_are_averaged_as_far_as_all_reach():
    _, numbers = plot(a=[series([3.0, 2.0, 1.0]), series([1.0, 4.0])])
    assert numbers["a/train/batch/loss"][:, :2].tolist() == [[0, 2], [10, 3]]
    late = {("", "acc"): scalar(60, 80, steps=(1, 2))}  # and in per cent
    _, numbers = plot(a=[{("", "acc"): scalar(0.1, 0.2, 0.4)}, late])
    np.testing.assert_allclose(numbers["a//acc"][:, :2], [[1, 0.4], [2, 0.6]])
    ends = [{("", "acc"): scalar(value, steps=[step])} for value, step in ((0.5, 10), (0.7, 14))]
    np.testing.assert_allclose(plot(a=ends)[1]["a//acc"], [[12, 0.6, 0.2 / np.sqrt(2)]])
    with pytest.raises(NotDrawn, match="no steps of acc in common"):
        plot(a=[{("", "acc"): scalar(0.1)}, late])


def test_of_rows_by_epoch_and_time(monkeypatch):
    """A run of 20 steps, 4 an epoch, in 120 s; what diverged elsewhere has no series."""
    rows = [{"configuration": "a", "seed": 0, "steps": 20, "train_seconds": 120.0,
             "steps_per_epoch": 4.0, "own": series([5.0, 4.0, 3.0])},
            {"configuration": "b", "seed": 0, "own": {}}]
    monkeypatch.setattr(curves, "series_of", lambda row: row["own"])
    for by, x in (("step", [0, 10, 20]), ("epoch", [0, 2.5, 5]), ("time", [0, 1, 2])):
        _, numbers = make(curves.of_rows(rows, by), by)
        assert numbers["a/train/batch/loss"][:, 0].tolist() == x and len(numbers) == 1


def test_the_time_of_a_finished_run_has_no_pauses(tmp_path, monkeypatch):
    """20 steps in 120 s of training, though an hour lies between two events; else as it was."""
    events = series([5.0, 4.0, 3.0], times=[0, 10, 3610])
    monkeypatch.setattr(curves, "read_events", lambda folder: events)
    monkeypatch.setattr(curves, "row_of", lambda folder: {"steps": 20, "train_seconds": 120.0})
    for minutes in ([0, 1 / 6, 3610 / 60], [0, 1, 2]):
        _, numbers = make({"a": [curves.of_folder(tmp_path, "time")]}, "time")
        np.testing.assert_allclose(numbers["a/train/batch/loss"][:, 0], minutes)
        (tmp_path / "result.json").touch()


def test_all_curves_of_a_run_begin_with_its_first_event(tmp_path, monkeypatch):
    """The test's, at the end, too; what an earlier run left in the folder has a start of its own.
    """
    events = series([5.0, 4.0], times=[600, 720]) | {
        ("test", "evaluation/accuracy"): (np.array([10]), np.array([780.0]), [0.5]),
        ("earlier 1", "x"): (np.array([0, 1]), np.array([60.0, 120.0]), [1.0, 2.0])}
    monkeypatch.setattr(curves, "read_events", lambda folder: events)
    _, numbers = make({"a": [curves.of_folder(tmp_path, "time")]}, "time", "*")
    assert {name: [*points[:, 0]] for name, points in numbers.items()} == {
        "a/train/batch/loss": [0, 2], "a/test/evaluation/accuracy": [3], "a/earlier 1/x": [0, 1]}


@pytest.fixture
def two_studies(tmp_path, monkeypatch):
    """Studies s and t, each with a run of "a" that ends at another loss, 2 and 4; t has "b", too.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    for study, names, losses in (("s", "a", [3.0, 2.0]), ("t", "ab", [5.0, 4.0])):
        (tmp_path / f"studies/{study}.toml").write_text(
            'question = "?"\nscript = "x.py"\n' + "".join(
                f'[[configurations]]\nname = "{name}"\n' for name in names))
        stored.write(stored.load(study), [{"configuration": name, "seed": 0, "status": "diverged"}
                                          for name in names],
                     {f"{name}-seed0": series(losses) for name in names})
    return tmp_path


def last(numbers):
    return {name: points[-1, 1] for name, points in numbers.items()}


def test_studies_that_share_a_name_are_told_apart(two_studies):
    _, numbers = curves.draw(["s", "t"])
    assert last(numbers) == {"s: a/train/batch/loss": 2, "t: a/train/batch/loss": 4,
                             "b/train/batch/loss": 4}
    assert last(curves.draw(["s"])[1]) == {"a/train/batch/loss": 2}


def test_a_run_is_no_seed_of_a_study(two_studies, monkeypatch):
    run = two_studies / "logs" / "a-seed1"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"options": {"name": "a", "seed": 1}}))
    monkeypatch.setattr(curves, "read_events", lambda folder: series([9.0, 8.0]))
    figure, numbers = curves.draw(["s", run])
    assert last(numbers) == {"s: a/train/batch/loss": 2, "a/train/batch/loss": 8}
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["s: a", "a"]


def test_no_accuracies_are_no_figure():
    with pytest.raises(NotDrawn, match="no curves"):
        curves.accuracies({})


def test_what_diverged_elsewhere_has_no_time(monkeypatch, capsys):
    """Its curve is left out by a line, not drawn by steps; without any curve there is no figure."""
    rows = [{"configuration": "a", "seed": 0, "run": "a-seed0", "steps": 20,
             "own": series([5.0, np.nan])}]
    monkeypatch.setattr(curves, "series_of", lambda row: row["own"])
    assert len(make(curves.of_rows(rows), "step")[1]) == 1
    with pytest.raises(NotDrawn, match="no curves"):
        make(curves.of_rows(rows, "time"), "time")
    assert "a-seed0 is left out: it diverged" in capsys.readouterr().out


def test_studies_alone_are_drawn():
    """As of runs; of one whose runs kept no curves a line says so."""
    _, numbers = curves.draw(["recipes"])
    assert any(name.startswith("original-bn/") for name in numbers)
    with pytest.raises(NotDrawn, match="no curves"):
        curves.draw(["transfer"])


@pytest.mark.slow
def test_the_originals_own_logs(real_data, tmp_path):
    """TensorFlow 0.11 of 2016: every scalar is drawn, and nothing written where they lie."""
    for name in ("first", "testSum"):
        source = tmp_path / name
        shutil.copytree(real_data / "original-logs" / name, source)
        before = sorted(source.rglob("*"))
        _, numbers = curves.draw([source])
        assert sorted(source.rglob("*")) == before
        assert len(numbers) > 30 and any("Mean" in key for key in numbers)
        assert all(len(values) for values in numbers.values())
    with pytest.raises(NotDrawn, match="testSum has no scalars whose tag matches nothing"):
        curves.draw([source], tags="nothing")
    for bad, said in (([tmp_path / "none"], "no TensorBoard events"), (
            [source, tmp_path / "x" / "testSum"], "share a name, testSum")):
        with pytest.raises(InputError, match=said):
            curves.draw(bad)
    with pytest.raises(InputError, match="config.json"):
        curves.draw([source], "epoch")
