"""Read CIFAR-10 and CIFAR-100, binary or Python version, and the course's subset of CIFAR-10."""
import functools
import hashlib
import operator
import re

import numpy as np
from PIL import Image

from sources import pickles, synthetic
from sources.cache import cached
from sources.download import download
from sources.folders import has_pictures, read_class_folders
from sources.images import LUMA, Images, data_set, form, from_arrays
from sources.tree import content_key, open_tree
from system.command_line import InputError, first_line

URL = "https://www.cs.toronto.edu/~kriz/"
MD5 = {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
       "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"}
PUBLISHED = {  # SHA-1 of the binary files as listed by Apache MXNet, gluon/data/vision/datasets.py;
    # MD5 of the others as listed by torchvision, datasets/cifar.py
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
           "dog", "frog", "horse", "ship", "truck")


@data_set("cifar10", stand_in=synthetic.patterns)
def cifar10(data_dir, how):
    """Read all of CIFAR-10, 32x32 colour, 50,000 + 10,000 images, downloading it if need be."""
    parts, _ = official(data_dir, "cifar-10", "batches-")
    return from_arrays(data_dir, parts, CLASSES, True, "cifar10", "CIFAR-10")


@data_set("cifar100", stand_in=synthetic.patterns, coarse=True)
def cifar100(data_dir, how):
    """Read all of CIFAR-100, 32x32 colour, 50,000 + 10,000 images of 100 classes or, --coarse, 20.
    """
    parts, names = official(data_dir, "cifar-100", "", how.coarse)
    return from_arrays(data_dir, parts, names, True, "cifar100",
                       "CIFAR-100" + ", coarse labels" * how.coarse)


@data_set("elec677", stand_in=synthetic.patterns)
def elec677(data_dir, how):
    """Read the course's subset, 28x28 grey, 10,000 + 1,000 images.

    It is CIFAR10.zip or CIFAR10/ in data_dir, else it is rebuilt from the official CIFAR-10, which
    is downloaded if need be.
    """
    for name in ("CIFAR10.zip", "CIFAR10"):
        if (data_dir / name).exists():
            tree = open_tree(data_dir / name)
            if not has_pictures(tree):
                raise InputError(f"{data_dir / name}: no pictures under train/<class>/")
            given = read_class_folders(tree, how)
            shape = given.train_images.shape[1:]
            if given.classes not in (tuple("0123456789"), CLASSES) or shape != (
                    *(how.size_of_files or (28, 28)), 1):
                return given.noting(f"{data_dir / name} is not the course's subset of CIFAR-10, "
                                    "which is 28x28 grey, of classes 0 to 9")
            return Images.titled("elec677", "CIFAR-10, ELEC 677 subset", CLASSES, given.arrays,
                                 notes=given.notes, lossy=given.lossy,
                                 validation=given.validation)
    parts, _ = official(data_dir, "cifar-10", "batches-")
    key = hashlib.sha256(np.ascontiguousarray(parts["train"][0])).hexdigest()
    arrays = cached("elec677", key, lambda: rebuild_subset(*parts["train"], *parts["test"]))
    return Images.titled("elec677", "CIFAR-10, ELEC 677 subset rebuilt from the official archive",
                         CLASSES, arrays)


def official(data_dir, name, batches, coarse=False):
    """Return ({"train" | "test": (images, labels)}, names of the classes) of an official CIFAR.

    It is looked for as a folder, then as an archive, each in the binary and the Python version, and
    else downloaded. Raises InputError that names a file which is not what was published.
    """
    folders = [data_dir / f"{name}-batches-bin"] * (name == "cifar-10")
    folders += [data_dir / f"{name}-{batches}{'py' if batches else 'python'}"]
    archives = [data_dir / f"{name}-{version}.tar.gz" for version in ("binary", "python")]
    source = next((path for path in (*folders, *archives) if path.exists()), archives[0])
    if not source.exists():
        download(URL + source.name, source, MD5[source.name])

    def read():
        tree = open_tree(source)
        found = next(iter(_sets(tree)), None)
        if found is None or len(found[0]) != (5 if name == "cifar-10" else 1):
            raise InputError(f"{source}: not all of the official files; delete it and run again to "
                             "download them")
        parts, names = _read(tree, *found, coarse, functools.partial(_check_published, source))
        return *parts["train"], *parts["test"], np.array(names, str)
    *arrays, names = cached(name, f"{content_key(source)} {coarse}", read)
    return {"train": arrays[:2], "test": arrays[2:]}, names


