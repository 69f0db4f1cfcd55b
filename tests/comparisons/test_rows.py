"""From runs' folders to rows, and from rows to tables, dots, heat maps and transfers: by hand."""
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from comparisons import dots, heat, measures, stored, table, transfer
from comparisons.measures import instability, measures_of, rows_of, seconds_to
from system.command_line import InputError


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def write_run(folder, seed, result, name="a", data="D", **options):
    """A finished run's folder without events."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(
        {"options": {"name": name, "seed": seed, "batch_size": 10, **options}, "total_steps": 1000,
         "data": {"title": data, "train": 50}, "parameters": 1234,
         "versions": {"tensorflow": "2"}}))
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_fits_of_runs_say_how_far_they_are(tmp_path, monkeypatch, progress_at_once, capsys):
    runs = [write_run(tmp_path / f"a-seed{seed}", seed, {"test_accuracy": 0.5, "train_seconds": 3})
            for seed in range(3)]
    monkeypatch.setattr(measures, "series_of", lambda row: {
        ("train", "filters/kernel"): ([0], None, [row["seed"]])})
    monkeypatch.setattr(measures, "kernel_measures", lambda kernel: {"structured": kernel / 4})
    monkeypatch.setattr(measures.machine, "cores", lambda: 1)
    assert [row["structured"] for row in rows_of(runs, fits=True)] == [0, 0.25, 0.5]
    assert "Gabor fits:  67%" in capsys.readouterr().err


def test_seeds_that_stopped_early_are_one_group(tmp_path):
    """The table says from how few to how many steps they took, not how many were planned."""
    for seed, steps in enumerate((300, 200, 250)):
        write_run(tmp_path / f"a-seed{seed}", seed, {
            "test_accuracy": 0.5, "train_seconds": 3, "steps_taken": steps}, early_stopping=3)
    *_, row, _, _ = table.table(sorted(tmp_path.iterdir()), "steps,seeds").splitlines()
    assert row == "| a | 200 .. 300 | 3 |"
    assert "| a | 200 | 1 |" in table.table([tmp_path / "a-seed1"], "steps,seeds")


def test_table_by_hand(tmp_path):
    for seed, accuracy in enumerate((0.5, 0.6)):
        write_run(tmp_path / f"a-seed{seed}", seed, {
            "test_accuracy": accuracy, "test_accuracy_flipped": 0.7, "train_seconds": 3})
    heading, _, row, _, data = table.table(sorted(tmp_path.iterdir())).splitlines()
    assert heading == ("| run | steps | seeds | test accuracy (%) "
                       "| averaged with horizontal flip (%) "
                       "| time (s) |")
    # 0.0707 = 0.1 / sqrt 2
    assert row == "| a | 1,000 | 2 | 55.00\xa0±\xa07.07 | 70.00\xa0±\xa00.00 | 3\xa0±\xa00 |"
    assert data == "Data: D."
    assert "| 1 | 50.00 | 70.00 | 3 |" in table.table([tmp_path / "a-seed0"])
    text = table.table(sorted(tmp_path.iterdir()), "seeds,test_accuracy:0,parameters")
    assert "| run | seeds | test accuracy (%) | weights |" in text
    assert "| a | 2 | 55\xa0±\xa07 | 1,234 |" in text
    for wrong in "accuracies", "steps:²", "steps:" + "9" * 5000:
        with pytest.raises(InputError, match=f"no column '{wrong}'.*speed"):
            table.table([tmp_path / "a-seed0"], wrong)
    with pytest.raises(InputError, match="seed 0 of a is there twice"):
        table.table([tmp_path / "a-seed0"] * 2)
    with pytest.raises(InputError, match="config.json is not there"):
        table.table([tmp_path])


@pytest.mark.parametrize("file, part, value", [
    ("result.json", "test_accuracy", "good"), ("result.json", "train_seconds", 10 ** 400),
    ("result.json", "images_per_second", 0), ("config.json", "total_steps", "/"),
    ("config.json", "data", {"title": None, "train": 50}), ("config.json", "options", [])])
def test_what_is_no_runs_is_refused(tmp_path, file, part, value):
    run = write_run(tmp_path / "a-seed0", 0, {"test_accuracy": 0.5, "train_seconds": 3})
    content = json.loads((run / file).read_text()) | {part: value}
    (run / file).write_text(json.dumps(content))
    with pytest.raises(InputError, match="result.json is no run's"):
        table.table([run])


@pytest.mark.parametrize("rows, said", [
    ("status,test_accuracy,data\nfinished,0.5,D", "has no seed"),
    ("seed,status\n0,finished", "has no data"), ("seed,test_accuracy\n0,much", "much")])
def test_a_csv_that_lacks_what_tables_need_is_refused(tmp_path, rows, said):
    (tmp_path / "a.csv").write_text(rows)
    with pytest.raises(InputError, match=said):
        table.table([tmp_path / "a.csv"])


@pytest.mark.parametrize("names", [["svm/a/1", "svm/b/2"], ["svm"], ["svm/a/few"], []])
def test_accuracies_that_are_no_transfers_are_refused(names):
    row = {"configuration": "a", "seed": 0} | {f"test_accuracy/{name}": 0.5 for name in names}
    with pytest.raises(InputError, match="a is no run of transfer.py"):
        transfer.make_table([row])


def test_data_that_differ_are_named_by_rows(tmp_path):
    folders = [write_run(tmp_path / f"{data.lower()}-seed0", 0, {
        "test_accuracy": 0.5, "train_seconds": 1}, name=data.lower(), data=data[0])
        for data in ("D", "E", "D2")]
    text = table.table(folders)
    assert "| d | 1,000 | 1 | 50.00 | 1 |" in text
    assert text.endswith("\n\nData: D, rows 1, 3; E, row 2.")


def test_names_without_what_all_share():
    options = {"rate": "0.1", "batch_norm": "after", "filters": "8,16", "weight_decay": "0.5"}
    names = ["best, batch-norm=after, rate=0.1, weight-decay=0.5",
             "best, filters=8,16, rate=0.1, weight-decay=0.5", "best, rate=0.1, weight-decay=0.5"]
    rows = [{"configuration": name, "seed": 0, "data": "D", "steps": 1, "status": "finished",
             "test_accuracy": 0.5, "train_seconds": 1.0} | options for name in names]
    text = table.make(rows)
    assert [line.split(" | ")[0] for line in text.splitlines()[2:5]] == [
        "| best, batch-norm=after", "| best, filters=8,16", "| best"]
    assert "\n\nData: D. All runs: rate=0.1, weight-decay=0.5." in text


def test_what_not_all_seeds_have(tmp_path):
    """A number that one seed lacks is left out; an accuracy never reached is said."""
    rows = [{"configuration": "a", "seed": seed, "steps": 1, "data": "D", "status": "finished",
             "test_accuracy": 0.5, "train_seconds": 1.0} for seed in (0, 1)]
    rows[0] |= {"seconds_to_98": 2.0, "instability": 0.5}
    assert table.make(rows, "seconds_to_98,instability,epoch_seconds").splitlines()[:3] == [
        "| run | s to 98\xa0% validation accuracy | instability of the loss at 0.1 to 0.2 nats |",
        "|---|---|---|", "| a | never by all seeds |  |"]


def test_runs_that_a_mean_is_without_are_told():
    row = {"configuration": "a", "seed": 0, "steps": 1, "data": "D", "status": "finished",
           "test_accuracy": 0.5, "train_seconds": 1.0}
    lost = [{"configuration": name, "seed": seed, "status": status} for name, seed, status in (
        ("a", 1, "diverged"), ("a", 2, "failed"), ("b", 0, "diverged"))]
    text = table.make([row, *lost], "seeds,test_accuracy")
    assert "| a | 1 | 50.00 |" in text and text.endswith(
        "Data: D. 1 of 3 runs of a diverged. 1 of 3 runs of a failed. 1 of 1 runs of b diverged.")
    assert table.make([row]).endswith("\n\nData: D.")


def test_a_published_number_stands_last():
    row = {"configuration": "a", "seed": 0, "steps": 1, "data": "D", "status": "finished",
           "test_accuracy": 0.5, "train_seconds": 1.0}
    assert "| seeds | theirs |\n|---|---|---|\n| a | 1 | 47 |" in table.make(
        [row], "seeds", ("theirs", {"a": "47"}))


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


def test_batch_noise_is_that_of_evaluations_in_the_band():
    """The level falls from 0.2 at step 483 to 0.1 at step 690; evaluations come after a step."""
    steps, evaluated = np.arange(1000), np.array([0, 400, 500, 600, 700])
    series = {("train", "batch/loss"): (steps, None, np.exp(-steps / 300)), (
        "validation", "evaluation/batch_noise"): (evaluated, None, [9.0, 9.0, 0.3, 0.4, 9.0])}
    assert measures_of(series)["batch_noise"] == pytest.approx(np.sqrt((0.09 + 0.16) / 2))
    series["train", "batch/loss"] = steps[::5], None, np.exp(-steps[::5] / 300)
    assert "batch_noise" not in measures_of(series)


def test_shrinking_gradients_by_hand():
    """From the last row that has a norm to the first; an LSTM's is its cell state's."""
    def norms(first, last):
        return np.arange(2), None, [np.array([np.nan, 2, 5, first]), np.array([np.nan, 4, last])]
    series = {("train", "over_time/gradient"): norms(8.0, 1.0)}
    assert measures_of(series) == {"gradient_before": 4, "gradient_after": 0.25}
    series["train", "over_time/memory_gradient"] = norms(20.0, 12.0)
    assert measures_of(series) == {"gradient_before": 10, "gradient_after": 3}
    del series["train", "over_time/memory_gradient"]
    steps, _, (first, _) = series["train", "over_time/gradient"]
    series["train", "over_time/gradient"] = steps[:1], None, [first]  # diverged soon after
    assert measures_of(series) == {"gradient_before": 4}


def test_losses_that_are_not_finite_are_no_fluctuations(recwarn):
    """Half a window of 51 steps before the first of them the level is none, either."""
    for lost in np.inf, np.nan:
        losses = np.r_[np.tile([0.15 * np.e, 0.15 / np.e], 100), lost]
        values, inside = measures.fluctuations(np.arange(201), losses)
        assert np.flatnonzero(inside)[-1] == 200 - 26 and np.isfinite(values[inside]).all()
    assert not list(recwarn)


def test_seconds_to_an_accuracy_by_hand():
    series = {("validation", "evaluation/accuracy"): (np.array([0, 10, 20]), None, [0.1, 0.9, 1.0])}
    # half way between steps 10 and 20, 2 s a step
    assert seconds_to(series, 0.95, 40.0) == pytest.approx(30)
    assert seconds_to(series, 0.05, 40.0) == 0 and np.isnan(seconds_to(series, 1.1, 40.0))
    assert np.isnan(seconds_to({}, 0.5, 1.0))


def test_structured_kernels_by_hand(tmp_path, monkeypatch):
    """Fits of r2 0.9 and 0.7, where chance explains 0.3: 0.5 more, of 0.7 that it leaves."""
    kernels = np.ones((5, 5, 1, 2), np.float32)
    monkeypatch.setattr(measures.machine, "cores", lambda: 1)
    monkeypatch.setattr(measures.gabor, "structure", lambda of: (
        [{"r2": 0.9}, {"r2": 0.7}], np.array([0.2, 0.4]), float((of == kernels).mean())))
    assert measures.kernel_measures(kernels) == pytest.approx(
        {"structured": 1, "r2_above_chance": 0.5, "r2_normalised": 5 / 7})
    folder = write_run(tmp_path / "a-seed0", 0, {
        "train_accuracy": 1.0, "test_accuracy": 0.5, "train_seconds": 3})
    with tf.summary.create_file_writer(str(folder / "train")).as_default():
        tf.summary.write("filters/kernel", kernels + 1, step=1)
        tf.summary.write("filters/kernel", kernels, step=2)
    text = table.table([folder], "kernels")
    assert "| a | 1 | 1,234 | 100.0 | 50.0 | 100 | 0.50 |" in text
    figure, numbers = dots.draw([folder], "kernels")
    assert numbers["measures"].tolist() == ["test_accuracy", "structured", "r2_above_chance"]
    np.testing.assert_allclose(numbers["a"], [[50, 100, 0.5]])
    assert len(figure.axes) == 3 and "D" in figure.get_suptitle()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a"]


def test_colour_kernels_by_hand(monkeypatch):
    """0.9, 0.6 and 0.3 in a pixel of its own each; the largest value stands for r2."""
    kernels = np.zeros((3, 3, 3, 1))
    kernels[[0, 1, 2], [0, 1, 2], [0, 1, 2]] = [[0.9], [0.6], [0.3]]
    monkeypatch.setattr(measures.gabor, "structure", lambda of: (
        [{"r2": of.max()}], np.array([0.1]), 1.0))
    found = measures.kernel_measures(kernels)
    assert found["principal_power"] == pytest.approx(0.81 / (0.81 + 0.36 + 0.09))
    assert found["r2_above_chance"] == pytest.approx(0.8)
    assert found["r2_of_mean"] == pytest.approx(0.2)
    assert found["r2_of_channels"] == pytest.approx(0.5)


def test_heat_by_hand(tmp_path):
    """Two seeds a cell: one cell whole, one half diverged, one lost, one never run."""
    names = "run", "optimizer", "rate", "status", "test_accuracy", "seed", "data"
    rows = [dict(zip(names, (f"r{i}", *row, i % 2, "D"))) for i, row in enumerate((
        ("sgd", "0.1", "finished", 0.5), ("sgd", "0.1", "finished", 0.7),
        ("sgd", "1e-3", "finished", 0.4), ("sgd", "1e-3", "diverged", ""),
        ("adam", "0.1", "diverged", ""), ("adam", "0.1", "diverged", "")))]
    stored.write_csv(tmp_path / "results.csv", rows, names[:3])
    (name, figure, numbers), = heat.draw([tmp_path], ["optimizer"], "rate", "test_accuracy")
    assert name == f"heat_{tmp_path.name}"
    assert numbers["optimizer"].tolist() == ["adam", "sgd"]
    assert numbers["rate"].tolist() == ["1e-3", "0.1"]
    np.testing.assert_allclose(numbers["mean"], [[np.nan, np.nan], [40, 60]])
    assert numbers["diverged"].tolist() == [[0, 2], [1, 0]]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert figure.get_suptitle() == "2 seeds, mean ± standard deviation of those that ended, " \
        "and each of them\nD"
    assert sorted(texts) == ["2 of 2\nnot finite", "40.0\n1 of 2\nnot finite",
                             "60.0 ± 14.1\n50 70"]
    losses = [row | {"validation_loss": 0.3 + 0.04 * i, "steps": 9} for i, row in enumerate(rows)]
    stored.write_csv(tmp_path / "results.csv", losses, names[:3])
    (_, figure, numbers), = heat.draw([tmp_path], ["steps", "optimizer"], "rate", "validation_loss")
    assert "0.320 ± 0.028\n0.30 0.34" in [text.get_text() for text in figure.axes[0].texts]
    stored.write_csv(tmp_path / "results.csv", rows + rows[:1], names[:3])
    with pytest.raises(InputError, match="more than optimizer and rate"):
        heat.draw([tmp_path], ["optimizer"], "rate", "test_accuracy")
    with pytest.raises(InputError, match="no column momentum; they have"):
        heat.draw([tmp_path], ["momentum"], "rate", "test_accuracy")
    with pytest.raises(InputError, match="--metric run is no number"):
        heat.draw([tmp_path], ["optimizer"], "rate", "run")
    for name in ("lr-0.1", "lr-0.2"):  # a point in a folder's name is no suffix
        (tmp_path / name).mkdir()
        stored.write_csv(tmp_path / name / "results.csv", rows, names[:3])
    paths = tmp_path / "lr-0.1", tmp_path / "lr-0.2", tmp_path / "lr-0.2" / "results.csv"
    assert [name for name, _, _ in heat.draw(paths, ["optimizer"], "rate", "test_accuracy")] == [
        "heat_lr-0.1", "heat_lr-0.2", "heat_results"]


def test_transfer_by_hand(tmp_path):
    """Two seeds, one head and the network from scratch, one and two images per class."""
    folders = [write_run(tmp_path / f"t-seed{seed}", seed, {
        "test_accuracy/svm/relu1/1": 0.2 + seed / 10, "test_accuracy/svm/relu1/2": 0.5,
        "test_accuracy/scratch/1": 0.1, "test_accuracy/scratch/2": 0.6, "train_seconds": 1.0},
        name="t") for seed in (0, 1)]
    assert transfer.table(folders) == (
        "t, linear SVM, n = 2\n\n| images per class | relu1 | trained from scratch |\n"
        "|---|---|---|\n"
        "| 1 | 25.0 ± 7.1 | 10.0 ± 0.0 |\n| 2 | 50.0 ± 0.0 | 60.0 ± 0.0 |".replace(
            " ±", "\N{NO-BREAK SPACE}±").replace("± ", "±\N{NO-BREAK SPACE}"))
    figure, numbers = transfer.draw(folders)
    np.testing.assert_allclose(numbers["t/svm/relu1"], [[20, 30], [50, 50]])
    assert sorted(numbers) == ["t/images_per_class", "t/scratch", "t/svm/relu1"]
    both = write_run(tmp_path / "u-seed0", 0, {
        "test_accuracy/svm/relu0/1": 0.3, "test_accuracy/svm/relu1/1": 0.4,
        "test_accuracy/scratch/1": 0.2, "train_seconds": 1.0}, name="u")
    figure, _ = transfer.draw([*folders, both])  # a layer has its colour in every panel
    assert [[bar.lines[0].get_color() for bar in axis.containers] for axis in figure.axes] == [
        ["C0", "black"], ["C1", "C0", "black"]]
    assert [text.get_text().split(",")[0] for text in figure.legends[0].texts] == [
        "relu1", "the network from scratch", "relu0"]
    assert figure.get_suptitle().endswith("over 1 or 2 seeds")
    other = write_run(tmp_path / "o", 0, {"test_accuracy": 0.5, "train_seconds": 1}, name="o")
    with pytest.raises(InputError, match="o is no run of transfer.py"):
        transfer.table([other])
    with pytest.raises(InputError, match="no test accuracy"):
        table.table(folders)


def test_rows_of_a_study_are_those_of_its_files(tmp_path, monkeypatch):
    """A study's name, its CSV and its runs' folders give the same rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/s.toml").write_text(
        'question = "?"\nscript = "x.py"\n[[configurations]]\nname = "a"\n')
    folder = write_run(tmp_path / "logs/s/a-seed0", 0, {"test_accuracy": 0.5, "train_seconds": 1.0})
    (row,) = rows_of([folder])
    stored.write_csv("studies/s.csv", [{key: row[key] for key in (
        "configuration", "seed", "test_accuracy", "train_seconds", "status", "steps", "data")}])
    assert table.table(["s"]) == table.table(["studies/s.csv"]) == table.table([folder])


