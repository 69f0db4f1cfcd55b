"""Image data sets and learning-rate schedules, shared by every script.

    data = load_images("auto", "data")      # uint8 images, integer labels, class names, a title
    train, validation = split_validation(data.train_labels, 0.1)
    rate = exponential(step, base=1e-4, factor=0.97, every=250)
"""
import dataclasses
import functools
import hashlib
import math
import pathlib
import re
import sys

import numpy as np

import sources
import synthetic
from download import Unavailable
from runs import InputError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
                   "dog", "frog", "horse", "ship", "truck")


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
    path = pathlib.Path(data).expanduser()
    if not path.exists():
        raise InputError(f"--data {path}: no such file or folder (names: auto, elec677, cifar10, "
                         "mnist, synthetic)")
    return _class_folders(path)


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
        return _idx_folder(sources.official_mnist(data_dir), "mnist", "MNIST")
    except Unavailable as error:
        if data == "mnist":
            raise
        _warn_of_stand_in(error, "digits drawn with fonts", "MNIST")
        return _drawn("digits")


def _drawn(kind):
    arrays, classes = {"patterns": synthetic.patterns, "digits": synthetic.digits}[kind]()
    return Images("synthetic", f"SYNTHETIC stand-in, drawn {kind} ({_sizes(arrays[0], arrays[2])})",
                  classes, *arrays)


def _warn_of_stand_in(error, drawn, real):
    bar = "!" * 78
    print(f"{bar}\n!! NO REAL DATA: {error}\n!! In its place: the SYNTHETIC stand-in ({drawn}).\n"
          f"!! Its accuracy says nothing about {real}.\n{bar}", file=sys.stderr)


def _idx_folder(folder, name, title):
    arrays = sources.read_idx_folder(folder)
    classes = tuple(str(c) for c in range(1 + max(arrays[1].max(), arrays[3].max())))
    return Images(name, f"{title} ({_sizes(arrays[0], arrays[2])})", classes, *arrays)


def _class_folders(path):
    arrays, classes, lossy = sources.read_class_folders(path)
    title = f"{path.name} ({'lossy JPEG, ' if lossy else ''}{_sizes(arrays[0], arrays[2])})"
    return Images(path.stem, title, classes, *arrays)


def _elec677(data_dir):
    for name in ("CIFAR10.zip", "CIFAR10"):
        if (data_dir / name).exists():
            own = _class_folders(data_dir / name)
            classes = CIFAR10_CLASSES if own.classes == tuple("0123456789") else own.classes
            return dataclasses.replace(
                own, name="elec677", classes=classes, title="CIFAR-10, ELEC 677 subset "
                f"({_sizes(own.train_images, own.test_images)})")
    arrays = sources.elec677(data_dir)
    return Images("elec677", "CIFAR-10, ELEC 677 subset rebuilt from the official archive "
                  f"({_sizes(arrays[0], arrays[2])})", CIFAR10_CLASSES, *arrays)


def _cifar10(data_dir):
    arrays = sources.cifar10(data_dir)
    return Images("cifar10", f"CIFAR-10 ({_sizes(arrays[0], arrays[2])})", CIFAR10_CLASSES, *arrays)


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
        train, test = ((np.concatenate([np.rint(part @ sources.LUMA).astype(np.uint8)[..., None]
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

    labels: int (n,); round(fraction * n) images are held out, and one at least of every class that
    has two or more (unless fraction is 0). Both results are in ascending order.
    """
    if not 0 <= fraction < 1:
        raise InputError("--validation-fraction must be at least 0 and less than 1, "
                         f"not {fraction}")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    depth = np.empty(len(labels))  # how deep an image lies in its class's shuffled pile, 0 .. 1
    first = []  # of the pile of each class that can spare one
    for c in np.unique(labels):
        pile = shuffled[labels[shuffled] == c]
        depth[pile] = (np.arange(len(pile)) + 0.5) / len(pile)
        first += [pile[0]] * (len(pile) > 1 and fraction > 0)
    mask = np.zeros(len(labels), bool)
    mask[np.argsort(depth, kind="stable")[:round(fraction * len(labels))]] = True
    mask[first] = True
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


def inverse_time(step, base, factor, every):
    """base / (1 + factor * step / every)."""
    return base / (1 + factor * step / every)


def cosine(step, base, total, start=0):
    """`base` up to step `start`, then half a cosine down to 0 at step `total`."""
    progress = max(0, step - start) / max(1, total - start)
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


SCHEDULES = {  # (step, total steps, steps of warm-up, a Config) -> rate
    "constant": lambda step, total, warmup, c: constant(step, c.rate),
    "exponential": lambda step, total, warmup, c: exponential(
        step, c.rate, c.decay_factor, c.decay_every, c.staircase),
    "inverse-time": lambda step, total, warmup, c: inverse_time(
        step, c.rate, c.decay_factor, c.decay_every),
    "cosine": lambda step, total, warmup, c: cosine(step, c.rate, total, warmup)}


def learning_rate(step, total, config):
    """The rate of `step` (from 0) in a run of `total` steps, as a Config's options ask for it; over
    the first steps, config.warmup of them all, it rises linearly to what the schedule says."""
    warmup = round(config.warmup * total)
    rate = SCHEDULES[config.schedule](step, total, warmup, config)
    return rate * (step + 1) / warmup if step < warmup else rate
