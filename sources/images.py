"""Hold a data set in memory, restrict it, and register data sets by name.

A new named data set is one function in a file of this folder:

    @data_set("letters", stand_in=synthetic.digits)
    def letters(data_dir):
        \"\"\"Read ... from `data_dir`, a pathlib.Path.\"\"\"
        return Images.titled("letters", "Letters", class_names, arrays)
"""
import dataclasses
import hashlib
import re
import typing

import numpy as np

from system.command_line import InputError

LUMA = np.float32([0.298936, 0.587043, 0.114021])  # weights of red, green and blue, the course's

DATA_SETS = {}  # {name on the command line: DataSet}


class DataSet(typing.NamedTuple):
    """Two functions: load(data_dir) returns Images, and so does stand_in(), or it is None."""
    load: typing.Callable
    stand_in: typing.Callable


def data_set(name, stand_in=None):
    """Register the decorated function, (data_dir) -> Images, as the data set `name`.

    The function raises Unavailable if the data set is not there and cannot be downloaded, another
    InputError if it is damaged. stand_in: a function without arguments that draws Images to use
    in place of an unavailable data set.
    """
    def register(load):
        DATA_SETS[name] = DataSet(load, stand_in)
        return load
    return register


def data_set_names():
    """Return every name that load_images understands, separated by commas."""
    return ", ".join(["auto", *DATA_SETS, "synthetic"])


@dataclasses.dataclass(frozen=True)
class Images:
    """A classification data set in memory.

    Images are uint8 (n, height, width, channels), labels int32 (n,) with values in
    0 .. len(classes) - 1. `name` is short, for file names; `title` says in full what the data set
    is and is printed wherever a number or picture made from it appears.
    """
    name: str
    title: str
    classes: tuple
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @classmethod
    def titled(cls, name, description, classes, arrays, lossy=False):
        """Return Images titled "<description> (28x28 grey, 10,000 train, 1,000 test)".

        arrays: training images and labels, test images and labels. lossy: whether the pixels come
        from JPEG files, which the title then says.
        """
        train, _, test, _ = arrays
        _, height, width, channels = train.shape
        kind = "grey" if channels == 1 else "colour"
        sizes = f"{height}x{width} {kind}, {len(train):,} train, {len(test):,} test"
        title = f"{description} ({'lossy JPEG, ' if lossy else ''}{sizes})"
        return cls(name, title, tuple(classes), *arrays)

    @property
    def arrays(self):
        """Return training images and labels, test images and labels."""
        return self.train_images, self.train_labels, self.test_images, self.test_labels

    @property
    def checksum(self):
        """Return the SHA-256 of shapes, pixels and labels: equal data, equal checksum."""
        digest = hashlib.sha256()
        for array in self.arrays:
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def restrict(data, classes="", grey=False):
    """Return the Images of some classes only, numbered anew, or made grey; the title says so.

    classes: class numbers, "0-4" or "0,2,7"; empty keeps all. Raises InputError if the data set
    has no such class or fewer than two are named.
    """
    title, names = data.title, data.classes
    train, test = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    if classes:
        chosen = _class_numbers(classes, len(names))
        train, test = (_only(chosen, *part) for part in (train, test))
        names = tuple(names[c] for c in chosen)
        title += f", classes {classes} only"
    if grey and train[0].shape[-1] == 3:
        train, test = ((_luma(pixels), labels) for pixels, labels in (train, test))
        title += ", made grey"
    return Images(data.name, title, names, *train, *test)


def _class_numbers(text, count):
    """Return the ascending class numbers that "0-4" or "0,2,7" names, of `count` classes."""
    ranges = [re.fullmatch(r"(\d+)(-\d+)?", part) for part in text.split(",")]
    numbers = {c for r in ranges if r
               for c in range(int(r[1]), 1 + min(count, int((r[2] or r[1]).lstrip("-"))))}
    if None in ranges or len(numbers) < 2 or max(numbers) >= count:
        raise InputError(f"--classes {text}: give at least two numbers from 0 to {count - 1}, "
                         "like 0-4 or 0,2,7")
    return sorted(numbers)


def _only(classes, pixels, labels):
    """Return the images and labels of some classes, labels numbered anew."""
    kept = np.isin(labels, classes)
    return pixels[kept], np.searchsorted(classes, labels[kept]).astype(np.int32)


def _luma(pixels):
    """Return colour images, uint8 (n, height, width, 3), as grey ones (n, height, width, 1).

    They are converted in parts, because floats take four times the memory.
    """
    return np.concatenate([np.rint(part @ LUMA).astype(np.uint8)[..., None]
                           for part in np.array_split(pixels, 20)])
