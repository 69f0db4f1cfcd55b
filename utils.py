"""Image data sets and learning-rate schedules, shared by every script.

    data = load_images("auto", "data")      # uint8 images, integer labels, class names, a title
    train, validation = split_validation(data.train_labels, 0.1)
    rate = exponential(step, base=1e-4, factor=0.97, every=250)
"""
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import math
import pathlib
import re
import sys
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image
from tqdm import tqdm

import synthetic
from download import Unavailable, download
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
LUMA = np.float32([0.298936, 0.587043, 0.114021])  # of red, green and blue, as the course took it
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
                   "dog", "frog", "horse", "ship", "truck")
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
CACHE = ROOT / "data" / "cache"  # whatever the data folder: that may be shared or read-only
CACHE_VERSION = 1  # raise it whenever the arrays that a loader makes from the same files change


@dataclasses.dataclass(frozen=True)
class Images:
    """A classification data set in memory.

    Images are uint8 (n, height, width, channels), labels int32 (n,) with values in
    0 .. len(classes) - 1. `name` is short, for file names; `title` says in full what it is and is
    printed wherever a number or picture made from it appears.
    """
    name: str
    title: str
    classes: tuple
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def checksum(self):
        """SHA-256 of shapes, pixels and labels: equal data give equal checksums, whatever the
        source."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _sizes(train, test):
    """"28x28 grey, 10,000 train, 1,000 test" of two image arrays."""
    _, height, width, channels = train.shape
    kind = {1: "grey", 3: "colour"}[channels]
    return f"{height}x{width} {kind}, {len(train):,} train, {len(test):,} test"


# ------------------------------------------------------------------------------ which data set

def load_images(data="auto", data_dir="data"):
    """Load an image data set by name or path.

    data      "auto": the course's subset, else the synthetic stand-in with a warning;
              "elec677": the course's subset of CIFAR-10 (28x28 grey, 10,000 + 1,000 images), from
              CIFAR10.zip or CIFAR10/ in data_dir, else rebuilt from the official CIFAR-10, which is
              downloaded if need be;
              "cifar10": all of CIFAR-10 (32x32 RGB, 50,000 + 10,000);
              "mnist": MNIST's digits, as load_digits gives them;
              "synthetic": ten classes of drawn patterns, nothing read or downloaded;
              a path: folder or zip of train/<class>/* and test/<class>/*, PNG or JPEG.
    Returns Images. Raises InputError, in one line, for anything missing, damaged or malformed.
    """
    data_dir = pathlib.Path(data_dir)
    if data == "synthetic":
        return _drawn("patterns")
    if data == "cifar10":
        return _cifar10(data_dir)
    if data == "elec677":
        return _elec677(data_dir)
    if data == "mnist":
        return load_digits("mnist", data_dir)
    if data == "auto":
        try:
            return _elec677(data_dir)
        except Unavailable as error:
            _warn_of_stand_in(error, "drawn gratings, checks, rings ...", "CIFAR-10")
            return _drawn("patterns")
    return _class_folders(pathlib.Path(data).expanduser())


def load_digits(data="auto", data_dir="data"):
    """Load MNIST or a data set in its format: 28x28 grey digits, 60,000 + 10,000 images.

    data      "auto": MNIST, else the synthetic stand-in with a warning;
              "mnist": the four official files in data_dir or data_dir/mnist (MD5 checked), else
              they are downloaded; "synthetic": digits drawn with fonts, nothing read or downloaded;
              a path: folder of four files named and laid out like MNIST's.
    Returns Images. Raises InputError, in one line, for anything missing, damaged or malformed.
    """
    data_dir = pathlib.Path(data_dir)
    if data == "synthetic":
        return _drawn("digits")
    if data not in ("auto", "mnist"):
        folder = pathlib.Path(data).expanduser()
        if not folder.is_dir():
            raise InputError(f"--data {data}: no such folder (names: auto, mnist, synthetic)")
        return _idx_folder(folder, folder.name, folder.name)
    try:
        return _idx_folder(_mnist_folder(data_dir), "mnist", "MNIST")
    except Unavailable as error:
        if data == "mnist":
            raise
        _warn_of_stand_in(error, "digits drawn with fonts", "MNIST")
        return _drawn("digits")


def _drawn(kind):
    arrays, classes = synthetic.patterns() if kind == "patterns" else synthetic.digits()
    return Images("synthetic", f"SYNTHETIC stand-in, drawn {kind} ({_sizes(arrays[0], arrays[2])})",
                  classes, *arrays)


def _warn_of_stand_in(error, drawn, real):
    bar = "!" * 78
    print(f"{bar}\n!! NO REAL DATA: {error}\n!! Training on the SYNTHETIC stand-in ({drawn}).\n"
          f"!! Its accuracy says nothing about {real}.\n{bar}", file=sys.stderr)


def _elec677(data_dir):
    for name in ("CIFAR10.zip", "CIFAR10"):
        if (data_dir / name).exists():
            own = _class_folders(data_dir / name)
            classes = CIFAR10_CLASSES if own.classes == tuple("0123456789") else own.classes
            return dataclasses.replace(
                own, name="elec677", classes=classes, title="CIFAR-10, ELEC 677 subset "
                f"({_sizes(own.train_images, own.test_images)})")
    source = _cifar10_source(data_dir)
    arrays = _cached("elec677", _content_key(source),
                     lambda: _rebuild_elec677(*_read_cifar10(source)))
    return Images("elec677", "CIFAR-10, ELEC 677 subset rebuilt from the official archive "
                  f"({_sizes(arrays[0], arrays[2])})", CIFAR10_CLASSES, *arrays)


def _cifar10(data_dir):
    source = _cifar10_source(data_dir)
    arrays = _cached("cifar10", _content_key(source), lambda: _read_cifar10(source))
    return Images("cifar10", f"CIFAR-10 ({_sizes(arrays[0], arrays[2])})", CIFAR10_CLASSES, *arrays)


# --------------------------------------------------------------- official CIFAR-10, binary version

def _cifar10_source(data_dir):
    """Path of the official archive or its extracted folder, downloading the archive if neither is.
    """
    folder, archive = data_dir / CIFAR10_FOLDER, data_dir / pathlib.Path(CIFAR10_URL).name
    if folder.exists():
        return folder
    if not archive.exists():
        download(CIFAR10_URL, archive, CIFAR10_MD5)
    return archive


def _read_cifar10(source):
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

def _mnist_folder(data_dir):
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


def _idx_folder(folder, name, title):
    arrays = [read_idx(folder / file) for file in MNIST_MD5]
    for images, labels, split in ((*arrays[:2], "train"), (*arrays[2:], "t10k")):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(images):
            raise InputError(f"{folder}: {split} has images {images.shape} and labels "
                             f"{labels.shape}; they must be (n, height, width) and (n,)")
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise InputError(f"{folder}: training images are {arrays[0].shape[1:]}, test images "
                         f"{arrays[2].shape[1:]}")
    train, test = arrays[0][..., None], arrays[2][..., None]
    classes = tuple(str(c) for c in range(1 + max(arrays[1].max(), arrays[3].max())))
    return Images(name, f"{title} ({_sizes(train, test)})", classes,
                  train, arrays[1].astype(np.int32), test, arrays[3].astype(np.int32))


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

def _class_folders(path):
    """Images of a folder or zip that holds train/<class>/* and test/<class>/*."""
    if not path.exists():
        raise InputError(f"--data {path}: no such file or folder (names: auto, elec677, cifar10, "
                         "synthetic)")
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
    arrays = _cached(path.stem, _content_key(path),
                     lambda: _decode(path, listing, read, classes))
    title = f"{path.name} ({'lossy JPEG, ' if lossy else ''}{_sizes(arrays[0], arrays[2])})"
    return Images(path.stem, title, tuple(classes), *arrays)


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


def _cached(name, key, build):
    """The arrays of build(), kept in CACHE. A cache that cannot be written costs time, nothing
    else."""
    file = CACHE / f"{name}-v{CACHE_VERSION}-{key[:16]}.npz"
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


# ------------------------------------------------------------------------------- parts

def restrict(data, classes="", grey=False):
    """Images of some classes only, numbered anew, or made grey; the title says so.

    classes: their numbers, "0-4" or "0,2,7"; empty: all. Raises InputError if one is not there.
    """
    title, names = data.title, data.classes
    train, test = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    if classes:
        ranges = [re.fullmatch(r"(\d+)(-\d+)?", part) for part in classes.split(",")]
        kept = sorted({c for r in ranges if r
                       for c in range(int(r[1]), 1 + int((r[2] or r[1]).lstrip("-")))})
        if None in ranges or len(kept) < 2 or kept[-1] >= len(names):
            raise InputError(f"--classes {classes}: give at least two numbers from 0 to "
                             f"{len(names) - 1}, like 0-4 or 0,2,7")
        train, test = ((images[chosen], np.searchsorted(kept, labels[chosen]).astype(np.int32))
                       for images, labels in (train, test) for chosen in [np.isin(labels, kept)])
        names = tuple(names[c] for c in kept)
        title += f", classes {classes} only"
    if grey and train[0].shape[-1] == 3:
        train, test = ((np.concatenate([np.rint(part @ LUMA).astype(np.uint8)[..., None]
                                        for part in np.array_split(images, 20)]), labels)
                       for images, labels in (train, test))
        title += ", made grey"
    return Images(data.name, title, names, *train, *test)


def some_of_each_class(labels, count, seed):
    """Indices, ascending, of `count` random examples of each class, or of all that it has."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(np.concatenate([shuffled[labels[shuffled] == c][:count]
                                   for c in np.unique(labels)]))


# ------------------------------------------------------------------------------- splits

def split_validation(labels, fraction, seed=2016):
    """(training indices, validation indices), the same for every run, classes in proportion.

    labels: int (n,); round(fraction * n) images are held out. Both results are in ascending order.
    """
    if not 0 <= fraction < 1:
        raise InputError("--validation-fraction must be at least 0 and less than 1, "
                         f"not {fraction}")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    depth = np.empty(len(labels))  # how deep an image lies in its class's shuffled pile, 0 .. 1
    for c in np.unique(labels):
        pile = shuffled[labels[shuffled] == c]
        depth[pile] = (np.arange(len(pile)) + 0.5) / len(pile)
    chosen = np.argsort(depth, kind="stable")[:round(fraction * len(labels))]
    mask = np.zeros(len(labels), bool)
    mask[chosen] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


@functools.lru_cache(maxsize=2)
def epoch_order(seed, epoch, count):
    """The order in which epoch `epoch` (from 0) visits `count` images: a permutation of
    range(count)."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def batch_indices(seed, first, last, batch, count):
    """Training images of steps first .. last - 1: int32 (steps, batch), one permutation after
    another.

    A function of its arguments alone, so that a resumed run sees what an uninterrupted one sees.
    """
    position = np.arange(first * batch, last * batch)
    epoch, within = position // count, position % count
    return np.concatenate([epoch_order(seed, e, count)[within[epoch == e]]
                           for e in np.unique(epoch)]
                          ).astype(np.int32).reshape(last - first, batch)


# ------------------------------------------- schedules: the learning rate at a step (from 0)

def constant(step, base):
    """`base` at every step."""
    return base


def exponential(step, base, factor, every, staircase=True):
    """base * factor ** (step / every); with `staircase` the exponent is rounded down."""
    return base * factor ** (step // every if staircase else step / every)


def step_decay(step, base, factor, boundaries):
    """`base` times `factor` for each of the `boundaries` (steps) that has been reached."""
    return base * factor ** sum(step >= boundary for boundary in boundaries)


def inverse_time(step, base, factor, every):
    """base / (1 + factor * step / every)."""
    return base / (1 + factor * step / every)


def cosine(step, base, total, warmup=0):
    """Linear rise to `base` over `warmup` steps, then half a cosine down to 0 at step `total`."""
    if step < warmup:
        return base * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def learning_rate(step, total, config):
    """The rate of `step` (from 0) in a run of `total` steps, as a Config's options ask for it."""
    if config.schedule == "cosine":
        return cosine(step, config.rate, total, round(config.warmup * total))
    if config.schedule == "step":
        return step_decay(step, config.rate, config.decay_factor,
                          range(config.decay_every, total, config.decay_every))
    if config.schedule == "constant":
        return constant(step, config.rate)
    if config.schedule == "inverse-time":
        return inverse_time(step, config.rate, config.decay_factor, config.decay_every)
    return exponential(step, config.rate, config.decay_factor, config.decay_every, config.staircase)
