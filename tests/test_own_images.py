"""One's own images on the command line: trained on, looked into, moved, refused."""
import csv
import shutil

import numpy as np
import pytest
import written
from conftest import assert_one_line, run_script
from written import TWO, below, folder, idx_folder, packed, png, values

from cifar_lenet5 import RECIPES, Config
from inside.trained import Record
from mnist_rnn import RECIPES as RNN_RECIPES
from mnist_rnn import Config as RnnConfig
from system import machine
from system.command_line import InputError, import_script, parse
from system.files import read_json
from training.loop import load_training_data

cache = written.cache
TINY = "--steps", 2, "--evaluations", 1, "--batch-size", 4, "--threads", 1, "--name", "x"
LENET = *TINY, "--filters", 2, 2, "--units", 4
RNN = *TINY, "--units", 4, "--cell", "rnn", "--layers", 1
CLASSES = ("$1 to $5", "a, b", 'say "hi"', "naïve αβγ", "two\nlines", r"$\frac$")


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """The working folder of a run on pictures of classes with strange names, and what it printed:
    (folder, run, text)."""
    place = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    folder(place / "mine", {
        f"{part}/{name}/{i}.png": png(rng.integers(0, 256, (8, 9))) for part, count in (
            ("train", 3), ("test", 2), ("val", 1)) for name in CLASSES
        for i in range(count + (name == CLASSES[4]))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written.cache_of_arrays, "CACHE", place / "cache")
        status, out, err = run_script("cifar_lenet5", "--data", "mine", *LENET, "--class-weight",
                                      "balanced", cwd=place)
    assert status == 0, err
    return place, place / "logs" / "cifar_lenet5" / "x-seed0", out


@pytest.mark.slow
def test_what_a_run_says_of_its_images(own_run):
    _, run, out = own_run
    said = read_json(run / "config.json")["data"]
    assert tuple(said["classes"]) == tuple(sorted(CLASSES)) and said["validation"] == 7
    assert said["train"] == 19 and said["test"] == 13
    assert sorted(said["counts"]) == [3] * 5 + [4]
    assert "mine (8x9 grey, 19 train, 13 test, 7 validation)" in out
    assert r"each of 3 ($1 to $5) to 4 (two\nlines) training images" in out
    assert "needs about" in out and "GB of memory" in out


@pytest.mark.slow
def test_figures_and_tables_of_strange_names(own_run, tmp_path, quick_figures):
    place, run, _ = own_run
    run = shutil.copytree(run, tmp_path / "run")
    for command in ("statistics", "projector"):
        status, out, err = run_script("visualize", command, run, "--out", tmp_path / "out")
        assert status == 0, err
    with open(tmp_path / "out" / "run" / "statistics.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows if row["layer"] == "relu1" and row["map"] == "0"] == [
        *sorted(CLASSES), "all"]
    lines = (run / "result" / "projector" / "labels.tsv").read_text().split("\n")
    assert lines.pop() == "" and len(lines) == 13 and lines.count("two lines") == 3
    assert lines.count("naïve αβγ") == 2


@pytest.mark.slow
def test_figures_find_images_from_elsewhere_and_after_a_move(own_run, tmp_path, monkeypatch,
                                                             quick_figures):
    place, run, _ = own_run
    monkeypatch.chdir(tmp_path)  # "mine" is not here
    data = Record(run, import_script).network.data
    assert data.classes == tuple(sorted(CLASSES)) and data.name == "mine"
    other = folder(tmp_path / "other", values(**TWO))
    shutil.copytree(place / "mine", tmp_path / "moved")
    for given, words in ((other, "was trained on other data .mine"), ("nowhere", "no such file")):
        with pytest.raises(InputError, match=words):
            _ = Record(run, import_script, data=str(given)).network
    (place / "mine").rename(place / "gone")
    try:
        with pytest.raises(InputError, match=f"at {place / 'mine'}, where none are now; give"):
            _ = Record(run, import_script).network
        assert_one_line(run_script("visualize", "activations", run, "--out", tmp_path / "out"),
                        "where none are now", "--data")
        for moved in ("moved", tmp_path / "moved"):
            network = Record(run, import_script, data=str(moved)).network
            assert network.data.checksum == data.checksum
        status, out, err = run_script("visualize", "activations", run, "--data", "moved", "--out",
                                      tmp_path / "out")
        assert status == 0 and (tmp_path / "out" / "x-seed0" / "activations.png").exists(), err
    finally:
        (place / "gone").rename(place / "mine")


@pytest.mark.slow
def test_a_recurrent_net_reads_colour_and_resized_pictures(tmp_path):
    colour = {name: png(np.tile(np.uint8([i, 9, 3]), (6, 7, 1))) for i, name in enumerate(
        values(**TWO))}
    folder(tmp_path / "set", colour)
    status, out, err = run_script("mnist_rnn", "--data", "set", "--image-size", "4x5", *RNN,
                                  cwd=tmp_path)
    assert status == 0 and "set (4x5 colour, 4 train, 2 test)" in out, err


@pytest.mark.parametrize("words, said", [
    ((), "no test set; --test-split"), (("--test-split", "0.3", "--image-size", "0"), "32x48"),
    (("--test-split", "2"), "'2' is not a number of at least 0 up to 0.9"),
    (("--background", "red"), "--background"), (("--classes", "7", "--test-split", "0.3"), "0-4")])
def test_what_is_refused_is_one_line_and_leaves_nothing(tmp_path, words, said):
    folder(tmp_path / "set", values(cats=dict(cat=[*range(9)], dog=[*range(20, 29)])))
    assert_one_line(run_script("cifar_lenet5", "--data", "set", *LENET, *words, cwd=tmp_path), said)
    assert not (tmp_path / "logs").exists()


def test_too_large_a_network_is_refused(tmp_path, monkeypatch):
    folder(tmp_path / "set", values(**TWO))
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)  # the pictures would fit, no network
    assert_one_line(run_script("cifar_lenet5", "--data", "set", *LENET, cwd=tmp_path),
                    "training this network would take 0.5 GB of memory", "--force tries it")
    assert not (tmp_path / "logs").exists()