def test_rows_of_a_study_are_told_from_others_of_the_same_name(tmp_path, monkeypatch):
    """A run of the same name is no further seed of it; the same study twice is refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    for study, accuracy in (("s", 0.5), ("t", 0.25)):
        (tmp_path / f"studies/{study}.toml").write_text(
            'question = "?"\nscript = "x.py"\n[[configurations]]\nname = "a"\n')
        stored.write_csv(f"studies/{study}.csv", [{
            "configuration": "a", "seed": 0, "data": "D", "steps": 1000, "status": "finished",
            "test_accuracy": accuracy, "train_seconds": 1.0}])
    run = write_run(tmp_path / "logs/a-seed1", 1, {"test_accuracy": 0.75, "train_seconds": 1.0})
    rows = table.table(["s", "t", run], "seeds,test_accuracy").splitlines()[2:5]
    assert rows == ["| s: a | 1 | 50.00 |", "| t: a | 1 | 25.00 |", "| a | 1 | 75.00 |"]
    assert "| a | 1 | 50.00 |" in table.table(["s"], "seeds,test_accuracy")
    with pytest.raises(InputError, match="seed 0 of a is there twice"):
        table.table(["s", "studies/s.csv"])


@pytest.mark.parametrize("arrays", [
    {"steps": [1]}, {"a/steps": [1]}, {"a-seed0/loss/values": [1.0]},
    {"a-seed0/train/loss/values": [1.0]},
    *({"a-seed0/train/loss/values": values, "a-seed0/train/loss/steps": steps}
      for values, steps in ((1.0, 1), ([], []), ([1.0], [1.0]))),
    *({"a-seed0/train/loss/steps": [1], "a-seed0/train/loss/values": values}
      for values in ([1.0, 2.0], ["1"]))])
def test_series_that_are_none_are_refused(tmp_path, monkeypatch, arrays):
    monkeypatch.setattr(stored, "FOLDER", tmp_path)
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(InputError, match="s.npz: .*(steps|values) is no series of a run"):
        stored.series("s")


def test_ticks_and_rows_of_heat_maps_by_hand():
    """Small numbers are powers of ten; of the second option only what varies beside the first."""
    for values, ticks in ((["0.0001", "0.003", "0.1"], ["1e-4", "3e-3", "1e-1"]),
                          (["0", "0.00015"], ["0", "1.5e-4"]), (["0.001", "1"], ["0.001", "1"]),
                          (["sgd", "adam"], ["sgd", "adam"])):
        assert heat.as_ticks(values) == ticks
    rows = [{"optimizer": optimizer, "momentum": momentum, "rate": "0.1", "seed": 0,
             "status": "finished", "accuracy": 0.5}
            for optimizer, momentum in (("sgd", "0.0"), ("sgd", "0.9"), ("adam", "0.9"))]
    _, numbers = heat.make(rows, ("optimizer", "momentum"), "rate", "accuracy")
    assert numbers["optimizer, momentum"].tolist() == [
        "adam", "sgd, momentum 0.0", "sgd, momentum 0.9"]
    with pytest.raises(InputError, match="these runs have no acuracy"):
        heat.make(rows, ("optimizer",), "rate", "acuracy")


def test_counts_alone_are_no_dots():
    row = {"configuration": "a", "seed": 0, "steps": 1, "data": "D", "status": "finished",
           "test_accuracy": 0.5, "train_seconds": 1.0, "parameters": 3}
    for columns in "seeds", "steps,parameters":
        with pytest.raises(InputError, match=f"--columns {columns} has only counts"):
            dots.make([row], columns)
    assert dots.make([row], "seeds,test_accuracy")[1]["a"].tolist() == [[50]]


def test_transfers_of_one_name_to_other_images_keep_their_numbers():
    rows = [{"configuration": "t", "seed": 0, "data": data, "test_accuracy/scratch/1": accuracy}
            for data, accuracy in (("D", 0.5), ("E", 0.25))]
    _, numbers = transfer.make(rows)
    assert {name: values.tolist() for name, values in numbers.items() if "scratch" in name} == {
        "t/None/D/scratch": [[50]], "t/None/E/scratch": [[25]]}


def test_of_no_transfers_there_is_no_figure():
    with pytest.raises(InputError, match="no runs of transfer.py"):
        transfer.make([])


def test_dots_of_several_data_sets_have_their_colours(tmp_path):
    rows = [{"configuration": name, "seed": seed, "steps": 1, "data": data, "status": "finished",
             "test_accuracy": 0.5, "train_seconds": 1.0}
            for name, data, seeds in (("a", "D", 2), ("b", "E", 1)) for seed in range(seeds)]
    figure, _ = dots.make(rows)
    assert [text.get_text() for text in figure.legends[0].texts] == ["D", "E"]
    one, _, other, _ = figure.axes[0].lines
    assert one.get_color() != other.get_color() and len(one.get_xdata()) == 2
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "a (2 seeds)", "b (1 seed)"]
