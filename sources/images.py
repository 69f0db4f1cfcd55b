"""Hold a data set in memory, restrict it, and register data sets by name and by form.

A new named data set is one function in a file of this folder:

    @data_set("letters", stand_in=synthetic.digits)
    def letters(data_dir, how):
        \"\"\"Read ... from `data_dir`, a pathlib.Path, as the Reading `how` asks.\"\"\"
        return Images.titled("letters", "Letters", class_names, arrays)

A new form in which people bring images is one function too, of a sources.tree.Tree:

    @form("HDF5 files", lambda tree: any(name.endswith(".h5") for name in tree.files))
    def read_hdf5(tree, how):
"""
import collections
import dataclasses
import hashlib
import math
import re
import typing

import numpy as np

from sources.pictures import resize
from system import machine
from system.command_line import InputError, in_one_line

LUMA = np.float32([0.298936, 0.587043, 0.114021])  # weights of red, green and blue, the course's

DATA_SETS = {}  # {name on the command line: DataSet}
FORMS = {}  # {what it is: Form}


class DataSet(typing.NamedTuple):
    """Two functions: load(data_dir, how) returns Images, and so does stand_in(), or it is None.

    mirrors: whether its images may be mirrored; coarse: whether it has coarse labels too.
    """
    load: typing.Callable
    stand_in: typing.Callable
    mirrors: bool
    coarse: bool


class Form(typing.NamedTuple):
    """Two functions: read(tree, how) returns Images of a Tree if matches(tree).

    mirrors: whether its images may be mirrored; coarse: whether they may have coarse labels too, so
    that read() is to heed or refuse how.coarse.
    """
    matches: typing.Callable
    read: typing.Callable
    mirrors: bool
    coarse: bool


def data_set(name, stand_in=None, mirrors=True, coarse=False):
    """Register the decorated function, (data_dir, how) -> Images, as the data set `name`.

    The function raises Unavailable if the data set is not there and cannot be downloaded, another
    InputError if it is damaged. stand_in: a function without arguments that draws Images to use
    in place of an unavailable data set. mirrors: False for digits, letters, whatever is another
    thing in a mirror. coarse: whether it heeds how.coarse, which else is refused.
    """
    def register(load):
        DATA_SETS[name] = DataSet(load, stand_in, mirrors, coarse)
        return load
    return register


def form(name, matches, mirrors=True, coarse=False):
    """Register the decorated function, (Tree, Reading) -> Images, for Trees that matches(Tree).

    mirrors: False for the forms in which digits and letters come. coarse: whether it heeds
    how.coarse, which else is refused.
    """
    def register(read):
        FORMS[name] = Form(matches, read, mirrors, coarse)
        return read
    return register


def data_set_names():
    """Return every name that load_images understands, separated by commas."""
    return ", ".join(["auto", *DATA_SETS, "synthetic"])


