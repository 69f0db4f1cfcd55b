"""Figures and tables from event files."""
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_one_line, run

import comparisons
import gabor
import runs
from charts import plot_curves, plot_filters, plot_over_time, read_events, scalars, smooth
from comparisons import (
    accuracy_after,
    instability,
    markdown,
    plot_heat,
    seconds_to,
    short_names,
    study,
    tabulate,
)
from runs import NotDrawn


def write_events(folder, **series):
    with tf.summary.create_file_writer(str(folder)).as_default():
        for tag, values in series.items():
            for step, value in enumerate(values):
                tf.summary.scalar(tag.replace("__", "/"), value, step=step)


def test_old_and_new_scalars_are_read_and_a_cut_file_gives_what_it_holds(tmp_path):
    write_events(tmp_path / "train", batch__loss=[3.0, 2.0, 1.0])
    with tf.io.TFRecordWriter(str(tmp_path / "events.out.tfevents.1.old")) as writer:
        for step in (5, 4):  # out of order, simple_value
            event = tf.compat.v1.Event(step=step, wall_time=100.0 + step)
            event.summary.value.add(tag="old", simple_value=step / 2)
            writer.write(event.SerializeToString())
    events = read_events(tmp_path)
    steps, seconds, values = events["", "old"]
    assert (steps.tolist() == [4, 5] and seconds.tolist() == [104, 105]
            and np.float64(values).tolist() == [2, 2.5])
    file, = (tmp_path / "train").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    assert np.float64(read_events(tmp_path)["train", "batch/loss"][2]).tolist() == [3, 2]


def test_smooth_by_hand():
    np.testing.assert_allclose(smooth([0.0, 3, 6, 9], 3), [1.5, 3, 6, 7.5])
    np.testing.assert_allclose(smooth([1.0, 2], 0), [1, 2])
    np.testing.assert_allclose(smooth([1.0, 2], 9), [1, 1.5])  # no window is wider than the run


def test_events_without_steps_count_in_their_order(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "events.out.tfevents.1.old")) as writer:
        for value in (3.0, 1.0, 2.0):
            event = tf.compat.v1.Event(wall_time=1.0)
            event.summary.value.add(tag="x", simple_value=value)
            writer.write(event.SerializeToString())
    steps, _, values = read_events(tmp_path)["", "x"]
    assert steps.tolist() == [0, 1, 2] and np.float64(values).tolist() == [3, 1, 2]


def series(losses, times=None):
    steps = np.arange(len(losses)) * 10
    return {("train", "batch/loss"): (steps, np.array(times or steps, float), losses)}


def test_curves_draw_the_numbers_they_save():
    runs = {"a-seed0": series([3.0, 2.0]), "a-seed1": series([1.0, 4.0]),
            "b-seed0": series([5.0, 5.0])}
    figure, numbers = plot_curves(runs)
    left, = figure.axes
    assert left.lines[0].get_ydata().tolist() == [2, 3]  # two seeds of one configuration
    assert [text.get_text() for text in left.get_legend().texts] == ["a (n = 2)", "b (n = 1)"]
    np.testing.assert_allclose(numbers["a/train/batch/loss"],
                               [[0, 2, np.sqrt(2)], [10, 3, np.sqrt(2)]])
    assert len(left.collections) == 1 and left.get_xlabel() == "step"
    figure, numbers = plot_curves({"b": series([5.0, 5.0], [100, 220])}, "time")
    assert numbers["b/train/batch/loss"][:, 0].tolist() == [0, 2]
    figure, numbers = plot_curves({"b": series([5.0, 5.0])}, "sample", {"b": 32})
    assert numbers["b/train/batch/loss"][:, 0].tolist() == [0, 320]
    assert figure.axes[0].get_xlabel() == "training images seen"


def test_curves_of_a_network_that_is_never_wrong(recwarn):
    """The accuracy axis keeps a height, and nothing is warned of."""
    steps = np.arange(3)
    perfect = series([3.0, 2.0]) | {("test", "evaluation/accuracy"): (steps, steps, [1.0] * 3)}
    figure, _ = plot_curves({"a-seed0": perfect})
    low, high = figure.axes[1].get_ylim()
    assert low == 99 and 100 < high < 101 and not list(recwarn)


