"""Sweeps of a small script of one's own, of studies, and on a cluster of two workers."""
import contextlib
import csv
import os
import pathlib
import random
import shutil
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from conftest import assert_one_line, attempt_here, run, start

import sweep
from comparisons import stored
from system import machine, progress
from system.command_line import InputError
from system.files import read_json, write_json
from system.jobs import command
from training.events import read_events

SCRIPT = '''"""Learn nothing, quickly."""
import dataclasses
import pathlib
import signal
import sys
import time

from system.command_line import Diverged, Interrupted, main, option, parse
from system.files import read_json, write_json

RECIPES = {}


@dataclasses.dataclass(frozen=True)
class Config:
    """Tiny."""
    NAME = "tiny"
    source: str = option("", "anything", positional=True, names_run=False)
    seed: int = option(0, "seed", names_run=False)
    name: str = option("", "name", names_run=False)
    group: str = option("", "group", names_run=False)
    logdir: str = option("logs", "folder", names_run=False)
    resume: bool = option(False, "go on", names_run=False)
    overwrite: bool = option(False, "replace", names_run=False)
    threads: int = option(1, "threads", names_run=False)
    rate: float = option(0.5, "rate")
    seconds: float = option(0.0, "time it takes")
    filters: tuple = option((1, 2), "filters")


if __name__ == "__main__":
    config = parse(Config, RECIPES)


def train(config):
    folder = pathlib.Path(config.logdir, config.group or "tiny", f"{config.name}-seed{config.seed}")
    folder.mkdir(parents=True, exist_ok=True)
    options = {k: v for k, v in vars(config).items()
               if k not in ("logdir", "group", "resume", "overwrite")}
    write_json(folder / "config.json", {
        "options": options, "total_steps": 3, "data": {"title": "D", "train": 9}, "processor": "P",
        "versions": {"tensorflow": "T", "scipy": "1.0"}, "memory": 5})
    asked = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    (folder / "begun").write_text((folder / "begun").read_text() + "x"
                                  if (folder / "begun").exists() else "x")
    if config.seconds and len((folder / "begun").read_text()) == 1:  # only the first time
        end = time.time() + config.seconds
        while time.time() < end and not asked:
            time.sleep(0.02)
    if asked:
        (folder / "saved").touch()
        raise Interrupted("saved", asked[0])
    if config.rate > 9:
        raise Diverged("not finite")
    write_json(folder / "result.json", {"test_accuracy": config.rate / (2 + config.seed),
                                        "train_seconds": 1.0})


if __name__ == "__main__":
    sys.exit(main(train, config))
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the script, in which one is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(SCRIPT)
    sys.modules.pop("tiny", None)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def make(*words):
    """Exit status of a sweep in this process."""
    return sweep.sweep(sweep.command_line([*map(str, words)]))


def results(name):
    with open(f"logs/sweeps/{name}/results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_combinations():
    assert sweep.combinations([], []) == [[]]
    assert sweep.combinations(["a=1,2", "flip=yes,no"], ["--x 'y z'"]) == [
        ["--x", "y z", "--a", "1", "--flip"], ["--x", "y z", "--a", "1", "--no-flip"],
        ["--x", "y z", "--a", "2", "--flip"], ["--x", "y z", "--a", "2", "--no-flip"]]
    assert sweep.combinations(["filters=32 64,8"], []) == [
        ["--filters", "32", "64"], ["--filters", "8"]]
    with pytest.raises(InputError, match="OPTION=VALUE"):
        sweep.combinations(["flip"], [])


@pytest.mark.slow
def test_grid_list_and_failures(here, capsys, monkeypatch):
    """Two good configurations and one that diverges; then everything that worked is skipped."""
    monkeypatch.setattr(progress, "EVERY", 0)
    (here / "list").write_text("--rate 0.25  # the good ones\n\n--rate 99 --filters 3\n")
    words = ("tiny.py", "--list", "list", "--seeds", 0, 1, "--name", "x", "--jobs", 2, "--", "s")
    assert make(*words) == 1
    out, err = capsys.readouterr()
    assert err.count("exit status 3") == 2 and "4 runs, 0 of them finished" in out
    assert "diverged=2, failed=0]" in err, err
    assert "2 of 4 runs finished" in out
    rows = results("x")
    assert [(row["run"], row["seed"], row["rate"], row["filters"], row["status"], row.get(
        "test_accuracy")) for row in rows] == [
        ("tiny-rate=0.25-seed0", "0", "0.25", "1,2", "finished", "0.125"),
        ("tiny-rate=0.25-seed1", "1", "0.25", "1,2", "finished", str(0.25 / 3)),
        ("tiny-rate=99.0-filters=3-seed0", "0", "99.0", "3", "diverged", ""),
        ("tiny-rate=99.0-filters=3-seed1", "1", "99.0", "3", "diverged", "")]
    for row in rows[:2]:
        folder = here / "logs/tiny" / row["run"]
        assert read_json(folder / "config.json")["options"]["threads"] == max(
            1, machine.cores() // 2)
        assert ("", "result/test_accuracy") in read_events(here / "logs/sweeps/x" / row["run"])
    assert make(*words) == 1
    assert "4 runs, 2 of them finished" in capsys.readouterr().out
    assert [len((here / "logs/tiny" / row["run"] / "begun").read_text()) for row in rows] == [
        1, 1, 2, 2]


def test_runs_of_a_file_that_changed_are_not_collected(here, monkeypatch):
    """What was finished on other images than the rest is found before it is averaged with them."""
    jobs = [sweep.Job(None, pathlib.Path(f"logs/a-seed{seed}"), []) for seed in (0, 1)]
    for job in jobs:
        job.folder.mkdir(parents=True)
        write_json(job.folder / "result.json", {})
        write_json(job.folder / "config.json", {
            "options": {"name": "a", "data": "x.npz"},
            "data": {"title": "x.npz", "checksum": job.folder.name}})
    options = SimpleNamespace(backend="local", jobs=1, cores=1, retries=0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(InputError, match="did not get the same images"):
        sweep.run_jobs(jobs, options, pathlib.Path("out"), lambda failed: pytest.fail("collected"))
    assert sweep.run_jobs(jobs[:1], options, pathlib.Path("other")) == {}


def test_hparams_have_the_same_columns_in_all_runs(here):
    from tensorboard.backend.event_processing import event_file_loader
    from tensorboard.plugins.hparams import plugin_data_pb2
    make("tiny.py", "--grid", "rate=0.5,0.25", "filters=1,2 3", "--name", "h", "--", "s")
    shown = []
    for row in results("h"):
        file, = (here / "logs/sweeps/h" / row["run"]).glob("events*")
        for event in event_file_loader.EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.tag.endswith("session_start_info"):
                    data = plugin_data_pb2.HParamsPluginData.FromString(
                        value.metadata.plugin_data.content)
                    shown.append(sorted(data.session_start_info.hparams))
    assert shown == [["filters", "rate", "seed"]] * 4


def test_an_axis_may_name_what_has_no_flag(here):
    make("tiny.py", "--grid", "source=a", "--name", "t")
    (row,) = results("t")
    assert row["status"] == "finished" and row["source"] == "a" and row["data"] == "D"
    with pytest.raises(InputError, match="made with source='a', not 'b'"):
        make("tiny.py", "--grid", "source=b", "--name", "t")


def test_two_configurations_cannot_share_a_folder(here):
    with pytest.raises(InputError, match="--name"):
        make("tiny.py", "--grid", "rate=1,2", "--", "s", "--name", "x")
    assert make("tiny.py", "--grid", "rate=1,1", "--", "s") == 0  # of two equal ones, one is run
    assert len(results("tiny-rate")) == 1


# --------------------------------------------------------------------------------------- studies

STUDY = '''question = "?"
script = "tiny.py"
seeds = [0, 1]
fixed = {source = "from-{seed}"}
[[configurations]]
name = "half, plain"
rate = 0.5
[[configurations]]
name = "lost"
rate = 99.0
'''


@pytest.fixture
def study(here):
    (here / "studies").mkdir()
    (here / "studies/s.toml").write_text(STUDY)
    return here


@pytest.mark.slow
def test_a_study_is_made_collected_and_skipped(study, capsys):
    """Its runs lie in a folder of its name; to diverge is a result; nothing is made twice."""
    assert make("s", "--jobs", 2) == 0
    rows = {(row["configuration"], row["seed"]): row for row in stored.read_csv("studies/s.csv")}
    assert {key: row["status"] for key, row in rows.items()} == {
        ("half, plain", 0): "finished", ("half, plain", 1): "finished", ("lost", 0): "diverged",
        ("lost", 1): "diverged"}
    assert rows["half, plain", 1]["test_accuracy"] == 0.5 / 3 and rows["lost", 0]["rate"] == "99.0"
    assert rows["half, plain", 0]["processor"] == "P"
    folder = study / "logs/s/half-plain-seed1"
    assert read_json(folder / "config.json")["options"]["source"] == "from-1"
    capsys.readouterr()
    assert make("s") == 0 and "4 runs stand in" in capsys.readouterr().out
    assert (folder / "begun").read_text() == "x"


@pytest.mark.slow
def test_rows_of_runs_elsewhere_stay(study, capsys):
    make("s")
    before = (study / "studies/s.csv").read_text()
    (study / "logs").rename(study / "elsewhere")
    (study / "studies/s.toml").write_text(STUDY.replace("[0, 1]", "[0, 1, 2]"))
    make("s")
    after = (study / "studies/s.csv").read_text()
    assert set(before.splitlines()) < set(after.splitlines()) and after.count("\n") == 7
    assert "2 runs, 0 of them finished" in capsys.readouterr().out
    make("s", "--again")
    assert "6 runs, 0 of them finished" in capsys.readouterr().out
    assert (study / "logs/s/half-plain-seed2/begun").read_text() == "xx"


@pytest.mark.slow
def test_rows_of_code_that_is_gone_stay_and_are_not_made(study, capsys, monkeypatch):
    """Options that today's code does not know stop neither the study nor its check."""
    (study / "studies/s.toml").write_text(
        STUDY + '[[configurations]]\nname = "gone"\nmixup = 0.2\ncommit = "abc"\n')
    assert make("s", "--cores", 1) == 0
    out = capsys.readouterr().out
    assert "4 runs, 0 of them" in out and "2 of gone need the code of commit abc" in out
    rows = stored.read_csv("studies/s.csv")
    rows += [rows[0] | {"configuration": "gone", "mixup": "0.2", "seed": k} for k in (0, 1)]
    stored.write_csv(study / "studies/s.csv", rows)
    assert make("s", "--again", "--cores", 1) == 0
    monkeypatch.setattr(random, "sample", lambda population, k: population[:k])  # "gone" first
    capsys.readouterr()
    assert make("s", "--verify", 1) == 0 and "ok       half-plain" in capsys.readouterr().out
    assert [row["mixup"] for row in stored.read_csv("studies/s.csv") if "mixup" in row] == [
        "0.2", "0.2"]


def test_again_replaces_runs_that_are_there_and_goes_on_after_a_stop(study, monkeypatch, capsys):
    """Whatever the clock says: here it jumps back by an hour before each run."""
    clock = iter(range(10**18, 0, -3600 * 10**9))

    def make_some(attempt, jobs, options, out, failed):
        for job in [job for job in jobs if not job.finished]:
            words.append(command(job, 1)[-1])
            shutil.rmtree(job.folder, ignore_errors=True)
            job.folder.mkdir(parents=True)
            write_json(job.folder / "config.json", {
                "options": {name: getattr(job.config, name) for name in ("name", "seed", "rate")},
                "total_steps": 3, "data": {"title": "D"}})
            os.utime(job.folder / "config.json", ns=(0, next(clock)))
            if len(words) == stop:
                raise InputError("stopped")
            write_json(job.folder / "result.json", {"test_accuracy": 0.5, "train_seconds": 1.0})

    def made(*more):
        words.clear()
        assert make("s", *more) == 0
        return words
    words, stop = [], 0
    monkeypatch.setattr(sweep, "run_all", make_some)
    assert made() == ["--resume"] * 4 and made() == []
    (study / "studies/s.toml").write_text(STUDY.replace("rate = 0.5", "rate = 0.75"))
    stop = 2
    with pytest.raises(InputError, match="stopped"):
        made("--again")
    assert words == ["--overwrite"] * 2 and (study / "logs/sweeps/s/again").exists()
    words, stop = [], 0
    assert make("s", "--again") == 0 and words == ["--resume", "--overwrite", "--overwrite"]
    assert "goes on with the --again that was stopped" in capsys.readouterr().out
    assert {row["rate"] for row in stored.read_csv("studies/s.csv")} == {"0.75", "99.0"}
    assert made("--again") == ["--overwrite"] * 4


@pytest.mark.slow
def test_verify(study, capsys, monkeypatch):
    """Equal to the last digit on the same processor; on another within three deviations."""
    make("s", "--cores", 1)
    capsys.readouterr()
    assert make("s", "--verify", 9) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [
        ["ok", "half-plain-seed0:"], ["ok", "half-plain-seed1:"], ["ok", "lost-seed0:"],
        ["ok", "lost-seed1:"]] and "equal to the last digit" in lines[0]
    monkeypatch.setattr(random, "sample", lambda population, k: population[:k])
    text = (study / "studies/s.csv").read_text()
    for old, new, status, said in (
            ("0.25,", "0.26,", 1, "test_accuracy 0.26 is now 0.25; the row does not say memory "
             "(now 5), scipy (now 1.0)\n"),  # the same processor
            ("0.25,1.0,finished,1,T,P", "0.26,1.0,finished,1,T,Q", 0, "within three"),
            ("0.25,1.0,finished,1,T,P", "0.17,1.0,finished,1,T,Q", 1, "is not within 0.1683")):
        edited = text.replace(old, new, 1)
        assert edited != text, text
        (study / "studies/s.csv").write_text(edited)
        assert make("s", "--verify", 1) == status and said in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--seed 5", "--seed=5", "--logdir x", "--resume", "--overwrite"])
def test_what_a_sweep_gives_its_runs_is_not_given_after_it(words, tmp_path, capsys):
    """Nor in a list or a grid."""
    (tmp_path / "list").write_text(f"--rate 1 {words} # --rate 2\n")
    flag = words.replace("=", " ").split()[0]
    for given in (["--", "--rate", "1", *words.split()], ["--list", str(tmp_path / "list")],
                  ["--grid", f"{flag[2:]}=1,2"]):
        with pytest.raises(SystemExit) as exit:
            sweep.command_line(["tiny.py", *given])
        assert exit.value.code == 2 and f"{flag} is not for single" in capsys.readouterr().err


def test_bad_input_is_one_line(study, poison):
    for bad, said in ((("tiny.py", "--grid", "kernel=3"), "--kernel"),
                      (("none",), "studies are s"), (("other.py",), "no such script"),
                      (("tiny.py", "--grid", "name=it's"), "quotation"),
                      (("s", "--seeds", 0), "without seeds"), (("s", "--", "--rate", 1), "common"),
                      (("tiny.py", "--jobs", 0), "--jobs"), (("tiny.py", "--name", ".."), "--name"),
                      (("s", "--backend", "dask"), "--address"),
                      (("tiny.py", "--again"), "--again"),
                      (("tiny.py", "--grid", "source= "), "source"),
                      (("tiny.py", "--list", "no"), "No such file")):
        try:
            make(*bad)
        except InputError as error:
            assert said in str(error)
        except SystemExit as error:
            assert error.code == 2
        else:
            pytest.fail(f"{bad} was accepted")
    assert_one_line(run("sweep.py", "tiny.py", "--jobs", 0, cwd=study, PYTHONPATH=poison), "--jobs")
    assert not list(study.rglob("*.json"))


# --------------------------------------------------------------------------- stops and clusters

def runs_below(folder):
    """Process ids of the script in `folder`."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if str(folder / "tiny.py").encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def wait_for_run(folder, count=1):
    while len(list(folder.glob("logs/*/*/begun"))) < count:
        time.sleep(0.02)


def test_killed_runs_are_tried_again(here, capsys):
    def kill():
        wait_for_run(here)
        (pid,) = runs_below(here)
        os.kill(pid, signal.SIGKILL)
    threading.Thread(target=kill, daemon=True).start()
    assert make("tiny.py", "--retries", 1, "--name", "k", "--", "s", "--seconds", 60) == 0
    assert capsys.readouterr().err == "" and results("k")[0]["test_accuracy"] == "0.25"


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_stopping_a_sweep_stops_its_runs(here, jobs):
    """They are asked to save, not killed. Meanwhile no other process can make the same."""
    words = ("sweep.py", "tiny.py", "--name", "s", "--jobs", jobs, "--cores", 1, "--seeds",
             *range(jobs), "--", "s", "--seconds", 60)
    process = start(*words, cwd=here)
    wait_for_run(here, jobs)
    with pytest.raises(InputError, match="logs/sweeps/s is being filled by another process"):
        make(*words[1:])
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and err.count("\n") == 1 and "same command" in err, err
    assert runs_below(here) == [] and results("s")[0]["status"] == "unfinished"
    assert len(list(here.glob("logs/tiny/*/saved"))) == jobs
    assert make(*words[1:]) == 0 and results("s")[0]["status"] == "finished"


def test_a_run_that_leaves_its_result_elsewhere_has_failed(here, monkeypatch, capsys):
    """As of a copied script whose Run("tiny", ...) was not renamed, which ends with status 0."""
    monkeypatch.setattr(sweep, "attempt", lambda run, *_: (run, 0))
    assert make("tiny.py", "--name", "e", "--", "s") == 1
    assert "tiny-seed0 failed: it ended well, but left no result in logs/tiny/tiny-seed0" in (
        capsys.readouterr().err)
    assert results("e")[0]["status"] == "failed"


def test_a_lost_worker_counts_as_a_try(here, monkeypatch, capsys):
    """The first attempt loses its worker; the other runs go on, and a retry makes the lost one."""
    def lose(*arguments):
        if not os.path.exists("lost"):
            pathlib.Path("lost").touch()
            raise RuntimeError("worker gone")
        return attempt(*arguments)
    attempt = sweep.attempt
    monkeypatch.setattr(sweep, "attempt", lose)
    assert make("tiny.py", "--seeds", 0, 1, "--name", "l", "--retries", 1, "--", "s") == 0
    assert [row["status"] for row in results("l")] == ["finished"] * 2
    (here / "lost").unlink()
    assert make("tiny.py", "--seeds", 7, "--name", "l", "--", "s") == 1
    assert "its worker was lost (worker gone)" in capsys.readouterr().err


@pytest.mark.slow
def test_cluster(here, monkeypatch):
    """Two runs on two workers, of which one is killed; a cluster that is not there is one line."""
    import distributed
    monkeypatch.setattr(distributed, "Client", lambda address, timeout, client=distributed.Client:
                        client(address, timeout=min(timeout, 1)))
    with pytest.raises(InputError, match="no dask cluster"):
        sweep.connect(sweep.command_line(["tiny.py", "--backend", "dask", "--address",
                                          "127.0.0.1:9"]))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as c:
        process = start("sweep.py", "tiny.py", "--seeds", 0, 1, "--jobs", 2, "--name", "c",
                        "--backend", "dask", "--address", c.scheduler_address, "--", "s",
                        "--seconds", 1.5, cwd=here)
        wait_for_run(here)
        os.kill(c.workers[0].pid, signal.SIGKILL)
        _, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, ""), err
    assert [row["test_accuracy"] for row in results("c")] == ["0.25", str(0.5 / 3)]


@pytest.mark.slow
def test_a_study_of_the_project_can_be_made(tmp_path, monkeypatch, quick_figures):
    """A real network, small: its curves and kernels are kept, and a second training is equal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "attempt", attempt_here)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/s.toml").write_text(
        'question = "?"\nscript = "cifar_lenet5.py"\nfixed = {data = "digits", filters = [4], '
        'units = 8, batch_size = 8, steps = 20, evaluations = 1, snapshots = 0}\n'
        '[[configurations]]\nname = "a"\n')
    assert make("s") == 0
    (row,) = stored.rows(stored.load("s"))
    assert row["steps"] == 20 and 0 <= row["structured"] <= 1
    assert row["tensorflow"] and row["keras"] and row["numpy"]
    kept = stored.series("s")["a-seed0"]
    assert kept["train", "filters/kernel"][2][0].shape == (5, 5, 1, 4)
    assert len(kept["train", "batch/loss"][2]) == 20
    assert make("s", "--verify", 1) == 0