def _check_published(source, file, content):
    """Raise InputError if a file's content is not what was published."""
    base = file.rpartition("/")[2]
    if base in PUBLISHED:
        published = PUBLISHED[base]
        digest = hashlib.new("sha1" if len(published) == 40 else "md5", content).hexdigest()
    else:  # of the binary CIFAR-100 only the archive's hash is published
        published, digest = MD5.get(source.name), hashlib.md5(source.read_bytes()).hexdigest()
    if digest != published:
        raise InputError(f"{source}: {base} is not the official file (its hash differs); delete it "
                         "and run again to download it")


# ------------------------------------------------------------------------------------ the files

def _sets(tree):
    """Return [(training files, test file)] of the topmost CIFARs in a Tree."""
    names, found = set(tree.files), []
    for file in sorted(names, key=lambda name: (name.count("/"), name)):
        folder, slash, base = file.rpartition("/")
        if found and file.count("/") > found[0][1].count("/"):
            break
        end = ".bin" if base.endswith(".bin") else ""
        own = f"{folder}{slash}"
        if base == f"test_batch{end}":
            train = sorted((n for n in names if re.fullmatch(
                re.escape(own) + r"data_batch_\d+" + re.escape(end), n)),
                key=lambda n: (len(n), n))  # 2 before 10
            if train:
                found.append((train, file))
        if base == f"test{end}" and f"{own}train{end}" in names and (
                end or f"{own}meta" in names):
            found.append(([f"{own}train{end}"], file))
    return found


@form("CIFAR batches", _sets, coarse=True)
def read_cifar(tree, how):
    """Return Images of the files of CIFAR-10 or CIFAR-100, whatever images are in them."""
    sets = _sets(tree)
    if len(sets) > 1:
        raise InputError(f"{tree.path}: several data sets, of {sets[0][1]} and {sets[1][1]}; give "
                         "one, in a folder of its own, as --data")
    if how.coarse and "_batch" in sets[0][1]:
        raise InputError(f"--coarse: {tree.path} is like CIFAR-10, without coarse labels")
    parts, names = _read(tree, *sets[0], how.coarse)
    return from_arrays(tree.path, parts, names, True)


def _read(tree, train, test, coarse, check=lambda file, content: None):
    """Return ({"train" | "test": (images, labels)}, names of the classes).

    check(file, content) raises InputError if it is not what it should be.
    """
    def read(file):
        content = tree.read(file)
        check(file, content)
        one_of_ten = "_batch" in file.rpartition("/")[2]
        parse = _binary if file.endswith(".bin") else _pickled
        try:
            return parse(content, one_of_ten, coarse)
        except Exception as error:  # a pickle can raise anything
            raise InputError(f"{tree.path}: {file} is no batch of CIFAR ({first_line(error)})"
                             ) from error
    batches = [read(file) for file in train]
    parts = {"train": tuple(map(np.concatenate, zip(*batches))), "test": read(test)}
    return parts, _names(tree, test, coarse)


def _binary(content, one_of_ten, coarse):
    """Return images and labels of records: a label (of CIFAR-100 the coarse, then the fine one),
    then 1,024 bytes each of red, green and blue."""
    labels = 1 if one_of_ten else 2
    records = np.frombuffer(content, np.uint8).reshape(-1, labels + 3 * 32 * 32)
    return _planes(records[:, labels:]), records[:, 0 if coarse else labels - 1].astype(np.int32)


def _pickled(content, one_of_ten, coarse):
    """Return images and labels of a pickled batch."""
    batch = pickles.loads(content)
    labels = batch["labels" if one_of_ten else "coarse_labels" if coarse else "fine_labels"]
    pixels = batch["data"]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are {getattr(pixels, 'dtype', 'no array')}")
    return _planes(pixels), np.array([*map(operator.index, labels)], np.int32)


def _planes(pixels):
    """Return images (n, 32, 32, 3) of rows of 3 x 32 x 32 values."""
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _names(tree, test, coarse):
    """Return the names of the classes that lie beside the batches, or ()."""
    folder, slash, base = test.rpartition("/")
    kind = "coarse" if coarse else "fine"
    file = {"test_batch": "batches.meta", "test_batch.bin": "batches.meta.txt", "test": "meta",
            "test.bin": f"{kind}_label_names.txt"}[base]
    if folder + slash + file not in tree.files:
        return ()
    content = tree.read(folder + slash + file)
    try:
        if base.endswith(".bin"):
            return list(filter(None, map(str.strip, content.decode("utf-8-sig").splitlines())))
        names = pickles.loads(content)["label_names" if base == "test_batch"
                                       else f"{kind}_label_names"]
        return [name.decode() if isinstance(name, bytes) else name.strip() for name in names]
    except Exception as error:  # a pickle can raise anything
        raise InputError(f"{tree.path}: {folder + slash + file} cannot be read "
                         f"({first_line(error)})") from error


# ---------------------------------------------------------------------------- the course's subset

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