def is_path(data):
    """Return whether --data is the path of one's own images, not the name of a data set."""
    return data not in (*DATA_SETS, "auto", "synthetic")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How to read images: options of experiments, of the same names."""
    image_size: str = ""
    background: str = "white"
    grey: bool = False
    transpose: bool = False
    classes: str = ""
    coarse: bool = False
    test_split: float = 0.0
    skip_unreadable: bool = False
    force: bool = False

    @classmethod
    def of(cls, options):
        """Return the Reading that a Config asks for."""
        return cls(**{f.name: getattr(options, f.name) for f in dataclasses.fields(cls)})

    @property
    def size(self):
        """(height, width) to which images are fitted, or None."""
        found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", self.image_size)
        if not self.image_size:
            return None
        if not found or 0 in (size := (int(found[1]), int(found[2] or found[1]))):
            raise InputError(f"--image-size {self.image_size}: give height x width in pixels, like "
                             "32 or 32x48")
        return size

    @property
    def size_of_files(self):
        """(height, width) to which pictures are fitted as they lie in files, or None."""
        return self.size and (self.size[::-1] if self.transpose else self.size)


@dataclasses.dataclass(frozen=True)
class Images:
    """A classification data set in memory.

    Images are uint8 (n, height, width, channels), labels int32 (n,) with values in
    0 .. len(classes) - 1. `name` is short, for file names; `title` says in full what the data set
    is and is printed wherever a number or picture made from it appears. `validation`: (images,
    labels) where the data set has its own, else None. mirrors: whether its images may be mirrored.
    notes: what a reader did that its user should know, a line each.
    """
    name: str
    title: str
    classes: tuple
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    validation: tuple = None
    description: str = ""
    lossy: bool = False
    mirrors: bool = True
    notes: tuple = ()

    def __post_init__(self):
        """Refuse other arrays than those described above."""
        parts = {"train": self.arrays[:2], "test": self.arrays[2:], "validation": self.validation}
        for role, part in parts.items():
            if part and not _are_as_described(*part, np.shape(self.train_images)[1:], self.classes):
                raise InputError(
                    f"data set {self.name}: {role} images are {_described(part[0])}, labels "
                    f"{_described(part[1])}; a data set's function must return images uint8 (n, "
                    "height, width, channels), all of one size, and labels, integers (n,) from 0 "
                    f"to {len(self.classes) - 1}, the number of classes less one")

    @classmethod
    def titled(cls, name, description, classes, arrays, lossy=False, validation=None, mirrors=True,
               notes=()):
        """Return Images titled "<description> (28x28 grey, 10,000 train, 1,000 test)".

        arrays: training images and labels, test images and labels. lossy: whether the pixels come
        from JPEG files, which the title then says.
        """
        classes = [str(c).encode(errors="backslashreplace").decode() for c in classes]  # as UTF-8
        bare = cls(name, "", tuple(classes), *arrays, validation, description, lossy, mirrors,
                   tuple(map(in_one_line, notes)))
        train, test = bare.train_images, bare.test_images
        _, height, width, channels = train.shape
        kind = "grey" if channels == 1 else "colour"
        sizes = f"{height}x{width} {kind}, {len(train):,} train, {len(test):,} test"
        sizes += f", {len(validation[1]):,} validation" if validation else ""
        title = in_one_line(f"{description} ({'lossy JPEG, ' if lossy else ''}{sizes})")
        return dataclasses.replace(bare, title=title)

    @property
    def arrays(self):
        """Return training images and labels, test images and labels."""
        return self.train_images, self.train_labels, self.test_images, self.test_labels

    @property
    def checksum(self):
        """Return the SHA-256 of shapes, pixels and labels: equal data, equal checksum."""
        digest = hashlib.sha256()
        for array in (*self.arrays, *(self.validation or ())):
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def changed(self, function, description):
        """Return Images whose every part (images, labels) is function(images, labels)."""
        train, test = function(*self.arrays[:2]), function(*self.arrays[2:])
        return Images.titled(self.name, description, self.classes, (*train, *test), self.lossy,
                             self.validation and function(*self.validation), self.mirrors,
                             self.notes)

    def noting(self, *notes):
        """Return Images with more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *map(in_one_line, notes)))


def _are_as_described(images, labels, shape, classes):
    """Return whether these are uint8 images of a shape, and the numbers of their classes."""
    return (isinstance(images, np.ndarray) and images.dtype == np.uint8
            and images.shape[1:] == shape and len(shape) == 3
            and isinstance(labels, np.ndarray) and labels.dtype.kind in "iu"
            and labels.shape == images.shape[:1]
            and (not len(labels) or 0 <= labels.min() and labels.max() < len(classes)))


def _described(array):
    """Return in few words what a value is: "float64 (5, 28, 28) from 0.0 to 1.0"."""
    if not isinstance(array, np.ndarray):
        return f"a {type(array).__name__}"
    numbers = array.size and array.dtype.kind in "iuf"
    return f"{array.dtype} {array.shape}" + (
        f" from {array.min()} to {array.max()}" if numbers else "")


def from_arrays(path, parts, names=(), mirrors=False, name="", description="", notes=()):
    """Return Images of {"train" | "test" | "validation": (images, labels)} that `path` holds.

    Images (n, height, width) or (n, height, width, 1 or 3) of uint8 or integers of its range;
    labels integers (n,) or (n, 1), 0 or more. names: of the classes, by label, if they have any;
    classes without an image are dropped. Where there are no test images the validation images are
    these. Raises InputError that names what is wrong.
    """
    parts = {role: _checked(path, role, *own) for role, own in parts.items()}
    if "train" not in parts:
        raise InputError(f"{path}: no training images")
    train = parts["train"]
    for role, (images, _) in parts.items():
        if images.shape[1:] != train[0].shape[1:]:
            raise InputError(f"{path}: training images are {train[0].shape[1:]}, {role} images "
                             f"{images.shape[1:]}")
    values = np.unique(train[1])
    named = len(names) > values[-1]
    classes = [str(names[value]) if named else str(value) for value in values]
    notes = list(notes)
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        notes.append("the validation images are the test set, as there is no other")
    twice = {name for name, count in collections.Counter(classes).items() if count > 1}
    if twice:
        classes = [f"{name} ({value})" if name in twice else name
                   for name, value in zip(classes, values)]
        notes.append(f"several classes are called {min(twice)}: their labels are added to the name")
    if values[0] or len(values) <= values[-1]:
        missing = next(v for v in range(len(values)) if v != values[v])
        notes.append(f"no training image of label {missing}: the classes are the {len(values):,} "
                     f"labels that occur, {values[0]} to {values[-1]}")
    for role, (images, labels) in parts.items():
        strange = np.setdiff1d(labels, values)
        if len(strange):
            raise InputError(f"{path}: label {strange[0]} of {role} images is not among the "
                             "training images'")
        parts[role] = images, np.searchsorted(values, labels).astype(np.int32)
    if (most := train[0].max()) < 128:
        notes.append(f"the largest pixel is {most}, read as {most} of 255; if {most} is as bright "
                     f"as can be, multiply the pixels by 255 / {most}")
    empty = train[0][:0], parts["train"][1][:0]
    return Images.titled(name or path.name.partition(".")[0], description or path.name, classes,
                         (*parts["train"], *parts.get("test", empty)), False,
                         parts.get("validation"), mirrors, notes)


