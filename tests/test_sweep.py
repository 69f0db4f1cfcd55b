"""Sweeps through their command line, on this machine and on clusters of two workers."""
import argparse
import contextlib
import csv
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, assert_one_line, run, start

import machine
import runs
import sweep
from charts import read_events

POISON = str(ROOT / "tests" / "poison")  # on the import path it makes `import tensorflow` fail
SMALL = ("--data", "synthetic", "--filters", 4, "--units", 8, "--batch", 8, "--snapshots", 0)


def test_combinations():
    assert sweep.combinations([], []) == [[]]
    assert sweep.combinations(["a=1,2", "flip=yes,no"], ["--x 'y z'"]) == [
        ["--x", "y z", "--a", "1", "--flip"], ["--x", "y z", "--a", "1", "--no-flip"],
        ["--x", "y z", "--a", "2", "--flip"], ["--x", "y z", "--a", "2", "--no-flip"]]
    assert sweep.combinations(["filters=32 64,8"], []) == [
        ["--filters", "32", "64"], ["--filters", "8"]]
    with pytest.raises(runs.InputError, match="OPTION=VALUE"):
        sweep.combinations(["flip"], [])


def results(logs, name):
    with open(logs / "sweeps" / name / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def runs_below(logs):
    """Process ids of the experiments that write below `logs`."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = file.read_bytes().split(b"\0")
            if str(logs).encode() in words and str(ROOT / "cifar_lenet5.py").encode() in words:
                found.append(int(file.parent.name))
    return found


def test_grid_list_and_failures(tmp_path):
    """Two good configurations and one that diverges; then everything that worked is skipped."""
    (tmp_path / "list").write_text(
        "--steps 2  # the good ones\n\n--steps 40 --loss unclamped --optimizer sgd --rate 1e4\n")
    logs = tmp_path / "logs"
    words = ("sweep.py", "cifar_lenet5.py", "--list", tmp_path / "list", "--seeds", 0, 1,
             "--logs", logs, "--name", "x", "--jobs", 2, "--", *SMALL, "--schedule", "constant")
    status, out, err = run(*words)
    assert status == 1 and err.count("\n") == 2 and err.count("exit status 3") == 2, err
    assert "4 runs, 0 of them finished" in out and "2 of 4 runs finished" in out
    rows = results(logs, "x")
    assert sorted((row["steps"], row["status"]) for row in rows) == [
        ("2", "finished")] * 2 + [("40", "diverged")] * 2
    rows = [row for row in rows if row["status"] == "finished"]
    assert sorted((row["seed"], row["steps"], row["optimizer"]) for row in rows) == [
        ("0", "2", "adamw"), ("1", "2", "adamw")]
    for row in rows:
        folder = logs / "cifar_lenet5" / row["run"]
        result = runs.read_json(folder / "result.json")
        assert float(row["test_accuracy"]) == result["test_accuracy"]
        assert runs.read_json(folder / "config.json")["options"]["replicas"] == max(
            1, machine.cores() // 2)
        (tag,) = [key for key in read_events(logs / "sweeps" / "x" / row["run"])
                  if key[1] == "result/test_accuracy"]
        assert tag
    times = {row["run"]: (logs / "cifar_lenet5" / row["run"] / "result.json").stat().st_mtime_ns
             for row in rows}
    status, out, _ = run(*words)
    assert status == 1 and "4 runs, 2 of them finished" in out
    assert times == {name: (logs / "cifar_lenet5" / name / "result.json").stat().st_mtime_ns
                     for name in times}


def test_transfer_can_be_swept(tmp_path):
    """Its source has no flag, but an axis of a grid may name it; results say what data they are of.
    """
    source = tmp_path / "cifar_lenet5" / "s-seed0"
    assert run("cifar_lenet5.py", *SMALL, "--steps", 3, "--name", "s", "--logs", tmp_path)[0] == 0
    words = ("sweep.py", "transfer.py", "--logs", tmp_path, "--name", "t")
    after = ("--data", "synthetic", "--scratch-steps", 0, "--strengths", 1, "--per-class", 1, 2)
    status, _, err = run(*words, "--grid", f"source={source}", "--", *after)
    assert status == 0 and err == "", err
    (row,) = results(tmp_path, "t")
    assert row["status"] == "finished" and row["data"].startswith("SYNTHETIC")
    assert 0 <= float(row["test_accuracy/svm/relu1/2"]) <= 1
    (tmp_path / "list").write_text(f"{source} --strengths 2\n")  # the same run, another option
    assert_one_line(run(*words, "--list", tmp_path / "list", "--", *after, "--name",
                        row["run"].removesuffix("-seed0")), "strengths=[1.0]")


def test_killed_runs_are_tried_again(tmp_path):
    words = ("sweep.py", "cifar_lenet5.py", "--grid", "dropout=0.1", "--logs", tmp_path,
             "--retries", 1, "--", *SMALL, "--steps", 400, "--evaluations", 20)
    process = start(*words)
    folder = tmp_path / "cifar_lenet5"
    while process.poll() is None and not list(folder.glob("*/checkpoints/*.npz")):
        time.sleep(0.02)
    (pid,) = runs_below(tmp_path)
    os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and err == "", err
    (row,) = results(tmp_path, "cifar_lenet5-dropout")
    assert row["seed"] == "0" and 0 <= float(row["test_accuracy"]) <= 1


def test_stopping_a_sweep_stops_its_runs(tmp_path):
    words = ("sweep.py", "cifar_lenet5.py", "--logs", tmp_path, "--name", "s", "--", *SMALL,
             "--steps", 300, "--evaluations", 20)
    process = start(*words)
    while process.poll() is None and not list(tmp_path.glob("*/*/checkpoints/*.npz")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and err.count("\n") == 1 and "same command" in err, err
    time.sleep(1)
    assert runs_below(tmp_path) == []
    status, out, err = run(*words)
    assert status == 0 and "0 of them finished" in out and len(results(tmp_path, "s")) == 1, err


def test_bad_input_is_one_line(tmp_path):
    words = ("sweep.py", "cifar_lenet5.py", "--logs", tmp_path / "l")
    assert_one_line(run(*words, "--grid", "kernel=3"), "--kernel")
    assert_one_line(run(*words, "--backend", "dask", "--address", "127.0.0.1:9"), "no dask cluster")
    assert_one_line(run("sweep.py", "other.py", PYTHONPATH=POISON), "cifar_lenet5.py")
    assert_one_line(run(*words, "--grid", "name=it's"), "quotation")
    for bad in (("--jobs", 0), ("--name", "../x"), ("--name", ".."), ("--backend", "dask"),
                ("--backend", "ray")):
        assert_one_line(run(*words, *bad, PYTHONPATH=POISON), bad[0])
    assert_one_line(run(*words, "--list", tmp_path / "no", PYTHONPATH=POISON), "no", "No such file")
    assert not list(tmp_path.rglob("*.json"))


def test_two_configurations_cannot_share_a_folder(tmp_path):
    options = argparse.Namespace(experiment="cifar_lenet5.py", grid=["rate=1,2"], lines=[],
                                 seeds=[0], logs=str(tmp_path), common=["--name", "x"])
    with pytest.raises(runs.InputError, match="--name"):
        sweep.plan(options)
    options.common = ["--rate", "1"]  # of two equal ones, one is run
    options.grid = ["rate=1,1"]
    assert len(sweep.plan(options)) == 1


@pytest.fixture
def dask_cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as c:
        yield c.scheduler_address


@pytest.fixture
def ray_cluster():
    pytest.importorskip("ray")
    command = [pathlib.Path(sys.executable).with_name("ray")]
    subprocess.run([*command, "start", "--head", "--num-cpus=2", "--port=6399",
                    "--include-dashboard=false"], check=True, capture_output=True, timeout=120)
    yield "127.0.0.1:6399"
    subprocess.run([*command, "stop", "--force"], check=True, capture_output=True)


CLUSTER = ("cifar_lenet5.py", "--seeds", 0, 1, "--jobs", 2, "--name", "c")
STEPS = ("--", *SMALL, "--steps", 3)


def accuracies(logs):
    return {row["run"]: row["test_accuracy"] for row in results(logs, "c")}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Test accuracies of two runs made on this machine."""
    logs = tmp_path_factory.mktemp("here")
    assert run("sweep.py", *CLUSTER, "--logs", logs, *STEPS)[0] == 0
    return accuracies(logs)


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_cluster(backend, here, tmp_path, request):
    """Two runs on two worker processes: the same results as anywhere."""
    address = request.getfixturevalue(f"{backend}_cluster")
    status, out, err = run("sweep.py", *CLUSTER, "--backend", backend, "--address", address,
                           "--logs", tmp_path, *STEPS)
    err = re.sub(r"\[.* network_util\.cc.*\n", "", err)  # what ray says where there is no network
    assert status == 0 and err == "", err
    assert accuracies(tmp_path) == here and len(here) == 2