def test_curves_of_events_that_others_wrote():
    """Keras's own tags, for one: what is named after a loss or an accuracy is drawn."""
    def points(*values):
        return np.arange(len(values)), np.zeros(len(values)), [np.float32(v) for v in values]
    figure, numbers = plot_curves({"k": {("train", "epoch_loss"): points(3, 2),
                                         ("validation", "epoch_accuracy"): points(0.5, 0.75),
                                         ("train", "note"): (np.zeros(1), None, [np.array(b"x")])}})
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [3, 2]
    assert right.lines[0].get_ydata().tolist() == [50, 75] and len(numbers) == 2
    assert right.get_legend().texts[0].get_text() == "k (n = 1), validation/epoch_accuracy"
    assert left.get_xlabel() == right.get_xlabel() == "epoch"


def scalar(*values, steps=None):
    steps = np.arange(len(values)) if steps is None else np.array(steps)
    return steps, np.zeros(len(values)), [np.float32(v) for v in values]


def drawn(figure):
    """{title of a panel: [what its lines show]}."""
    return {axis.get_title(): [line.get_ydata().tolist() for line in axis.lines]
            for axis in figure.axes}


def test_every_scalar_of_others_is_drawn():
    """What is neither a loss nor an accuracy has a panel of its own; a pattern chooses."""
    run = {("", "Mean_20"): scalar(1, 2), ("", "layer1.w.std"): scalar(3, 4),
           ("a", "Mean_20"): scalar(5, 6), ("", "kernel"): (np.zeros(1), None, [np.zeros((2, 2))])}
    figure, numbers = plot_curves({"k": run})
    assert drawn(figure) == {"Mean_20": [[1, 2], [5, 6]], "layer1.w.std": [[3, 4]]}
    assert sorted(numbers) == ["k//Mean_20", "k//layer1.w.std", "k/a/Mean_20"]
    figure, numbers = plot_curves({"k": run}, tags="Mean*")
    assert list(drawn(figure)) == ["Mean_20"] and len(numbers) == 2
    with pytest.raises(NotDrawn, match="k has no scalars.*loss"):
        plot_curves({"k": run}, tags="loss")
    with pytest.raises(NotDrawn, match="j has no scalars"):
        plot_curves({"k": run, "j": {("", "x"): (np.zeros(1), None, [np.zeros(3)])}})


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
    figure, _ = plot_curves({"k": {
        ("train", "epoch_accuracy"): scalar(0.25, 0.5),
        ("validation", "evaluation_accuracy_vs_iterations"): scalar(0.125, 0.75, steps=(0, 900))}})
    assert [(axis.get_xlabel(), axis.lines[0].get_ydata().tolist()) for axis in figure.axes] == [
        ("step", [12.5, 75]), ("epoch", [25, 50])]


def test_accuracies_in_per_cent_stay():
    figure, _ = plot_curves({"k": {("", "acc"): scalar(11.5, 94)},
                             "j": {("", "acc"): scalar(0.5, 1)}})
    assert drawn(figure) == {"Accuracy": [[11.5, 94], [50, 100]]}


def test_what_is_not_finite_is_marked():
    figure, numbers = plot_curves({"k": {("", "loss"): scalar(3, np.nan, 1, np.inf)}})
    marks, line = figure.axes[0].lines
    assert marks.get_xdata().tolist() == [1, 3] and "not finite" in marks.get_label()
    assert line.get_xdata().tolist() == [0, 2] and line.get_ydata().tolist() == [3, 1]
    assert np.isfinite(numbers["k//loss"]).all()


def test_a_run_of_another_tool_beside_ours():
    figure, numbers = plot_curves({"ours": series([3.0, 2.0]), "theirs": {
        ("", "loss"): scalar(7, 6), ("", "lr"): scalar(1, 1)}})
    assert drawn(figure) == {"Loss, running mean over 2 % of the steps": [[3, 2], [7, 6]],
                             "lr": [[1, 1]]}


def test_seeds_are_averaged_as_far_as_all_reach():
    figure, numbers = plot_curves({"a-seed0": series([3.0, 2.0, 1.0]),
                                   "a-seed1": series([1.0, 4.0])})
    assert numbers["a/train/batch/loss"][:, :2].tolist() == [[0, 2], [10, 3]]
    late = {("", "acc"): scalar(60, 80, steps=(1, 2))}  # and in per cent
    figure, numbers = plot_curves({"a-seed0": {("", "acc"): scalar(0.1, 0.2, 0.4)},
                                   "a-seed1": late})
    np.testing.assert_allclose(numbers["a//acc"][:, :2], [[1, 0.4], [2, 0.6]])
    with pytest.raises(NotDrawn, match="no steps of acc in common"):
        plot_curves({"a-seed0": {("", "acc"): scalar(0.1)}, "a-seed1": late})


