"""The data set in memory, its restriction, and how a name or path is found."""
import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest
import written

from sources import cifar, mnist, synthetic
from sources.download import Unavailable
from sources.images import DATA_SETS, Images, Reading, data_set, restrict
from system.command_line import InputError
from system.files import ROOT
from utils import load_images, may_be_mirrored

cache = written.cache


# ------------------------------------------------------------------------------- names and paths

def test_auto_falls_back_loudly_and_names_never_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cifar, "URL", "http://127.0.0.1:9/")
    assert load_images("auto", tmp_path).name == "synthetic"
    assert "SYNTHETIC" in capsys.readouterr().err
    for name in ("elec677", "cifar10"):
        with pytest.raises(InputError, match="cannot download"):
            load_images(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
    # there but damaged: never replaced in silence
    (tmp_path / "CIFAR10.zip").write_bytes(b"damaged")
    with pytest.raises(InputError, match="not a zip"):
        load_images("auto", tmp_path)


def test_a_new_data_set_is_one_function(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(DATA_SETS, "tiny", None)  # so that it is removed at the end

    @data_set("tiny", stand_in=lambda: synthetic.patterns(train=2, test=1))
    def tiny(data_dir, how):
        if not (data_dir / "tiny").exists():
            raise Unavailable("no tiny here")
        return small_colour()

    (tmp_path / "tiny").touch()
    for name in ("tiny", "auto"):
        assert load_images(name, str(tmp_path), auto="tiny").name == "x"
    assert load_images("auto", tmp_path / "none", auto="tiny").train_images.shape[0] == 20
    assert "no tiny here" in capsys.readouterr().err
    with pytest.raises(Unavailable, match="no tiny here"):
        load_images("tiny", tmp_path / "none")
    with pytest.raises(InputError, match="names: auto, .*tiny.*, synthetic"):
        load_images("nothing of this name", tmp_path)


def test_a_data_set_may_have_no_stand_in(tmp_path, monkeypatch):
    monkeypatch.setitem(DATA_SETS, "bare", None)

    @data_set("bare")
    def bare(data_dir, how):
        raise Unavailable("bare is not there")

    for name, word in (("auto", "bare is not there"), ("synthetic", "bare has no synthetic")):
        with pytest.raises(InputError, match=word):
            load_images(name, tmp_path, auto="bare")


@pytest.mark.parametrize("change, said", [
    (dict(train_images=np.zeros((6, 1, 2, 3))), r"train images are float64 \(6, 1, 2, 3\) from 0"),
    (dict(train_images=np.zeros((6, 1, 2), np.uint8)), r"train images are uint8 \(6, 1, 2\) from"),
    (dict(train_images=[[[[1]]]]), "train images are a list"),
    (dict(test_images=np.zeros((3, 2, 2, 3), np.uint8)), r"test images are uint8 \(3, 2, 2, 3\)"),
    (dict(train_labels=np.int32([0, 1])), r"labels int32 \(2,\) from 0 to 1;"),
    (dict(train_labels=np.int32([[0]] * 6)), r"labels int32 \(6, 1\)"),
    (dict(train_labels=np.zeros(6)), r"labels float64 \(6,\)"),
    (dict(train_labels=[0] * 6), "labels a list"),
    (dict(train_labels=np.int64([0, 1, 2, 3, 0, 0])), "from 0 to 3; .* integers .n,. from 0 to 2,"),
    (dict(test_labels=np.int32([0, -1, 0])), "test images are .*labels int32 .3,. from -1 to 0"),
    (dict(validation=(np.zeros((1, 1, 2, 3), np.uint8), np.int32([9]))), "validation images are")])
def test_a_data_set_must_return_what_is_said_of_images(change, said):
    """Three classes, six images of 1x2 colour pixels; whichever way they are made."""
    with pytest.raises(InputError, match=said) as caught:
        dataclasses.replace(small_colour(), **change)
    assert "\n" not in str(caught.value) and "data set x: " in str(caught.value)
    images, labels = np.zeros((6, 1, 2), np.uint8), np.zeros(6, int)
    with pytest.raises(InputError, match=r"train images are uint8 \(6, 1, 2\)"):
        Images.titled("x", "X", "abc", (images, labels, images, labels))
    none = small_colour().train_images[:0]
    assert dataclasses.replace(small_colour(), test_images=none, test_labels=np.int32([]))


def test_a_data_set_must_return_images(tmp_path, monkeypatch):
    monkeypatch.setitem(DATA_SETS, "tiny", None)
    images, labels = np.zeros((6, 1, 2, 2), np.uint8), np.zeros(6, int)
    two = Images.titled("x", "X", "ab", (images, labels) * 2)
    for found, said in ((None, "NoneType"), (two, "X .1x2 colour, 6 train, 6 test.")):
        data_set("tiny")(lambda data_dir, how, found=found: found)
        with pytest.raises(InputError, match="data set tiny: its function must return Images of 1 "
                                             f"or 3 channels, not {said}"):
            load_images("tiny", tmp_path)


def test_no_data_is_not_the_working_folder(tmp_path, monkeypatch):
    written.idx_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--data is empty; give a path or a name .auto, "):
        load_images("")
    assert may_be_mirrored("", "elec677") and not may_be_mirrored(".", "elec677")


def test_coarse_labels_are_asked_of_what_has_them_only(tmp_path, monkeypatch):
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
    for form, files in (("idx", {}), ("folder", written.values(**written.TWO)),
                        ("cifar10", written.cifar10_pickles(batch))):
        path = written.folder(tmp_path / form, files) if files else written.idx_folder(
            tmp_path / form)
        with pytest.raises(InputError, match=f"--coarse: .*{form}.* coarse labels"):
            written.read(path, coarse=True)
    for name in ("digits", "synthetic", "auto", "cifar10"):
        with pytest.raises(InputError, match=f"--coarse: {name} has no coarse labels"):
            load_images(name, tmp_path, how=Reading(coarse=True))
    monkeypatch.setitem(DATA_SETS, "tiny", None)
    data_set("tiny", coarse=True)(lambda data_dir, how: small_colour())
    for name in ("tiny", "auto"):
        assert load_images(name, tmp_path, "tiny", Reading(coarse=True)).classes == ("a", "b", "c")


def test_a_new_file_in_sources_is_found(tmp_path):
    for folder in ("sources", "system"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "sources" / "letters.py").write_text(
        "from sources.images import data_set\n\n\n"
        "@data_set('letters')\ndef letters(data_dir, how):\n    return 'ABC'\n")
    code = ("import sources.images as s; "
            "print(s.data_set_names(), s.DATA_SETS['letters'].load('', None))")
    out = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    assert "letters" in out.split(", ") and out.endswith(" ABC\n")


def test_a_path_may_be_relative_and_begin_at_home(tmp_path, monkeypatch):
    folder = written.idx_folder(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(folder)
    assert load_images("~/mine").name == load_images(".").name == load_images("../mine").name


def test_a_name_beside_a_folder_of_that_name_is_the_name_and_said(tmp_path, monkeypatch):
    written.idx_folder(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    data = load_images("digits")
    assert data.title.startswith("scikit-learn's") and data.notes == (
        "digits is the data set of that name, not the folder or file digits here, which is --data "
        "./digits",)
    assert load_images("./digits").title.startswith("digits (4x5 grey")
    assert not load_images("digits", tmp_path).notes  # which is where names are looked for


def test_importing_is_light():
    """Neither TensorFlow nor what only downloads and figures need is imported."""
    heavy = ("tensorflow", "keras", "matplotlib", "scipy", "pooch", "requests", "tqdm")
    code = f"import sys, utils; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "[]\n"


def test_readme_of_data_names_what_the_readers_look_for():
    text = (ROOT / "data" / "README.md").read_text()
    for name in ("CIFAR10.zip", written.CIFAR10, *cifar.MD5, *mnist.MD5):
        assert name in text


# ------------------------------------------------------------------------------------ parts

def small_colour():
    """Six 1x2 images of classes 0 1 2 0 1 2; the test images are the first three."""
    images = np.arange(6 * 6, dtype=np.uint8).reshape(6, 1, 2, 3)
    labels = np.int32([0, 1, 2, 0, 1, 2])
    return Images.titled("x", "X", "abc", (images, labels, images[:3], labels[:3]))


def test_restrict_to_classes():
    data = small_colour()
    part = restrict(data, Reading(classes="0,2"))
    assert part.classes == ("a", "c") and part.title == (
        "X, classes 0,2 only: a, c (1x2 colour, 4 train, 2 test)")
    assert part.train_labels.tolist() == [0, 1, 0, 1] and part.test_labels.tolist() == [0, 1]
    np.testing.assert_array_equal(part.train_images, data.train_images[[0, 2, 3, 5]])
    np.testing.assert_array_equal(part.test_images, data.test_images[[0, 2]])
    assert restrict(data, Reading(classes="1-2")).classes == ("b", "c")
    assert restrict(data, Reading()).checksum == data.checksum != part.checksum


@pytest.mark.parametrize("text", ["0-3", "0,5", "0-1,4-5", "0,1,2-1", "1", "0,", "a", "0-1-2"])
def test_classes_that_are_not_there_are_refused(text):
    """Of three classes; none of them is quietly left out."""
    with pytest.raises(InputError, match=f"--classes {text}: give at least two .* from 0 to 2"):
        restrict(small_colour(), Reading(classes=text))


def test_restrict_says_which_classes_are_kept(tmp_path):
    """Of labels 1 to 6 numbers 1 to 3 are the labels 2, 3, 4; of 0, 1 and 2 their own names. What
    is said of test images is said of the classes that are kept."""
    for first, said in ((1, ": 2, 3, 4"), (0, "")):
        images, labels = np.zeros((12, 2, 2), np.uint8), np.arange(12) % 6 + first
        images[:, 0, 0] = np.arange(12)
        path = written.npz(tmp_path / f"{first}.npz", x_train=images, y_train=labels,
                           x_test=images[:5] + 90, y_test=labels[:5])
        part = load_images(str(path), how=Reading(classes="1-3"))
        assert part.title == (f"{first}.npz, classes 1-3 only{said} (2x2 grey, 6 train, 3 test)")
        assert not any("test image" in note for note in part.notes)
        assert "no test image of class" in load_images(str(path)).notes[-1]
    many = Images.titled("x", "X", "abcdef", (images[..., None], labels) * 2)
    assert restrict(many, Reading(classes="0-4")).title.startswith(
        "X, classes 0-4 only: a, ..., e (")


def test_restrict_leaves_a_test_set_and_no_empty_validation_set():
    images, labels = np.zeros((1, 1, 2, 3), np.uint8), np.int32([0])
    data = dataclasses.replace(small_colour(), validation=(images, labels))
    assert len(restrict(data, Reading(classes="0-1")).validation[1]) == 1
    part = restrict(data, Reading(classes="1-2"))
    assert part.validation is None and part.notes == (
        "no validation image of classes 1-2; training images are held out in their place",)
    data = dataclasses.replace(data, test_images=images, test_labels=labels)
    with pytest.raises(InputError, match="--classes 1-2: the test set has no image of b, c"):
        restrict(data, Reading(classes="1-2"))


def test_restrict_to_grey():
    data = restrict(small_colour(), Reading(grey=True))
    assert data.title == "X (1x2 colour, 6 train, 3 test), made grey"
    assert data.train_images.shape == (6, 1, 2, 1)
    assert data.train_images[1, 0, 1, 0] == round(0.298936 * 9 + 0.587043 * 10 + 0.114021 * 11)
    assert restrict(data, Reading(grey=True)).checksum == data.checksum


@pytest.mark.parametrize("classes", ["3", "0", "0-3", "a", "0-", "2-1", "0,,1", "0,1" + "9" * 5000])
def test_restrict_refuses(classes):
    with pytest.raises(InputError, match="--classes"):
        restrict(small_colour(), Reading(classes=classes))
