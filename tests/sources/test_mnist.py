"""MNIST, and folders in its format."""
import functools
import gzip

import numpy as np
import pytest
from written import idx, idx_folder, zipped

from sources import mnist
from system.command_line import InputError
from utils import load_images, split_validation

IMAGES, LABELS = list(mnist.MD5)[:2]


@functools.cache
def all_of_mnist(folder):
    return load_images("mnist", folder)


def test_mnist(real_data):
    data = all_of_mnist(real_data)
    assert (data.train_images.shape == (60000, 28, 28, 1)
            and data.test_images.shape == (10000, 28, 28, 1))
    assert data.checksum.startswith("e01a2336dfa29a82")  # as in every run's config.json
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(data.test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train_images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    train, validation = split_validation(data.train_labels, 1 / 12)
    assert (len(train), len(validation)) == (55000, 5000)


def test_every_way_to_mnist_gives_the_same(real_data):
    by_name, by_path = all_of_mnist(real_data), load_images(str(real_data / "mnist"))
    inside = load_images("auto", real_data / "mnist", auto="mnist")  # the four files' own folder
    assert by_name.title == inside.title
    assert by_name.checksum == by_path.checksum == inside.checksum


def test_own_idx_files(tmp_path):
    data = load_images(str(idx_folder(tmp_path / "mine")))
    assert (data.train_images[0, 1, :, 0].tolist() == [5, 6, 7, 8, 9]
            and data.title.startswith("mine") and data.name == "mine")
    assert data.train_labels.tolist() == [2, 0, 1] and data.classes == ("0", "1", "2")
    assert "2 test images" not in data.notes and "no test image of class 0" in data.notes[0]
    (tmp_path / "mine" / LABELS).write_bytes(idx(np.array([2, 1, 255])))
    sparse = load_images(str(tmp_path / "mine"))
    assert sparse.classes == ("1", "2", "255") and sparse.train_labels.tolist() == [1, 0, 2]
    assert "no training image of label 0" in sparse.notes[0]


@pytest.mark.parametrize("content, word", [
    (b"not gzip", "begins with 6e6f7420"), (b"", "IDX|gzip"),
    (idx(np.zeros((3, 4, 5)))[:-9], "gzip"),
    (None, "not there"), (zipped(b"\0\0\x0d\3" + bytes(72)), "floating point"),
    (zipped(b""), "begins with nothing"), (zipped(b"\0\0\x08"), "begins with 000008,"),
    (zipped(gzip.decompress(idx(np.zeros((3, 4, 5))))[:-1]), "promises"),
    (idx(np.zeros((3, 20))), r"\(3, 20\)"), (idx(np.zeros((4, 4, 5))), r"labels \(3,\)"),
    (idx(np.zeros((3, 0, 5))), r"\(3, 0, 5\)"), (idx(np.zeros((1,) * 60)), "60 dimensions"),
    (idx(np.zeros((3, 4, 6))), "test images"), (zipped(b"\0\0\x08\3\0"), "promises")])
def test_damaged_idx_is_one_line(tmp_path, content, word):
    file = idx_folder(tmp_path / "mine") / IMAGES
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        load_images(str(tmp_path / "mine"))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_the_official_ones_are_refused(tmp_path, monkeypatch, capsys):
    idx_folder(tmp_path / "mnist")
    for name in ("auto", "mnist"):
        with pytest.raises(InputError, match="MD5 differs"):
            load_images(name, tmp_path, auto="mnist")
    monkeypatch.setattr(mnist, "URL", "http://127.0.0.1:9/")
    assert load_images("auto", tmp_path / "none", auto="mnist").name == "synthetic"
    assert "SYNTHETIC stand-in, drawn digits" in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot download"):
        load_images("mnist", tmp_path / "none")
