"""A run's folder: options, seeds, locking, checkpoints and event files."""
import dataclasses
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.ops import summary_ops_v2
from written import npy, packed

from system.command_line import InputError, Interrupted, main, option
from system.files import ROOT, load_arrays, read_json
from training import checkpoints
from training.checkpoints import load_weights, snapshots
from training.events import read_events
from training.run import Run, _removed, folder_of, stream_seed


@dataclasses.dataclass(frozen=True)
class Config:
    """Run."""
    recipe: str = option("plain", "recipe", ("plain",), names_run=False)
    name: str = option("r", "name", names_run=False)
    group: str = option("", "group", names_run=False)
    logdir: str = option("logs", "folder", names_run=False)
    seed: int = option(0, "seed", names_run=False)
    learning_rate: float = option(0.5, "learning rate", low=0)
    initial_weights: str = option("", "initial weights")
    resume: bool = option(False, "resume", names_run=False)
    overwrite: bool = option(False, "overwrite", names_run=False)


@pytest.fixture
def config(tmp_path):
    return Config(logdir=str(tmp_path))


def record(run, step):
    """One scalar event and one checkpoint at `step`."""
    with run.events.into("train"):
        tf.summary.scalar("x", float(step), step=step)
    run.save(step, {"w": np.full(3, step, np.float32)})


def interrupted(config, *steps):
    with Run("s", config) as run:
        run.describe(data={"name": "d"})
        for step in steps:
            record(run, step)
    return run.path, dataclasses.replace(config, resume=True)


def test_streams_are_distinct_and_fixed():
    seeds = {stream_seed(seed, stream)
             for seed in range(20) for stream in ("order", "dropout", "split")}
    assert len(seeds) == 60 and all(0 <= seed < 2 ** 31 for seed in seeds)
    assert stream_seed(0, "order") == 1_218_160_299  # on every machine, in every version


def test_a_run_lies_in_its_group_or_script(config):
    path, _ = interrupted(config)
    assert path == folder_of("s", config)
    assert path.relative_to(config.logdir).as_posix() == "s/r-seed0"
    config = dataclasses.replace(config, group="g", seed=3)
    assert folder_of("s", config).relative_to(config.logdir).as_posix() == "g/r-seed3"


def test_last_two_checkpoints_are_kept(config):
    path, again = interrupted(config, 10, 20, 30)
    assert [p.name for p in checkpoints.checkpoints(path)] == [
        "step-00000020.npz", "step-00000030.npz"]
    with Run("s", again) as run:
        step, state = run.restore()
    assert step == 30 and state["w"].tolist() == [30, 30, 30]
    assert load_weights(path)["w"].tolist() == [30, 30, 30]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "boundless"])