def test_files_of_two_runs_in_one_folder_are_not_mixed(tmp_path):
    """What begins anew stands beside the earlier file; what goes on replaces what was lost."""
    for i, values in enumerate(([9.0, 8.0, 7.0], [3.0, 2.0])):
        write_events(tmp_path / "new", x=values)
        file, = (tmp_path / "new").iterdir()
        file.rename(tmp_path / f"events.out.tfevents.{i}")
    with tf.summary.create_file_writer(str(tmp_path / "new")).as_default():
        tf.summary.scalar("x", 5.0, step=1)
    file, = (tmp_path / "new").iterdir()
    file.rename(tmp_path / "events.out.tfevents.2")
    found = {key: (steps.tolist(), np.float64(values).tolist())
             for key, (steps, _, values) in read_events(tmp_path).items()}
    assert found == {("", "x"): ([0, 1], [3, 5]), ("earlier 1", "x"): ([0, 1, 2], [9, 8, 7])}


def test_the_originals_own_logs(real_data, tmp_path):
    """TensorFlow 0.11 of 2016: every scalar is drawn, and nothing written where they lie."""
    for name in ("first", "testSum"):
        source = tmp_path / name
        shutil.copytree(real_data / "original-logs" / name, source)
        before = sorted(source.rglob("*"))
        status, out, err = run("visualize.py", "curves", source, "--out", tmp_path / "f")
        assert status == 0 and not err and sorted(source.rglob("*")) == before
        with np.load(tmp_path / "f" / name / "curves.npz") as arrays:
            assert len(arrays.files) > 30 and any("Mean" in key for key in arrays.files)
            assert all(len(arrays[key]) for key in arrays.files)
    out = tmp_path / "g"
    assert_one_line(run("visualize.py", "curves", source, "--tags", "nothing", "--out", out),
                    "testSum", "nothing")
    assert not out.exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_sorted_by_their_fit(channels):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 5, channels, 9))
    kernel[..., 4] = np.sin(np.arange(5))[:, None, None]  # horizontal stripes
    figure, numbers = plot_filters({"r": {("train", "filters/kernel"): (
        np.array([0, 7]), None, [rng.normal(size=kernel.shape), kernel])}})
    assert numbers["order"][0] == 4 and numbers["r2"][4] > 0.99 and numbers["step"] == 7
    assert min(numbers["angle"][4], 180 - numbers["angle"][4]) < 2
    own = figure.subfigs[0].axes[0].images[0].get_array()
    assert own.shape == (2 * 7 - 2, 8 * 7 - 2, 3)
    assert "9 first-layer kernels" in figure.get_suptitle()


def test_table_by_hand(tmp_path):
    for seed, accuracy in enumerate((0.5, 0.6)):
        folder = tmp_path / f"a-seed{seed}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(
            {"options": {"name": "a", "seed": seed}, "total_steps": 1000, "data": {"title": "D"}}))
        (folder / "result.json").write_text(json.dumps(
            {"test_accuracy": accuracy, "test_accuracy_mirrored": 0.7, "train_seconds": 3}))
    _, _, row, _, data = tabulate(sorted(tmp_path.iterdir())).splitlines()
    # 0.0707 = 0.1 / sqrt 2
    assert row == "| a | 1,000 | 2 | 55.00 +- 7.07 | 70.00 +- 0.00 | 3 +- 0 |"
    assert data == "Data: D."
    assert "| 1 | 50.00 | 70.00 | 3 |" in tabulate([tmp_path / "a-seed0"])


def test_instability_by_hand():
    """A loss that falls smoothly is steady; one that alternates by a factor e is unsteady by 0.5.
    """
    steps = np.arange(1000)
    assert instability(steps, np.exp(-steps / 300)) < 0.01
    alternating = np.exp(-steps / 300 + 0.5 * (-1.0) ** steps)
    assert instability(steps, alternating) == pytest.approx(0.5, abs=0.02)
    # what happens outside the band is nothing: here the level is below 0.1 from step 690 on
    wild = np.where(steps > 760, np.exp(-steps / 300 + 9 * (-1.0) ** steps), alternating)
    assert instability(steps, wild) == pytest.approx(instability(steps, alternating))
    assert np.isnan(instability(steps, alternating + 9))  # never in the band
    assert np.isnan(instability(steps[::2], alternating[::2]))  # losses are missing


