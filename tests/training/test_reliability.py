"""What can be wrong around a script, a row each: one line names it, and nothing is lost.

Damaged images and digits, file by file, are in tests/sources/; killed and stopped runs in
test_scripts.py.
"""
import hashlib
import json
import os
import pathlib
import resource
import shutil

import filelock
import fuzz
import numpy as np
import pytest
from conftest import assert_one_line, interrupted_at, run_script, weights_of, write_images
from PIL import Image

from comparisons import stored
from sources import cache
from system.files import load_arrays

TRAIN = ("cifar_lenet5.py", "--data", "Bilder", "--filters", "4", "--units", "4", "--batch-size",
         "4", "--steps", "4", "--evaluations", "2", "--name", "x")
AGAIN = TRAIN[:-1]  # and a name
RUN, STOPPED = "logs/cifar_lenet5/x-seed0", "logs/cifar_lenet5/stopped-seed0"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with images in Bilder/, a finished run of them and an interrupted one; its path has
    spaces and umlauts."""
    folder = tmp_path_factory.mktemp("größere Läufe")
    for part in ("train", "test"):
        for name in ("eins", "zwei ö"):
            (folder / "Bilder" / part / name).mkdir(parents=True)
            for i in range(6):
                Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(
                    folder / "Bilder" / part / name / f"{i}.png")
    status, _, err = run_script(*TRAIN, cwd=folder)
    assert (status, err) == (0, "")
    with interrupted_at(2):
        status, _, err = run_script(*AGAIN, "stopped", cwd=folder)
    assert status == 143 and "--resume" in err
    return folder


def contents(folder):
    """{path: checksum} of all files and, without one, folders."""
    return {p.relative_to(folder).as_posix(): p.is_file() and hashlib.md5(
        p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*"))}


def found(home, pattern):
    paths = sorted(home.glob(pattern))
    assert paths, f"nothing to damage: {pattern}"
    return paths


def remove(*patterns):
    def do(home):
        for pattern in patterns:
            for path in found(home, pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return do


def cut(pattern):
    """Leave two thirds of each file."""
    def do(home):
        for path in found(home, pattern):
            path.write_bytes(path.read_bytes()[:path.stat().st_size * 2 // 3])
    return do


def option(name, value):
    """Another value in config.json."""
    def do(home):
        config = json.loads((home / RUN / "config.json").read_text())
        config["options"][name] = value
        (home / RUN / "config.json").write_text(json.dumps(config))
    return do


def gone(home):
    """The images are neither where the run was begun nor where it says they were."""
    remove("Bilder")(home)
    config = json.loads((home / RUN / "config.json").read_text())
    config["data_path"] = str(home / "Bilder")
    (home / RUN / "config.json").write_text(json.dumps(config))


def write(path):
    def do(home):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text("something else")
    return do


def nothing(home):
    pass


DRAW = ("visualize.py", "strongest", RUN, "--out", "figures")
REFUSED = {
    "no such data": (nothing, (*AGAIN, "y", "--data", "nowhere"), ["nowhere", "no such file"]),
    "a class without images": (remove("Bilder/train/eins/*"), (*AGAIN, "y"), ["'eins'"]),
    "a truncated image": (cut("Bilder/train/eins/1.png"), (*AGAIN, "y"), ["1.png"]),
    "no digits there": (nothing, ("mnist_rnn.py", "--data", "nowhere"), ["nowhere"]),
    "a data folder that cannot be written": (
        nothing, (*AGAIN, "y", "--data", "elec677", "--data-dir", "/proc"), ["/proc"]),
    "an archive that is none": (write("data/CIFAR10.zip"),
                                ("cifar_lenet5.py", "--data-dir", "data"), ["CIFAR10.zip"]),
    "damaged digits": (write("data/mnist/train-images-idx3-ubyte.gz"),
                       ("mnist_rnn.py", "--data-dir", "data"), ["train-images"]),
    "classes that are not there": (nothing, (*AGAIN, "y", "--classes", "0-4"), ["--classes"]),
    "no steps": (nothing, (*AGAIN, "y", "--steps", "0"), ["nothing to train"]),
    "no steps of a recurrent net": (nothing, ("mnist_rnn.py", "--data", "Bilder", "--steps", "0"),
                                    ["nothing to train"]),
    "a logs folder that cannot be written": (nothing, (*AGAIN, "y", "--logdir", "/proc"),
                                             ["/proc"]),
    "a logs folder that is a file": (write("l"), (*AGAIN, "y", "--logdir", "l"),
                                      ["l/cifar_lenet5", "Not a directory"]),
    "a finished run": (nothing, TRAIN, ["finished", "--overwrite"]),
    "a finished run of other options": (nothing, (*TRAIN, "--resume",
                                                  "--learning-rate", "0.5"),
                                        ["finished", "learning_rate=0.002", "0.5"]),
    "an interrupted run": (nothing, (*AGAIN, "stopped"), ["interrupted", "--resume"]),
    "an interrupted run of other options": (nothing, (
        *AGAIN, "stopped", "--resume", "--learning-rate", "0.5"), ["learning_rate=", "0.5"]),
    "a folder that is no run": (write("logs/cifar_lenet5/y-seed0/thesis.tex"), (*AGAIN, "y"),
                                ["no run"]),
    "half a config.json": (cut(f"{RUN}/config.json"), DRAW, ["config.json"]),
    "a list where a number should be": (option("units", [4]), DRAW, ["config.json"]),
    "a word where numbers should be": (option("filters", "many"), DRAW, ["config.json"]),
    "numbers that no command line takes": (option("filters", [4, 0]), DRAW, ["config.json"]),
    "another network than was trained": (option("units", 5), DRAW, ["build_model", "units=4", "5"]),
    "deleted weights": (remove(f"{RUN}/model.keras"), DRAW, ["no checkpoint"]),
    "damaged weights": (cut(f"{RUN}/model.keras"), DRAW, ["model.keras"]),
    "damaged checkpoints": (cut(f"{STOPPED}/checkpoints/*"), (
        "visualize.py", "strongest", STOPPED), ["step-00000002.npz"]),
    "snapshots that were not made": (remove(f"{RUN}/snapshots"),
                                     ("visualize.py", "evolution", RUN, "--out", "figures"),
                                     ["--snapshots"]),
    "other data than the run's": (remove("Bilder/train/eins/0.png"), DRAW, ["other data"]),
    "data that are gone": (gone, DRAW, ["Bilder", "give their place as --data"]),
    "a figure of what is no run": (nothing, ("visualize.py", "curves", "Bilder"), ["Bilder"]),
    "a table of unfinished runs": (nothing, ("visualize.py", "table", STOPPED), ["result.json"]),
    "transfer from what is no run": (nothing, ("transfer.py", "Bilder"), ["Bilder"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(home, tmp_path, case):
    """Exit status 2, one line that names the cause; no file is changed, none is new."""
    spoil, words, said = REFUSED[case]
    here = shutil.copytree(home, tmp_path / "a ü")
    spoil(here)
    before = contents(here)
    assert_one_line(run_script(*words, cwd=here), *said)
    assert contents(here) == before


def test_two_runs_of_one_name_at_once(home):
    with filelock.FileLock(home / RUN.replace("x-seed0", ".x-seed0.lock")):
        before = contents(home)
        assert_one_line(run_script(*TRAIN, "--overwrite", cwd=home), "another process")
        assert contents(home) == before


@pytest.mark.slow
def test_truncated_event_files_are_drawn_as_far_as_they_go(home, tmp_path):
    here = shutil.copytree(home, tmp_path / "a ü")
    cut(f"{RUN}/train/events*")(here)
    status, _, err = run_script("visualize.py", "curves", RUN, "--out", "f", cwd=here)
    assert (status, err) == (0, "")
    drawn = load_arrays(here / "f/x-seed0/curves.npz")
    assert any("batch/loss" in name for name in drawn), list(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints(home, tmp_path, damaged):
    """--resume goes on from the one before, or from the start, says so, and ends with the same
    weights."""
    here = shutil.copytree(home, tmp_path / "a ü")
    for step in (2, 0)[:damaged]:
        cut(f"{STOPPED}/checkpoints/step-{step:08}.npz")(here)
    status, _, err = run_script(*AGAIN, "stopped", "--resume", cwd=here)
    assert status == 0 and err.count("\n") == damaged and "step-00000002.npz is damaged" in err
    np.testing.assert_equal(weights_of(here / STOPPED), weights_of(here / RUN))


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_whatever_is_damaged_is_read_or_refused_in_one_line(kind, tmp_path, monkeypatch, capfd):
    """Few inputs, always the same; more by `python tests/fuzz.py`."""
    monkeypatch.setattr(cache, "CACHE", pathlib.Path("/dev/null/none"))
    monkeypatch.setattr(stored, "FOLDER", stored.FOLDER)  # is changed
    counts = fuzz.fuzz(kind, 0, 20, tmp_path)
    never = {"events": {"refused"}, "cache": {"refused"}, "weights": {"read"}}
    assert capfd.readouterr().out == "" and {*counts} == {"read", "refused"} - never.get(
        kind, set())


def test_the_fuzzer_sees_what_is_written_elsewhere(tmp_path):
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.write_text("a")
    fuzz.watch()
    for inside in (lambda: (own / "a").write_text("a"), lambda: (own / "a").rename(own / "b"),
                   lambda: (own / "c").symlink_to(other), other.read_text):
        assert (fuzz.outcome(inside, own), fuzz.WRITTEN) == ("read", [])
    for what, change in (
            ("open", lambda: (own / "../x").write_text("")), ("os.truncate", lambda: os.truncate(
                other, 0)), ("os.rename", lambda: (own / "b").rename(tmp_path / "b")),
            ("os.link", lambda: os.link(own / "c", tmp_path / "c")), ("os.remove", other.unlink),
            ("os.symlink", lambda: (tmp_path / "d").symlink_to(own)),
            ("os.mkdir", (tmp_path / "e").mkdir), ("os.rmdir", (tmp_path / "e").rmdir)):
        assert fuzz.outcome(change, own) == "read"
        assert [line.split()[0] for line in fuzz.WRITTEN] == [what]
        fuzz.WRITTEN.clear()


def test_the_fuzzer_sees_who_waits_or_takes_too_much(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(fuzz, "WAIT", 0.1)
    assert fuzz.outcome((tmp_path / "pipe").read_text, tmp_path) == "Slow: "
    monkeypatch.setattr(fuzz, "memory", iter([3_999_999, 4_200_000, 4_200_000]).__next__)
    assert fuzz.outcome(lambda: None, tmp_path) == "4.2 GB of memory"


@pytest.mark.slow
def test_full_disk(tmp_path):
    """What does not fit, here a snapshot, is named and not left half-written; --resume goes on."""
    words = ("cifar_lenet5.py", "--data", write_images(tmp_path / "images", side=8), "--steps", 2,
             "--batch-size", 4, "--units", 4, "--evaluations", 1, "--name", "x")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 ** 5, limits[1]))
    try:
        full = run_script(*words, cwd=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_one_line(full, "snapshots/step-00000000.npz")
    assert not list(tmp_path.rglob("*.npz")) and not list(tmp_path.rglob("*.tmp"))
    assert run_script(*words, "--resume", cwd=tmp_path)[::2] == (0, "")
