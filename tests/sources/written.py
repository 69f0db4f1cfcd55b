"""Write small data sets in the forms that sources/ reads, and fixtures for its tests."""
import gzip
import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from sources import cache as cache_of_arrays
from sources import cifar, mnist

CIFAR10 = "cifar-10-batches-bin"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Give each test a cache folder of its own."""
    monkeypatch.setattr(cache_of_arrays, "CACHE", tmp_path_factory.mktemp("cache") / "new")
    return cache_of_arrays.CACHE


@pytest.fixture
def tree(tmp_path):
    """Write two classes, two training images and one test image each; pixels = 10 * class + i."""
    for split, count in (("Train", 2), ("test", 1)):
        for label in ("2", "10"):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "set" / split / label / f"{i}.png").write_bytes(
                    grey(10 * int(label) + i))
    return tmp_path / "set"


def png(pixels):
    """Return an array of pixels as the bytes of a PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(stream, "png")
    return stream.getvalue()


def grey(value, size=3):
    """Return a grey PNG, all pixels of one value."""
    return png(np.full((size, size), value))


def official_cifar10(folder, monkeypatch, records):
    """Write CIFAR-10's folder whose six batches hold `records`; take their SHA-1 as published."""
    (folder / CIFAR10).mkdir(parents=True)
    names = [name for name in cifar.PUBLISHED if name.endswith(".bin")]
    for name in names:
        (folder / CIFAR10 / name).write_bytes(records)
    monkeypatch.setattr(cifar, "PUBLISHED", dict.fromkeys(names, hashlib.sha1(records).hexdigest()))
    return folder


def zipped(data):
    """Compress without the time of day, which would be in the names of tests."""
    return gzip.compress(data, mtime=0)


def idx(array):
    """Return an array as a gzipped IDX file."""
    sizes = b"".join(n.to_bytes(4) for n in array.shape)
    return zipped(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


def idx_folder(folder):
    """Write four files of 3 training and 2 test images of 4x5 pixels."""
    folder.mkdir()
    arrays = (np.arange(60).reshape(3, 4, 5), np.array([2, 0, 1]),
              np.zeros((2, 4, 5)), np.array([1, 1]))
    for name, array in zip(mnist.MD5, arrays, strict=True):
        (folder / name).write_bytes(idx(array))
    return folder