def test_heat_by_hand():
    """Two seeds a cell: one cell whole, one half diverged, one lost, one never run."""
    names = "optimizer", "rate", "status", "accuracy", "seed", "data"
    rows = [dict(zip(names, (*row, i % 2, "D"))) for i, row in enumerate((
        ("sgd", "0.1", "finished", "0.5"), ("sgd", "0.1", "finished", "0.7"),
        ("sgd", "1e-3", "finished", "0.4"), ("sgd", "1e-3", "diverged", ""),
        ("adam", "0.1", "diverged", ""), ("adam", "0.1", "diverged", "")))]
    figure, numbers = plot_heat(rows, ["optimizer"], "rate", "accuracy")
    assert numbers["optimizer"].tolist() == ["adam", "sgd"]
    assert numbers["rate"].tolist() == ["1e-3", "0.1"]
    np.testing.assert_allclose(numbers["mean"], [[np.nan, np.nan], [40, 60]])
    assert numbers["diverged"].tolist() == [[0, 2], [1, 0]]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert figure.get_suptitle() == "2 seeds, mean +- standard deviation of those that ended, " \
        "and each of them\nD"
    with pytest.raises(runs.InputError, match="more than optimizer and rate"):
        plot_heat(rows + rows[:1], ["optimizer"], "rate", "accuracy")
    assert sorted(texts) == ["2 of 2\nnot finite", "40.0\n1 of 2\nnot finite",
                             "60.0 +- 14.1\n50 70"]


def test_norms_over_time_share_their_scale():
    def series(factor, *more):
        steps = np.array([0, 5])
        return {("train", f"over_time/{kind}"): (steps, None, [np.array([0.0, 1.0]),
                                                               np.array([1.0, factor])])
                for kind in ("state", "gradient", *more)}
    small, large = series(0.1), series(100.0)
    alone, _ = plot_over_time({"small": small})
    shared, numbers = plot_over_time({"small": small}, [small, large])
    assert alone.axes[0].get_ylim() == pytest.approx((0.1 / 1.5, 1.5))
    assert shared.axes[1].get_ylim() == pytest.approx((0.1 / 1.5, 150))
    np.testing.assert_array_equal(numbers["state"], [[0, 1], [1, 0.1]])
    with_memory, _ = plot_over_time({"lstm": series(1e-3, "memory", "memory_gradient")}, [large])
    assert [axis.get_ylim()[0] < 1e-3 < 100 < axis.get_ylim()[1] for axis in with_memory.axes[:4]
            ] == [True] * 4 and "memory" in with_memory.axes[2].get_title()


def test_study_by_hand(tmp_path, monkeypatch):
    """One configuration, two seeds: a layer of gratings is more edge-like than noise."""
    logs, cache = tmp_path / "logs", tmp_path / "cache"
    monkeypatch.setattr(comparisons, "CACHE", cache)
    y, x = np.mgrid[:7, :7] - 3.0
    waves = np.stack([np.exp(-(x * x + y * y) / 8) * np.cos(x * np.cos(a) + y * np.sin(a))
                      for a in (0, 1, 2)], -1)[:, :, None].astype(np.float32)
    noise = np.random.default_rng(0).normal(size=(7, 7, 1, 3)).astype(np.float32)
    for name, kernel in (("waves", waves), ("noise", noise)):
        for seed in (0, 1):
            folder = logs / f"{name}-seed{seed}"
            with tf.summary.create_file_writer(str(folder / "train")).as_default():
                tf.summary.write("filters/kernel", kernel, step=1)
            (folder / "config.json").write_text(json.dumps(
                {"options": {"name": name, "seed": seed}, "total_steps": 9, "data": {"title": "D"},
                 "parameters": 1234}))
            (folder / "result.json").write_text(json.dumps(
                {"train_accuracy": 1.0, "test_accuracy": 0.5 + 0.1 * seed, "train_seconds": 3}))
    table, figure, numbers = study(sorted(logs.iterdir()))
    assert "| waves | 2 | 1,234 | 100.0 +- 0.0 | 55.0 +- 7.1 | 100 +- 0 |" in table
    waves, noise = numbers["waves/9/D"], numbers["noise/9/D"]
    assert waves[0, 3] == 100 and waves[0, 4] > 0.3 > noise[0, 4]
    assert len(figure.axes) == 3 and "D" in figure.get_suptitle()

    assert len(list(cache.rglob("output.pkl"))) == 2  # each kernel is fitted once
    monkeypatch.setattr(gabor, "fit", None)
    table, figure, again = study(sorted(logs.iterdir()), ["chance", "stripes"])
    np.testing.assert_array_equal(again["stripes/9/D"], numbers["waves/9/D"])
    assert "| stripes | 2 | 1,234 |" in table and "waves" not in table
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "chance (n = 2)", "stripes (n = 2)"]
    for names in (["one"], ["same", "same"]):
        with pytest.raises(runs.InputError, match="--names: these are 2 configurations"):
            study(sorted(logs.iterdir()), names)