def _checked(path, role, images, labels):
    """Return images and labels in their right form, or refuse them."""
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    channels = images.shape[3:] or (1,)
    if (images.ndim not in (3, 4) or channels not in ((1,), (3,)) or labels.ndim != 1
            or len(images) != len(labels) or not images.size):
        raise InputError(f"{path}: {role} has images {images.shape} and labels {labels.shape}; "
                         "they must be (n, height, width), or (n, height, width, 3) in colour, and "
                         "(n,)")
    for what, array in (("images", images), ("labels", labels)):
        if array.dtype.kind not in "iu":
            raise InputError(f"{path}: {role} {what} are {array.dtype}, not integers" + (
                " 0 to 255" if what == "images" else ""))
    if labels.min() < 0:
        raise InputError(f"{path}: {role} labels begin at {labels.min()}; they must be 0 or more")
    if images.dtype != np.uint8 and (images.min() < 0 or images.max() > 255):
        raise InputError(f"{path}: {role} pixels are {images.min()} to {images.max()}, not "
                         "0 to 255")
    return images.reshape(*images.shape[:3], -1).astype(np.uint8, copy=False), labels


# ------------------------------------------------------------------- what options make of images

def restrict(data, how):
    """Return Images as a Reading asks: transposed, fitted, some classes only, grey; the title says
    so.

    Classes are numbers, "0-4" or "0,2,7", or all, and numbered anew. Raises InputError if the data
    set has no such class or fewer than two are named.
    """
    if how.transpose:
        data = data.changed(lambda pixels, labels: (pixels.swapaxes(1, 2), labels),
                            f"{data.description}, transposed")
    if how.size and data.train_images.shape[1:3] != how.size:
        count = sum(map(len, (data.train_labels, data.test_labels, *(data.validation or ())[1:])))
        machine.check_memory(2 * count * math.prod(how.size) * data.train_images.shape[3],
                             f"{count:,} images of {how.image_size} pixels", "a smaller "
                             "--image-size needs less", how.force)
        data = data.changed(lambda pixels, labels: (resize(pixels, how.size), labels),
                            f"{data.description}, resized")
    if how.classes:
        data = _some_classes(data, how.classes)
    if how.grey and data.train_images.shape[-1] == 3:
        grey = data.changed(lambda pixels, labels: (_luma(pixels), labels), data.description)
        data = dataclasses.replace(grey, title=f"{data.title}, made grey")
    return data


def _some_classes(data, text):
    """Return Images of the classes that --classes names, numbered anew."""
    chosen = _class_numbers(text, len(data.classes))
    names = tuple(data.classes[c] for c in chosen)
    said = ", ".join(names if len(names) < 5 else (names[0], "...", names[-1]))
    if not np.isin(data.test_labels, chosen).any():
        raise InputError(f"--classes {text}: the test set has no image of {said}; name others too")
    if data.validation and not np.isin(data.validation[1], chosen).any():
        data = dataclasses.replace(data, validation=None).noting(
            f"no validation image of classes {text}; training images are held out in their place")
    numbered = names == tuple(map(str, chosen))
    data = data.changed(lambda *part: _only(chosen, *part), f"{data.description}, classes {text} "
                        "only" + f": {said}" * (not numbered))
    return dataclasses.replace(data, classes=names)


def _class_numbers(text, count):
    """Return the ascending class numbers that "0-4" or "0,2,7" names, of `count` classes."""
    found = [re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part) for part in text.split(",")]
    ranges = [(int(part[1]), int(part[2] or part[1])) for part in found if part]
    right = None not in found and all(first <= last < count for first, last in ranges)
    numbers = {c for first, last in ranges for c in range(first, last + 1)} if right else set()
    if len(numbers) < 2:
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


def count_repeated(data):
    """Return how many test images are, pixel by pixel, training images too."""
    seen = {hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            for image in data.train_images}
    return sum(hashlib.blake2b(image.tobytes(), digest_size=16).digest() in seen
               for image in data.test_images)
