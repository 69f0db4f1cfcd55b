"""Files of images as arrays: the official CIFAR-10 and MNIST, fetched if need be, and the user's
own folders and zips; what took long to decode is kept in a cache.

A data set is (training images, labels, test images, labels): uint8 (n, height, width, channels) and
int32 (n,). What is damaged or malformed is an InputError of one line; an official file that is
missing and cannot be fetched is an Unavailable, one kind of InputError.
"""
import contextlib
import gzip
import hashlib
import io
import math
import pathlib
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image
from tqdm import tqdm

from download import download
from runs import ROOT, InputError, atomic_file, first_line

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_SHA1 = {  # as listed by Apache MXNet, gluon/data/vision/datasets.py
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
LUMA = np.float32([0.298936, 0.587043, 0.114021])  # of red, green and blue, as the course took it
CACHE = ROOT / "data" / "cache"  # whatever the data folder: that may be shared or read-only
CACHE_VERSION = 1  # raise it whenever the arrays that a loader makes from the same files change


# --------------------------------------------------------------- official CIFAR-10, binary version

def cifar10(data_dir):
    """All of CIFAR-10: 32x32 colour, 50,000 + 10,000 images."""
    source = official_cifar10(data_dir)
    return cached("cifar10", source, lambda: read_cifar10(source))


def elec677(data_dir):
    """The course's subset, rebuilt: 28x28 grey, 10,000 + 1,000 images."""
    source = official_cifar10(data_dir)
    return cached("elec677", source, lambda: _rebuild_elec677(*read_cifar10(source)))


def official_cifar10(data_dir):
    """Path of the official archive or its extracted folder, downloading the archive if neither is.
    """
    folder, archive = data_dir / CIFAR10_FOLDER, data_dir / pathlib.Path(CIFAR10_URL).name
    if folder.exists():
        return folder
    if not archive.exists():
        download(CIFAR10_URL, archive, CIFAR10_MD5)
    return archive


def read_cifar10(source):
    """(train images, train labels, test images, test labels) from the archive or the folder.

    Members are read in memory by their exact names, so an archive cannot write anywhere; each
    batch must have its published SHA-1.
    """
    def batches():
        if source.is_dir():
            for name in CIFAR10_SHA1:
                yield name, (source / name).read_bytes()
        else:
            with tarfile.open(source) as archive:
                for name in CIFAR10_SHA1:
                    yield name, archive.extractfile(f"{CIFAR10_FOLDER}/{name}").read()

    images, labels = {}, {}
    try:
        for name, content in batches():
            if hashlib.sha1(content).hexdigest() != CIFAR10_SHA1[name]:
                raise InputError(f"{source}: {name} is not the official file (SHA-1 differs); "
                                 "delete it and run again to download it")
            records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            labels[name] = records[:, 0].astype(np.int32)
            images[name] = records[:, 1:].reshape(
                -1, 3, 32, 32).transpose(0, 2, 3, 1)  # planes last
    except (OSError, EOFError, KeyError, AttributeError, ValueError, tarfile.TarError) as error:
        raise InputError(f"{source}: cannot be read as the official CIFAR-10 binary archive "
                         f"({first_line(error)}); delete it and run again to download it"
                         ) from error
    train = [name for name in CIFAR10_SHA1 if name.startswith("data")]
    return (np.concatenate([images[name] for name in train]),
            np.concatenate([labels[name] for name in train]),
            images["test_batch.bin"], labels["test_batch.bin"])


def _rebuild_elec677(train_images, train_labels, test_images, test_labels):
    """The course's subset: the first 1,000 training and 100 test images a class, 28x28 grey."""
    def first(images, labels, count):
        # The course's files are numbered from 1 and wrap: Image00000.png is the last of its class.
        chosen = np.concatenate([np.roll(np.flatnonzero(labels == c)[:count], 1)
                                 for c in range(10)])
        return grey28(images[chosen]), labels[chosen]
    return *first(train_images, train_labels, 1000), *first(test_images, test_labels, 100)


def grey28(images):
    """Colour images as the course made its grey ones.

    images: uint8 (n, 32, 32, 3) -> uint8 (n, 28, 28, 1). Luma in floating point, antialiased
    bicubic resize, then rounding: within 1 grey level of the course's PNGs.
    """
    small = [np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC))
             for image in images.astype(np.float32) @ LUMA]
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)[..., None]


# ------------------------------------------------------------------------------- MNIST, IDX files

def official_mnist(data_dir):
    """The folder of the four official files, each with its MD5; what is missing is downloaded."""
    folder = next((f for f in (data_dir, data_dir / "mnist")
                   if (f / next(iter(MNIST_MD5))).exists()), data_dir / "mnist")
    for name, md5 in MNIST_MD5.items():
        if not (folder / name).exists():
            download(MNIST_URL + name, folder / name, md5)
        elif hashlib.md5((folder / name).read_bytes()).hexdigest() != md5:
            raise InputError(f"{folder / name} is not the official file (MD5 differs); delete it "
                             "and run again to download it")
    return folder