def test_damaged_newest_checkpoint_falls_back(config, capsys, damage):
    path, again = interrupted(config, 10, 20)
    newest = checkpoints.checkpoints(path)[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 255
    if damage == "boundless":  # it promises 128 TB
        packed(newest, {"w.npy": npy(shape=(1 << 45,))})
    else:
        newest.write_bytes({"truncated": content[:-40], "flipped": content, "empty": b""}[damage])
    with Run("s", again) as run:
        step, state = run.restore()
        assert step == 10 and state["w"].tolist() == [10, 10, 10]
        assert "damaged" in capsys.readouterr().err
        record(run, 20)
    steps, _, values = read_events(path)["train", "x"]
    assert steps.tolist() == [10, 20] and np.float64(values).tolist() == [10, 20]


@pytest.mark.parametrize("changed, said", [
    ({"_step": [20]}, "no checkpoint .TypeError"), ({"_step": 10}, "the checkpoint of step 10"),
    ({"_events": "[20]"}, "no checkpoint .AttributeError"),
    ({"_events": "[" * 99999}, "no checkpoint .RecursionError"),
    ({"_events": '{"losses.csv": 1e999}'}, "no checkpoint .OverflowError")])
def test_an_array_file_that_is_no_checkpoint_is_passed_over(config, capsys, changed, said):
    path, _ = interrupted(config, 10, 20)
    newest = checkpoints.checkpoints(path)[-1]
    np.savez(newest, **load_arrays(newest) | changed)
    step, state, _ = checkpoints.restore(path)
    assert step == 10 and state["w"].tolist() == [10, 10, 10] and not newest.exists()
    assert re.fullmatch(f".*00000020.npz is {said}.*; falling back to the one before\n",
                        capsys.readouterr().err)


def test_events_and_snapshots_after_the_checkpoint_are_cut_off(config):
    with Run("s", config) as run:
        run.describe(data={})
        run.snapshot(1, {"w": np.zeros(1)})
        record(run, 1)
        run.snapshot(2, {"w": np.zeros(1)})
        for part in ("train", "validation"):
            with run.events.into(part):
                tf.summary.scalar("x", -99.0, step=2)
    with Run("s", dataclasses.replace(config, resume=True)) as run:
        assert run.restore()[0] == 1
        record(run, 2)
    events = read_events(run.path)
    assert (np.float64(events["train", "x"][2]).tolist() == [1, 2]
            and set(events) == {("train", "x")})
    assert [p.name for p in snapshots(run.path)] == ["step-00000001.npz"]


def test_no_checkpoint_means_from_the_start(config):
    path, again = interrupted(config)
    with Run("s", again) as run:
        assert run.restore() == (0, None)
    with pytest.raises(InputError, match="no checkpoint; train it first"):
        load_weights(path)


def test_a_run_is_not_touched_unasked(config):
    path, again = interrupted(config, 10)
    with pytest.raises(InputError, match="interrupted.*--resume"):
        Run("s", config)
    with Run("s", again) as run:
        run.finish(10, {"accuracy": 0.5})
    with pytest.raises(InputError, match="finished.*--overwrite"):
        Run("s", config)
    with Run("s", again) as run:
        assert run.finished and (path / "result.json").exists()
    with pytest.raises(InputError, match="--resume would go on .* --overwrite replace it"):
        Run("s", dataclasses.replace(again, overwrite=True))
    with Run("s", dataclasses.replace(config, overwrite=True)) as run:
        assert not run.finished and (path / "result.json").exists()  # not yet: data may be missing
        run.describe(data={"name": "d"})
        assert [p.name for p in path.iterdir()] == ["config.json"]


def test_a_finished_run_has_its_weights_and_no_checkpoints(config):
    """Also where it was stopped between its last two writes."""
    path, again = interrupted(config, 10)
    with Run("s", again) as run:
        checkpoints.save_weights(path, {"w": np.ones(2)})
        run.finish(10, {"accuracy": 0.5})
    assert sorted(p.name for p in path.iterdir()) == [
        "config.json", "result", "result.json", "train", "weights.npz"]
    assert load_weights(path)["w"].tolist() == [1, 1]
    checkpoints.save(path, 10, {"w": np.zeros(2)}, {})
    with Run("s", again) as run:
        assert run.finished
    assert not (path / "checkpoints").exists() and load_weights(path)["w"].tolist() == [1, 1]


def test_other_options_or_data_cannot_resume(config):
    path, again = interrupted(config, 10)
    with Run("s", dataclasses.replace(again, learning_rate=0.25)) as run:
        with pytest.raises(InputError, match="learning_rate=0.5, not 0.25"):
            run.describe(data={"name": "d"})
    with Run("s", again) as run:
        with pytest.raises(InputError, match="name='d', not 'e'"):
            run.describe(data={"name": "e"})
        run.describe(data={"name": "d"})
    assert read_json(path / "config.json")["options"]["learning_rate"] == 0.5


@pytest.mark.parametrize("text", ["", "[]", "{", '{"options": 3}', '{"options": {}, "data": null}'])
def test_damaged_config_is_one_line(config, text):
    path, again = interrupted(config, 10)
    (path / "config.json").write_text(text)
    with Run("s", again) as run, pytest.raises(
            InputError, match="config.json|started") as error:
        run.describe(data={"name": "d"})
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run_is_left_alone(config, tmp_path):
    folder = tmp_path / "s" / "r-seed0"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    for options in (config, dataclasses.replace(config, overwrite=True)):
        with pytest.raises(InputError, match="no run"):
            Run("s", options)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
    assert [p.name for p in folder.parent.iterdir()] == ["r-seed0"]  # no lock either


def test_a_run_that_never_began_leaves_nothing(config, tmp_path):
    with pytest.raises(InputError), Run("s", config):
        raise InputError("no data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_overwrite_removes_first_says_that_a_run_is_finished():
    """Killed in between, it leaves no run that seems finished, and no files that seem no run."""
    names = ["config.json", "train", "weights.npz", "result.json", "model.keras", "losses.csv"]
    files = sorted(map(pathlib.Path, names), key=_removed)
    assert [file.name for file in files] == ["result.json", "model.keras", "weights.npz", "train",
                                             "losses.csv", "config.json"]


def test_a_run_cannot_begin_with_the_weights_it_replaces(config):
    here = folder_of("s", config)
    with pytest.raises(InputError, match="this run's own folder; give it another --name"):
        Run("s", dataclasses.replace(config, initial_weights=f"{here}/../{here.name}"))


def test_two_processes_cannot_write_one_run(config):
    code = ("import json, sys, types\n"
            "from training.run import InputError, Run\n"
            "try: Run('s', types.SimpleNamespace(**json.loads(sys.argv[1])))\n"
            "except InputError as error: print(error)")
    with Run("s", config) as run:
        run.describe(data={})
        with pytest.raises(InputError, match="another process"):  # nor one process twice
            Run("s", dataclasses.replace(config, overwrite=True))
        options = {**dataclasses.asdict(config), "overwrite": True}
        other = subprocess.run([sys.executable, "-c", code, json.dumps(options)], cwd=ROOT,
                               capture_output=True, text=True)
        assert "another process" in other.stdout, other.stderr
        assert (run.path / "config.json").exists()


def test_unwritable_logs_is_one_line(config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    broken = dataclasses.replace(config, logdir=str(tmp_path / "file"))
    assert main(lambda c: Run("s", c), broken) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_hparams_and_options_are_logged(config):
    with Run("s", config) as run:
        run.describe(data={})
        run.log_options()
        run.finish(7, {"test_accuracy": 0.25})
    events = read_events(run.path)
    assert "| learning_rate | 0.5 |" in events["result", "config"][2][0].item().decode()
    assert events["result", "result/test_accuracy"][2] == [0.25]


@pytest.mark.parametrize("what, value", [("the loss", np.nan), ("the loss", np.inf),
                                         ("a weight", np.nan)])
def test_what_is_not_finite_ends_the_run_and_names_the_last_good_checkpoint(config, capsys, what,
                                                                            value):
    def go(config):
        with Run("s", config) as run:
            run.describe(data={})
            record(run, 1)
            if what == "the loss":
                run.log_steps(1, np.float32([1, value]), np.float32([0.5, 0.25]), 9.0)
            else:
                run.save(2, {"w": np.float32([value, 1])})
    assert main(go, config) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{what} is not finite at step 2" in said
    assert "step-00000001.npz" in said and "--learning-rate" in said
    path = folder_of("s", config)
    assert [p.name for p in checkpoints.checkpoints(path)] == ["step-00000001.npz"]
    if what == "the loss":  # TensorBoard shows it
        assert not np.isfinite(read_events(path)["train", "batch/loss"][2][-1])


def test_an_interrupted_run_says_how_it_goes_on(config, capsys):
    def go(config):
        with Run("s", config) as run:
            run.signal = 15
            run.interrupt(1234)
    assert main(go, config) == 128 + 15
    assert "step 1,234, saved" in capsys.readouterr().err


def test_the_other_signal_does_not_stop_what_the_first_began(config):
    """As of a terminal and of sweep.py, which both stop a run: it is being saved already."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with Run("s", config) as run:
            with pytest.raises(Interrupted):
                os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            assert run.signal == signal.SIGINT
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before):
            signal.signal(number, handler)


@pytest.mark.parametrize("saves", [False, True])
def test_a_signal_ends_a_run_at_once_unless_it_is_to_save(config, capsys, saves):
    before = signal.getsignal(signal.SIGTERM)

    def go(config):
        with Run("s", config) as run:
            run.saves_on_signals = saves
            os.kill(os.getpid(), signal.SIGTERM)
            assert saves and run.signal == signal.SIGTERM
    try:
        assert main(go, config) == (0 if saves else 128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ("--resume goes on" in capsys.readouterr().err) != saves
    assert not folder_of("s", config).exists()


def test_a_checkpoint_that_cannot_be_written_to_its_end_leaves_the_one_before(config):
    """Whichever byte is the last that the disk takes."""
    path, arrays = folder_of("s", config), {"w": np.float32([1])}
    path.mkdir(parents=True)
    checkpoints.save(path, 1, arrays, {})
    file, = checkpoints.checkpoints(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for size in range(file.stat().st_size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            with pytest.raises(OSError, match="File too large.*step-00000002.npz"):
                checkpoints.save(path, 2, arrays, {})
            assert [*file.parent.iterdir()] == [file]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.restore(path)[:2] == (1, arrays)


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(config):
    path, resumed = interrupted(config, 10)
    halves = [path / "config.json.12.tmp", path / "checkpoints/step-00000020.npz.7.tmp"]
    for file in (*halves, path / "notes.tmp"):
        file.write_text("half")
    with Run("s", resumed) as again:
        again.restore()
    assert not any(file.exists() for file in halves) and (path / "notes.tmp").exists()


def test_events_that_cannot_be_written_are_one_line(config, monkeypatch):
    """As on a full disk: no file may be longer than 400 bytes."""
    # TensorFlow goes on writing by a writer that has failed, into later tests too
    monkeypatch.setattr(summary_ops_v2._summary_state, "writer", None)
    with Run("x", config) as run:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))
        try:
            with pytest.raises(OSError, match="events cannot be written"):
                for step in range(20):
                    with run.events.into("train"):
                        tf.summary.scalar("x", float(step), step=step)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