def test_a_cache_of_fits_that_cannot_be_written_costs_time_only(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setattr(comparisons, "CACHE", tmp_path / "cache")
    assert comparisons._kept_edge_likeness() is gabor.edge_likeness


def test_seconds_to_by_hand():
    series = {("validation", "evaluation/accuracy"): (np.array([0, 10, 20]), None, [0.1, 0.9, 1.0]),
              ("result", "result/train_seconds"): (None, None, [40.0])}
    # half way between steps 10 and 20, 2 s a step
    assert seconds_to(series, 0.95) == pytest.approx(30)
    assert seconds_to(series, 0.05) == 0 and np.isnan(seconds_to(series, 1.1))


def test_accuracy_after_by_hand():
    """10 steps take 20 s; after 5 s half of the first 5 steps are done."""
    series = {("validation", "evaluation/accuracy"): (np.array([0, 5, 10]), None, [0.1, 0.9, 1.0]),
              ("result", "result/train_seconds"): (None, None, [20.0])}
    assert accuracy_after(series, 5) == pytest.approx(0.5)
    assert accuracy_after(series, 99) == 1.0


def test_names_without_what_all_share():
    options = {"rate": 0.1, "batch_norm": "after", "filters": [8, 16], "weight_decay": 0.5}
    names = ["best-batch-norm=after-rate=0.1-weight-decay=0.5",
             "best-filters=8,16-rate=0.1-weight-decay=0.5", "best-rate=0.1-weight-decay=0.5"]
    groups = {(name, 1, "D"): [(None, {"options": options}, {})] for name in names}
    assert short_names(groups) == (["best-batch-norm=after", "best-filters=8,16", "best"],
                                   ["rate=0.1", "weight-decay=0.5"])
    assert short_names({(names[0], 1, "D"): groups[names[0], 1, "D"]}) == (names[:1], [])
    table = markdown(["n"], [[1], [2], [3]], groups)
    assert "\n\nData: D. All runs: rate=0.1, weight-decay=0.5." in table


def test_command_line(tmp_path):
    write_events(tmp_path / "r" / "train", batch__loss=[3.0, 2.0])
    status, out, err = run("visualize.py", "curves", tmp_path / "r", "--out", tmp_path / "f")
    assert status == 0 and err == ""
    assert sorted(p.name for p in (tmp_path / "f" / "r").iterdir()) == [
        "curves.npz", "curves.png", "run.txt"]
    assert ("figures", "figures/curves") not in read_events(tmp_path / "r")  # it is no run of ours
    (tmp_path / "r" / "config.json").write_text("{}")
    assert run("visualize.py", "curves", tmp_path / "r", "--out", tmp_path / "f")[0] == 0
    assert ("figures", "figures/curves") in read_events(tmp_path / "r")  # shown in TensorBoard too
    (tmp_path / "r" / "config.json").unlink()
    write_events(tmp_path / "other" / "r" / "train", batch__loss=[9.0])
    before = (tmp_path / "f" / "r" / "curves.npz").read_bytes()
    assert_one_line(run("visualize.py", "curves", tmp_path / "other" / "r", "--out",
                        tmp_path / "f"), "another --out")
    assert (tmp_path / "f" / "r" / "curves.npz").read_bytes() == before
    assert_one_line(run("visualize.py", "curves", tmp_path / "r", tmp_path / "other" / "r"),
                    "share a name")
    assert_one_line(run("visualize.py", "filters", tmp_path / "r", "--out", tmp_path / "f"),
                    "filters/kernel")
    assert_one_line(run("visualize.py", "curves", tmp_path / "none"), "no TensorBoard events")
    assert_one_line(run("visualize.py", "table", tmp_path / "r"), "config.json is not there")
    assert_one_line(run("visualize.py", "heat", tmp_path / "r"), "results.csv")
    assert_one_line(run("visualize.py", "draw", tmp_path / "r"), "curves")
    assert_one_line(run("visualize.py", "deconv", tmp_path / "r", "--out", tmp_path / "g"),
                    "config.json")
    assert_one_line(run("visualize.py", "curves", tmp_path / "r", "--by", "sample"), "config.json")
    (tmp_path / "r" / "config.json").write_text("{}")
    assert_one_line(run("visualize.py", "curves", tmp_path / "r", "--by", "sample"), "no batch")