def read_idx_folder(folder):
    """(training images, labels, test images, labels) of four files named like MNIST's."""
    arrays = [read_idx(folder / file) for file in MNIST_MD5]
    for images, labels, split in ((*arrays[:2], "train"), (*arrays[2:], "t10k")):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(images):
            raise InputError(f"{folder}: {split} has images {images.shape} and labels "
                             f"{labels.shape}; they must be (n, height, width) and (n,)")
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise InputError(f"{folder}: training images are {arrays[0].shape[1:]}, test images "
                         f"{arrays[2].shape[1:]}")
    return (arrays[0][..., None], arrays[1].astype(np.int32),
            arrays[2][..., None], arrays[3].astype(np.int32))


def read_idx(path):
    """The array in a gzipped IDX file of unsigned bytes (http://yann.lecun.com/exdb/mnist).

    Layout: two zero bytes, 8 for uint8, the number of dimensions, each size as a big-endian 32-bit
    integer, the values. Raises InputError that names what is wrong.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: {'not there' if not path.exists() else 'not a whole gzip file'} "
                         f"({first_line(error)})") from error
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise InputError(f"{path}: no IDX file of bytes (it begins with "
                         f"{content[:4].hex() or 'nothing'}, not with 000008)")
    header = 4 + 4 * content[3]
    shape = [int.from_bytes(content[i:i + 4]) for i in range(4, header, 4)]
    if len(content) != header + math.prod(shape):
        raise InputError(f"{path}: {len(content):,} bytes, but its header promises "
                         f"{' x '.join(map(str, shape))} values, "
                         f"{header + math.prod(shape):,} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


# ------------------------------------------------------------------------- the user's own images

def read_class_folders(path):
    """(arrays, class names, lossy) of a folder or zip of train/<class>/* and test/<class>/*.

    arrays: training images, labels, test images, labels; lossy: whether any image is a JPEG.
    """
    if path.is_file() and not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a zip archive, or a damaged one; copy it anew")
    listing, read = _list_images(path)
    classes = sorted({name for _, name, _ in listing}, key=_natural)
    for split in ("train", "test"):
        filled = {name for s, name, file in listing if s == split and file}
        if not filled:
            raise InputError(f"{path}: no images under {split}/<class>/ (PNG or JPEG)")
        if missing := [name for name in classes if name not in filled]:
            raise InputError(f"{path}: class {missing[0]!r} has no image in {split}/")
    lossy = any(file and file.lower().endswith((".jpg", ".jpeg")) for *_, file in listing)
    arrays = cached(path.stem, path, lambda: _decode(path, listing, read, classes))
    return arrays, tuple(classes), lossy


def _list_images(path):
    """[(split, class, file, or "" for an empty class folder)], and a function file -> bytes."""
    if path.is_dir():
        names = [p.relative_to(path).as_posix() + "/" * p.is_dir() for p in path.rglob("*")]
        read = lambda name: (path / name).read_bytes()  # noqa: E731
    else:
        archive = zipfile.ZipFile(path)
        names, read = archive.namelist(), archive.read
    listing = []
    for name in names:
        *parents, file = name.split("/")
        if len(parents) < 2 or parents[-2].lower() not in ("train", "test") or file.startswith("."):
            continue
        if not file or file.lower().endswith((".png", ".jpg", ".jpeg")):
            listing.append((parents[-2].lower(), parents[-1], file and name))
    return sorted(listing, key=lambda row: (row[0], _natural(row[1]), row[2])), read


def _natural(name):
    """Sort key: numbers by value and before words ("2" < "10" < "cat")."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _decode(path, listing, read, classes):
    images, labels = {"train": [], "test": []}, {"train": [], "test": []}
    shape = None
    for split, name, file in tqdm(listing, desc=f"decoding {path.name}", disable=None,
                                     leave=False):
        if not file:
            continue
        try:
            image = Image.open(io.BytesIO(read(file)))
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
        except Exception as error:
            # whatever a decoder says of a damaged file is the user's to mend
            raise InputError(f"{path}: {file} is not a readable image "
                             f"({first_line(error)})") from error
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise InputError(f"{path}: {file} is {'x'.join(map(str, pixels.shape))}, the first "
                             f"image is {'x'.join(map(str, shape))}; all must have one size and "
                             "one mode")
        images[split].append(pixels)
        labels[split].append(classes.index(name))
    return (np.stack(images["train"]), np.int32(labels["train"]),
            np.stack(images["test"]), np.int32(labels["test"]))


# ------------------------------------------------------------------------------ decoded once

def _content_key(path):
    """SHA-256 of a file, or of the relative names and contents of a folder's files."""
    digest = hashlib.sha256()
    try:
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    return digest.hexdigest()


def cached(name, source, build):
    """The data set that build() makes of a file or folder, kept in CACHE by a hash of its content.

    A cache that cannot be written costs time, nothing else.
    """
    file = CACHE / f"{name}-v{CACHE_VERSION}-{_content_key(source)[:16]}.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            return tuple(stored[f"arr_{i}"] for i in range(4))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        arrays = build()  # nothing there yet, or damaged
    with contextlib.suppress(OSError):
        CACHE.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as stream:
            np.savez(stream, *arrays)
    return arrays
