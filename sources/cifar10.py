"""Read the official CIFAR-10, binary version, and the course's subset of it."""
import hashlib
import pathlib
import tarfile
import zlib

import numpy as np
from PIL import Image

from sources import synthetic
from sources.cache import cached
from sources.download import download
from sources.folders import read_class_folders
from sources.images import LUMA, Images, data_set
from system.command_line import InputError, first_line

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
SHA1 = {  # as listed by Apache MXNet, gluon/data/vision/datasets.py
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
           "dog", "frog", "horse", "ship", "truck")


@data_set("cifar10", stand_in=synthetic.patterns)
def cifar10(data_dir):
    """Read all of CIFAR-10, 32x32 colour, 50,000 + 10,000 images, downloading it if need be."""
    source = official(data_dir)
    arrays = cached("cifar10", source, lambda: read_batches(source))
    return Images.titled("cifar10", "CIFAR-10", CLASSES, arrays)


@data_set("elec677", stand_in=synthetic.patterns)
def elec677(data_dir):
    """Read the course's subset, 28x28 grey, 10,000 + 1,000 images.

    It is CIFAR10.zip or CIFAR10/ in data_dir, else it is rebuilt from the official CIFAR-10, which
    is downloaded if need be.
    """
    for name in ("CIFAR10.zip", "CIFAR10"):
        if (data_dir / name).exists():
            given = read_class_folders(data_dir / name)
            classes = CLASSES if given.classes == tuple("0123456789") else given.classes
            return Images.titled("elec677", "CIFAR-10, ELEC 677 subset", classes,
                                 given.arrays)
    source = official(data_dir)
    arrays = cached("elec677", source, lambda: rebuild_subset(*read_batches(source)))
    return Images.titled("elec677", "CIFAR-10, ELEC 677 subset rebuilt from the official archive",
                  CLASSES, arrays)


def official(data_dir):
    """Return the path of the official folder, else of its archive, downloaded if it is not there.
    """
    folder, archive = data_dir / FOLDER, data_dir / pathlib.Path(URL).name
    if folder.exists():
        return folder
    if not archive.exists():
        download(URL, archive, MD5)
    return archive


def read_batches(source):
    """Return training images, labels, test images and labels of the official archive or folder.

    Each batch must have its published SHA-1. Raises InputError that names what is wrong.
    """
    pixels, labels = {}, {}
    try:
        for name, content in _batches(source):
            if hashlib.sha1(content).hexdigest() != SHA1[name]:
                raise InputError(f"{source}: {name} is not the official file (SHA-1 differs); "
                                 "delete it and run again to download it")
            records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            labels[name] = records[:, 0].astype(np.int32)
            planes = records[:, 1:].reshape(-1, 3, 32, 32)  # (n, channels, height, width)
            pixels[name] = planes.transpose(0, 2, 3, 1)  # (n, height, width, channels)
    except (OSError, EOFError, KeyError, AttributeError, ValueError, tarfile.TarError,
            zlib.error) as error:
        raise InputError(f"{source}: cannot be read as the official CIFAR-10 binary archive "
                         f"({first_line(error)}); delete it and run again to download it"
                         ) from error
    train = [name for name in SHA1 if name.startswith("data")]
    return (np.concatenate([pixels[name] for name in train]),
            np.concatenate([labels[name] for name in train]),
            pixels["test_batch.bin"], labels["test_batch.bin"])


def _batches(source):
    """Yield the name and content of the six batches.

    An archive's members are read in memory, by their exact names: it cannot write anywhere.
    """
    if source.is_dir():
        for name in SHA1:
            yield name, (source / name).read_bytes()
    else:
        with tarfile.open(source) as archive:
            for name in SHA1:
                yield name, archive.extractfile(f"{FOLDER}/{name}").read()


def rebuild_subset(train_images, train_labels, test_images, test_labels):
    """Return the course's subset of CIFAR-10's arrays.

    The first 1,000 training images and 100 test images of each class, class after class, 28x28
    grey.
    """
    def first(pixels, labels, count):
        # The course's files are numbered from 1 and wrap: Image00000.png is the last of its class.
        chosen = np.concatenate([np.roll(np.flatnonzero(labels == c)[:count], 1)
                                 for c in range(10)])
        return grey28(pixels[chosen]), labels[chosen]
    return *first(train_images, train_labels, 1000), *first(test_images, test_labels, 100)


def grey28(colour):
    """Make colour images grey and smaller as the course did.

    colour: uint8 (n, 32, 32, 3). Returns uint8 (n, 28, 28, 1): luma in floating point, antialiased
    bicubic resize, then rounding; within 1 grey level of the course's PNGs.
    """
    small = [np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC))
             for image in colour.astype(np.float32) @ LUMA]
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)[..., None]
