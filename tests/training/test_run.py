"""A run's folder: options, seeds, locking, checkpoints and event files."""
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import runs
from charts import read_events
from options import option


@dataclasses.dataclass(frozen=True)
class Config:
    recipe: str = option("plain", "recipe", ("plain",), names_run=False)
    name: str = option("r", "name", names_run=False)
    logs: str = option("logs", "folder", names_run=False)
    seed: int = option(0, "seed", names_run=False)
    rate: float = option(0.5, "rate", low=0)
    resume: bool = option(False, "resume", names_run=False)
    overwrite: bool = option(False, "overwrite", names_run=False)


@pytest.fixture
def config(tmp_path):
    return Config(logs=str(tmp_path))


def record(run, step):
    """One scalar event and one checkpoint at `step`."""
    with run.writer("train").as_default():
        tf.summary.scalar("x", float(step), step=step)
    run.save(step, {"w": np.full(3, step, np.float32)})


def interrupted(config, *steps):
    with runs.Run("s", config) as run:
        run.describe(data={"name": "d"})
        for step in steps:
            record(run, step)
    return run.path, dataclasses.replace(config, resume=True)


def test_atomic_file_keeps_the_old_one_when_writing_fails(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), runs.atomic_file(path) as stream:
        stream.write(b"half of the new")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]
    with runs.atomic_file(path) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["f"]


def test_streams_are_distinct_and_fixed():
    seeds = {runs.stream_seed(seed, stream)
             for seed in range(20) for stream in ("order", "dropout", "split")}
    assert len(seeds) == 60 and all(0 <= seed < 2 ** 31 for seed in seeds)
    assert runs.stream_seed(0, "order") == runs.stream_seed(0, "order")


def test_last_two_checkpoints_are_kept(config):
    path, again = interrupted(config, 10, 20, 30)
    assert [p.name for p in runs.checkpoints(path)] == ["step-00000020.npz", "step-00000030.npz"]
    with runs.Run("s", again) as run:
        step, state = run.restore()
    assert step == 30 and state["w"].tolist() == [30, 30, 30]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_newest_checkpoint_falls_back(config, capsys, damage):
    path, again = interrupted(config, 10, 20)
    newest = runs.checkpoints(path)[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 255
    newest.write_bytes({"truncated": content[:-40], "flipped": content, "empty": b""}[damage])
    with runs.Run("s", again) as run:
        step, state = run.restore()
        assert step == 10 and state["w"].tolist() == [10, 10, 10]
        assert "damaged" in capsys.readouterr().err
        record(run, 20)
    steps, _, values = read_events(path)["train", "x"]
    assert steps.tolist() == [10, 20] and np.float64(values).tolist() == [10, 20]


def test_events_after_the_checkpoint_are_cut_off(config):
    with runs.Run("s", config) as run:
        run.describe(data={})
        record(run, 1)
        with run.writer("train").as_default():
            tf.summary.scalar("x", -99.0, step=2)
        with run.writer("validation").as_default():
            tf.summary.scalar("x", -99.0, step=2)
    with runs.Run("s", dataclasses.replace(config, resume=True)) as run:
        assert run.restore()[0] == 1
        record(run, 2)
    events = read_events(run.path)
    assert (np.float64(events["train", "x"][2]).tolist() == [1, 2]
            and set(events) == {("train", "x")})


def test_no_checkpoint_means_from_the_start(config):
    path, again = interrupted(config)
    with runs.Run("s", again) as run:
        assert run.restore() == (0, None)


def test_a_run_is_not_touched_unasked(config):
    path, again = interrupted(config, 10)
    with pytest.raises(runs.InputError, match="interrupted.*--resume"):
        runs.Run("s", config)
    with runs.Run("s", again) as run:
        run.finish(10, {"accuracy": 0.5})
    with pytest.raises(runs.InputError, match="finished.*--overwrite"):
        runs.Run("s", config)
    assert runs.Run("s", again).finished and (path / "result.json").exists()
    with runs.Run("s", dataclasses.replace(config, overwrite=True)) as run:
        assert not run.finished and (path / "result.json").exists()  # not yet: data may be missing
        run.describe(data={"name": "d"})
        assert sorted(p.name for p in path.iterdir()) == ["config.json", "lock"]


def test_other_options_or_data_cannot_resume(config):
    _, again = interrupted(config, 10)
    with runs.Run("s", dataclasses.replace(again, rate=0.25)) as run:
        with pytest.raises(runs.InputError, match="rate=0.5, not 0.25"):
            run.describe(data={"name": "d"})
    with runs.Run("s", again) as run:
        with pytest.raises(runs.InputError, match="name='d', not 'e'"):
            run.describe(data={"name": "e"})
        assert run.describe(data={"name": "d"})["options"]["rate"] == 0.5


@pytest.mark.parametrize("text", ["", "[]", "{", '{"options": 3}', '{"options": {}, "data": null}'])
def test_damaged_config_is_one_line(config, text):
    path, again = interrupted(config, 10)
    (path / "config.json").write_text(text)
    with runs.Run("s", again) as run, pytest.raises(
            runs.InputError, match="config.json|started") as error:
        run.describe(data={"name": "d"})
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run_is_left_alone(config, tmp_path):
    folder = tmp_path / "s" / "r-seed0"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    for options in (config, dataclasses.replace(config, overwrite=True)):
        with pytest.raises(runs.InputError, match="no run"):
            runs.Run("s", options)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]


def test_a_run_that_never_began_leaves_nothing(config, tmp_path):
    with pytest.raises(runs.InputError), runs.Run("s", config):
        raise runs.InputError("no data")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_cannot_write_one_run(config):
    code = ("import sys, test_runs, runs\n"
            "try: runs.Run('s', test_runs.Config(logs=sys.argv[1], overwrite=True))\n"
            "except runs.InputError as error: print(error)")
    with runs.Run("s", config) as run:
        run.describe(data={})
        other = subprocess.run([sys.executable, "-c", code, config.logs],
                               capture_output=True, text=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        assert "another process" in other.stdout, other.stderr
        assert (run.path / "config.json").exists()


def test_unwritable_logs_is_one_line(config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    broken = dataclasses.replace(config, logs=str(tmp_path / "file"))
    assert runs.main(lambda c: runs.Run("s", c), broken) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_hparams_and_options_are_logged(config):
    with runs.Run("s", config) as run:
        run.describe(data={})
        run.log_options()
        run.finish(7, {"test_accuracy": 0.25})
    events = read_events(run.path)
    assert "| rate | 0.5 |" in events["result", "config"][2][0].item().decode()
    assert events["result", "result/test_accuracy"][2] == [0.25]
    assert any(tag.startswith("_hparams_") for _, tag in events)


def test_quiet_import():
    """Keras comes without what only its wrappers use, which is there again afterwards."""
    code = """import machine, sys
with machine.quiet_import():
    import keras
assert not {"sklearn", "matplotlib"} & set(sys.modules), "imported"
import matplotlib, sklearn"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=runs.ROOT)
    assert (done.returncode, done.stderr) == (0, "")
