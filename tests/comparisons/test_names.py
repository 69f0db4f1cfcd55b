"""Runs are called by their configuration, and told apart by what differs between them."""
import json
import shutil

import pytest

from comparisons import names
from system.command_line import InputError


def write_run(folder, **options):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"options": options}))
    return folder


@pytest.mark.parametrize("name, options, expected", [
    ("best", {}, "best"), ("five-classes", {"kernel_size": 5}, "five-classes"),
    ("best-kernel-size=7", {"kernel_size": 7}, "best, kernel-size=7"),
    ("best-kernel-size=7", {"kernel_size": 5}, "best-kernel-size=7"),  # says --name
    ("best-data=x-filters=3,4-no-grey-shift=1", {
        "data": "/a/x.zip", "filters": [3, 4], "grey": False, "shift": "1"},
     "best, data=x, filters=3,4, no-grey, shift=1"),
    ("gru-128-original-order=columns", {"cell": "gru", "units": 128, "order": "columns"},
     "GRU 128, original, order=columns"),
    ("mine", {"cell": "gru", "units": 128}, "mine")])
def test_a_name_in_words(name, options, expected):
    assert names.name_of({"name": name, **options}) == expected


def test_runs_of_a_study_have_its_configurations_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/s.toml").write_text(
        'question = "?"\nscript = "x.py"\n[[configurations]]\nname = "best, 1 epoch"\n')
    folders = [write_run(tmp_path / "logs" / group / "best-1-epoch-seed3", name="best-1-epoch",
                         seed=3) for group in "st"]
    assert names.of_runs(folders) == [("best, 1 epoch", 3), ("best-1-epoch", 3)]


def test_runs_of_one_name_are_told_apart_by_their_options(tmp_path):
    """Those that change no number, and those that a run of older code has not, are no difference.
    """
    runs = [write_run(tmp_path / str(i) / f"x-seed{options['seed']}", name="x", **options)
            for i, options in enumerate((
                dict(seed=0, learning_rate=0.1, threads=1), dict(seed=1, learning_rate=0.1, new=2),
                dict(seed=0, learning_rate=0.2, threads=2)))]
    assert names.of_runs(runs[:2]) == [("x", 0), ("x", 1)]
    assert names.of_runs(runs) == [
        ("x, learning-rate=0.1", 0), ("x, learning-rate=0.1", 1), ("x, learning-rate=0.2", 0)]
    assert names.labels(runs[:2]) == (["x, seed 0", "x, seed 1"], [])
    assert names.labels(runs[::2]) == (["x, learning-rate=0.1", "x, learning-rate=0.2"], ["seed 0"])
    assert names.labels(runs[:1]) == (["x, seed 0"], [])
    with pytest.raises(InputError, match="share a name, x, seed 0"):
        names.labels([runs[0], runs[0]])
    again = shutil.copytree(runs[0], tmp_path / "before-seed0")
    assert names.labels([runs[0], again]) == (["x", "before"], ["seed 0"])


def test_what_is_no_run_of_ours_has_its_own_name(tmp_path):
    other = tmp_path / "run-seed2"
    other.mkdir()
    assert names.labels([other, tmp_path / "run"]) == (["run, seed 2", "run"], [])
    for text in ("{}", "no json", '{"options": 3}', "[]"):
        (other / "config.json").write_text(text)
        assert names.of_runs([other, tmp_path / "my.net.keras"]) == [("run", "2"),
                                                                     ("my.net", None)]


def test_a_study_stands_before_a_name_that_others_have_too():
    assert names.told_apart([("s", "a"), ("s", "a"), ("t", "a"), ("t", "b"), ("", "a")]) == [
        "s: a", "s: a", "t: a", "b", "a"]
    assert names.told_apart([("s", "a"), ("s", "a"), ("", "b"), ("", "b")]) == ["a", "a", "b", "b"]


def test_what_all_share_is_said_once():
    assert names.without_shared(["RNN 128, best, seed 0", "GRU 128, best, seed 0"]) == (
        ["RNN 128", "GRU 128"], ["best", "seed 0"])
    assert names.without_shared(["best", "best, shift=1"]) == (["best", "best, shift=1"], [])
    assert names.without_shared(["best, shift=1"]) == (["best, shift=1"], [])
    assert names.without_shared(["a, long, shift=1", "b, long, shift=1"], "=") == (
        ["a, long", "b, long"], ["shift=1"])


def test_runs_of_a_file_that_changed_are_not_taken_together(tmp_path):
    """The same words name other images, with as many of them; read in another way they may differ.
    """
    runs = [write_run(tmp_path / f"{name}-seed{seed}", name=name, seed=seed, data="x.npz",
                      background=background)
            for name, seed, background in (("a", 0, "white"), ("b", 1, "white"), ("c", 0, "black"))]
    for run, checksum in zip(runs, "001"):
        text = (run / "config.json").read_text()
        (run / "config.json").write_text(json.dumps(json.loads(text) | {
            "data": {"title": "x.npz (8x8 grey)", "checksum": checksum}}))
    assert names.labels(runs)[0] == ["a, seed 0", "b, seed 1", "c, seed 0"]
    text = (runs[1] / "config.json").read_text()
    (runs[1] / "config.json").write_text(text.replace('"checksum": "0"', '"checksum": "2"'))
    for together in runs[:2], runs:
        with pytest.raises(InputError, match="b-seed1 and .*a-seed0 did not get the same images"):
            names.labels(together)
    assert names.labels(runs[1:])[0] == ["b, seed 1", "c, seed 0"]


def test_seeds_of_an_edited_network_are_not_taken_together(tmp_path):
    """Of one name and of equal options, which seeds and places are none of; another name may be."""
    runs = [write_run(tmp_path / f"{name}-seed{seed}", name=name, seed=seed, threads=seed, units=2)
            for name, seed in (("a", 0), ("a", 1), ("b", 0))]
    for run, kind in zip(runs, ("relu", "relu", "tanh")):
        (run / "config.json").write_text(json.dumps(json.loads((run / "config.json").read_text())
                                                    | {"network": {"hidden": kind}}))
    assert names.of_runs(runs) == [("a", 0), ("a", 1), ("b", 0)]
    text = (runs[1] / "config.json").read_text()
    (runs[1] / "config.json").write_text(text.replace("relu", "tanh"))
    with pytest.raises(InputError, match="a-seed1 and .*a-seed0 do not have the same network"):
        names.of_runs(runs)
    (runs[1] / "config.json").write_text(text.replace("relu", "tanh").replace("2", "3"))
    assert names.of_runs(runs)[1] == ("a, units=3", 1)
