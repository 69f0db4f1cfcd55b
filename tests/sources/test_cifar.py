"""The official CIFAR-10 and the course's subset of it."""
import functools
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
import written
from PIL import Image
from written import official_cifar10

from sources import cifar
from system.command_line import InputError
from utils import load_images

cache = written.cache


@functools.cache
def course_subset(folder):
    return load_images("auto", folder)


def test_course_subset(real_data):
    data = course_subset(real_data)
    assert data.train_images.shape == (10000, 28, 28, 1) and data.train_images.dtype == np.uint8
    assert data.test_images.shape == (1000, 28, 28, 1)
    assert np.bincount(data.train_labels).tolist() == [1000] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    assert data.name == "elec677" and data.classes[6] == "frog" and "28x28 grey" in data.title
    assert data.checksum.startswith("f6f49190558bff6b")  # as in every run's config.json
    with zipfile.ZipFile(real_data / "CIFAR10.zip") as archive:
        for path, images, index in (("Train/0/Image00000.png", data.train_images, 0),
                                    ("Train/3/Image00007.png", data.train_images, 3007),
                                    ("Test/9/Image00099.png", data.test_images, 999)):
            pixels = Image.open(io.BytesIO(archive.read(f"CIFAR10/{path}")))
            np.testing.assert_array_equal(images[index, ..., 0], np.asarray(pixels))


def test_subset_is_rebuilt_from_official_records(real_data):
    """Every one of the 4,000 lossless records stands in CIFAR10.zip, off by at most 1 grey level.
    """
    records = np.fromfile(real_data / "cifar10-first-4000.bin", np.uint8).reshape(4000, 3073)
    colour = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    rebuilt = cifar.grey28(colour).astype(int)
    course = course_subset(real_data).train_images.astype(int)
    exact = 0
    for label in range(10):
        mine = rebuilt[records[:, 0] == label]
        theirs = course[1000 * label + 1:1000 * label + 1 + len(mine)]  # numbered from 1
        assert np.abs(mine - theirs).max() <= 1
        exact += (mine == theirs).sum()
    assert exact / rebuilt.size > 0.99


def test_subset_from_official_folder_equals_the_recipe(real_data, tmp_path, monkeypatch):
    content = (real_data / "cifar10-first-4000.bin").read_bytes()
    data = load_images("elec677", official_cifar10(tmp_path, monkeypatch, content))
    assert data.train_images.shape == (10000, 28, 28, 1) and "rebuilt" in data.title
    course = course_subset(real_data)
    difference = data.train_images[1:301].astype(int) - course.train_images[1:301]
    assert np.abs(difference).max() <= 1  # the five equal batches begin with the true first records


def test_official_archive_and_folder_agree(tmp_path, monkeypatch):
    records = np.zeros((4, 3073), np.uint8)
    records[:, 0] = [3, 1, 4, 1]
    records[:, 1:] = np.arange(3072) % 251
    official_cifar10(tmp_path / "a", monkeypatch, records.tobytes())
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a" / written.CIFAR10, written.CIFAR10)
    one, two = (load_images("cifar10", tmp_path / name) for name in "ab")
    assert one.checksum == two.checksum
    assert [one.classes[label] for label in one.train_labels] == [
        "cat", "automobile", "deer", "automobile"] * 5
    # Planes R, G, B of 1,024 bytes, row by row: pixel (1, 2) is byte 34 of each plane.
    assert one.train_images[0, 1, 2].tolist() == [34 % 251, (1024 + 34) % 251, (2048 + 34) % 251]


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing", "not a tar", "empty",
                                    "no batch"])
def test_damaged_official_data_is_named(tmp_path, monkeypatch, damage):
    folder = official_cifar10(tmp_path, monkeypatch, bytes(3073 * 2)) / written.CIFAR10
    if damage == "changed":
        (folder / "data_batch_3.bin").write_bytes(bytes(3073) + b"\1" * 3073)
    elif damage == "truncated":
        (folder / "data_batch_3.bin").write_bytes(bytes(3073 + 5))
    elif damage == "missing":
        (folder / "data_batch_3.bin").unlink()
    else:
        archive = tmp_path / "cifar-10-binary.tar.gz"
        archive.write_bytes({"not a tar": b"hello", "empty": b""}.get(damage, b""))
        if damage == "no batch":
            tarfile.open(archive, "w:gz").close()
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with pytest.raises(InputError, match="cifar-10-b") as caught:
        load_images("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_data_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write"):
        load_images("cifar10", tmp_path)