def test_validation_pictures_are_what_training_observes(tmp_path):
    """None of the training pictures is held out then, whatever --validation-split says."""
    path = folder(tmp_path / "set", values(**TWO, val=dict(cat=[13])))
    data = load_training_data(Config(data=str(path), validation_split=0.5))
    assert data.images[:, 0, 0, 0].tolist() == [10, 11, 20, 21]
    images, labels = data.observed["validation"]
    assert images[:, 0, 0, 0].tolist() == [13] and labels.tolist() == [0]
    assert data.source.notes == ("validation images are the data set's own: "
                                 "--validation-split holds out none", "no validation image of dog")
    held_out = load_training_data(Config(data=str(folder(tmp_path / "b", values(**TWO))),
                                         validation_split=0.5))
    assert len(held_out.images) == len(held_out.observed["validation"][0]) == 2


def test_the_test_set_that_is_held_out_is_the_same_for_every_seed(tmp_path):
    path = folder(tmp_path / "set", values(cats=dict(cat=[*range(9)], dog=[*range(20, 29)])))
    runs = [load_training_data(Config(data=str(path), test_split=0.2, seed=seed))
            for seed in (0, 1)]
    assert len({run.source.checksum for run in runs}) == 1
    assert len(runs[0].source.test_labels) == 4


# -------------------------------------------------------------------------------------- mirrors

def test_what_is_mirrored(tmp_path, monkeypatch):
    """Recipe best mirrors pictures; digits, letters and what comes in their forms if told to."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "pictures", values(**TWO))
    idx_folder(tmp_path / "idx")
    folder(tmp_path / "deep", below("a/b/", {"train.csv": b"label,a,b,c,d\n0,1,2,3,4\n"}))
    (tmp_path / "x.npz").touch()
    stray = {"labels.csv": b"file,label\n0.png,cat\n"}
    folder(tmp_path / "stray", values(**TWO) | stray)
    packed(tmp_path / "stray.zip", values(**TWO) | stray)
    packed(tmp_path / "idx.zip", {"train-images-idx3-ubyte.gz": b""})
    (tmp_path / "inner").mkdir()
    packed(tmp_path / "inner" / "csv.tgz", {"train.csv": b"0,1,2,3,4\n"})

    def flips(config, recipes, *words):
        return parse(config, recipes, list(words)).horizontal_flip
    mirrored = {data: flips(Config, RECIPES, "--data", data) for data in (
        "auto", "elec677", "cifar10", "cifar100", "pictures", "stray", "stray.zip", "mnist",
        "digits", "idx", "idx.zip", "inner", "deep", "x.npz", str(tmp_path / "idx"),
        "idx/train-images-idx3-ubyte.gz")}
    assert [data for data, mirror in mirrored.items() if mirror] == [
        "auto", "elec677", "cifar10", "cifar100", "pictures", "stray", "stray.zip"]
    for data in ("mnist", "digits", "idx"):
        assert flips(Config, RECIPES, "--data", data, "--horizontal-flip")
        assert flips(RnnConfig, RNN_RECIPES, "--data", data, "--horizontal-flip")
    assert not flips(Config, RECIPES, "--data", "pictures", "--no-horizontal-flip")
    assert not flips(RnnConfig, RNN_RECIPES, "--data", "pictures")


def test_what_is_mirrored_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "pictures", values(**TWO))
    idx_folder(tmp_path / "idx")
    for words, said in ((["pictures"], True), (["pictures", "--no-horizontal-flip"], False),
                        (["idx"], False), (["idx", "--horizontal-flip"], True)):
        notes = load_training_data(parse(Config, RECIPES, ["--data", *words])).source.notes
        assert any("--no-horizontal-flip if left and right differ" in n for n in notes) == said
