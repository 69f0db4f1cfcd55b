"""Read MNIST and its relatives: IDX files, Keras's mnist.npz, tables of pixels (CSV)."""
import codecs
import gzip
import hashlib
import io
import math
import pathlib
import re
import zlib

import numpy as np

from sources import synthetic
from sources.cache import cached
from sources.download import download
from sources.folders import ROLES, role_of
from sources.images import data_set, form, from_arrays
from sources.tree import LARGEST_FILE, open_tree
from system import machine
from system.command_line import InputError, first_line
from system.files import check_zip

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MD5 = {  # in the order of Images; of the files, and of what they hold
    "train-images-idx3-ubyte.gz": ("f68b3c2dcbeaaa9fbdd348bbdeb94873",
                                   "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte.gz": ("d53e105ee54ea40749a09fcbcd1e9432",
                                   "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte.gz": ("9fb629c4189551a2d022fa330f9573f3",
                                  "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte.gz": ("ec29112dd5afa0611ce80d1b7f02629c",
                                  "27ae3e4e09519cfbb04c329615203637"),
}
IDX = re.compile(  # "emnist-letters-train-images-idx3-ubyte.gz", "t10k-labels.idx1-ubyte"
    rf"(?P<prefix>(?:.*/)?(?:[^/]*[-_.])?)(?P<role>t10k|{'|'.join(ROLES)})[-_]"
    r"(?P<what>images|labels)[-_.]idx[0-9][-_.](?:ubyte|int)(?P<gz>\.gz)?", re.I)
TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4"}  # of the values, by an IDX file's third byte


@data_set("mnist", stand_in=synthetic.digits, mirrors=False)
def mnist(data_dir, how):
    """Read MNIST, 28x28 grey digits, 60,000 + 10,000, from the data folder.

    It is looked for there, in mnist/ and in MNIST/raw/, gzipped or not, and as mnist.npz. Each file
    must hold what was published; if there is none, MNIST is downloaded.
    """
    for folder in (data_dir, data_dir / "mnist", data_dir / "MNIST" / "raw"):
        names = [path.name for path in folder.glob("*")] if folder.is_dir() else []
        found = {(m["role"].lower(), m["what"].lower()): m[0] for m in map(
            IDX.fullmatch, sorted(names, reverse=True)) if m and not m["prefix"]}
        if found:
            break
    else:
        folder, found = data_dir / "mnist", {}
        if (data_dir / "mnist.npz").exists():
            return read_mnist_npz(data_dir / "mnist.npz")
    arrays = []
    for name, (md5, md5_of_content) in MD5.items():
        role, what = name.split("-")[:2]
        if (role, what) not in found:
            download(URL + name, folder / name, md5)
        file = folder / found.get((role, what), name)
        content = unzipped(file.read_bytes(), file)
        if hashlib.md5(content).hexdigest() != md5_of_content:
            raise InputError(f"{file} is not MNIST's (MD5 differs); give its folder as --data "
                             f"{folder} if you want it, else move it elsewhere")
        arrays.append(parse_idx(content, file))
    return _mnist(*arrays)


def _mnist(*arrays):
    return from_arrays(pathlib.Path("mnist"), {"train": arrays[:2], "test": arrays[2:]},
                       description="MNIST")


def read_mnist_npz(path):
    """Return MNIST as Keras keeps it; InputError if it is not."""
    found = _npz(open_tree(path))
    arrays = [found.get(name, np.zeros(0)) for name in ("x_train", "y_train", "x_test", "y_test")]
    for array, (_, md5) in zip(arrays, MD5.values()):
        header = b"\0\0\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4) for n in array.shape)
        if hashlib.md5(header + array.tobytes()).hexdigest() != md5:
            raise InputError(f"{path} is not MNIST (MD5 differs); give it as --data {path} if you "
                             "want it, else move it elsewhere")
    return _mnist(*arrays)


# ------------------------------------------------------------------------------------ IDX files

def _idx_sets(tree):
    """Return {prefix: {(role, what): file}} of a Tree's IDX files; plain ones before gzipped."""
    sets = {}
    one = IDX.fullmatch(tree.files[0])["prefix"] if hasattr(tree, "neighbours") and IDX.fullmatch(
        tree.files[0]) else None  # of a single file the neighbours of its prefix too
    for name in sorted(getattr(tree, "neighbours", tree.files), key=len, reverse=True):
        if (match := IDX.fullmatch(name)) and one in (None, match["prefix"]):
            role = ROLES.get(match["role"].lower(), "test")  # of t10k
            sets.setdefault(match["prefix"], {})[role, match["what"].lower()] = name
    return sets


@form("IDX files", _idx_sets, mirrors=False)
def read_idx_files(tree, how):
    """Return Images of four IDX files named like MNIST's, any prefix before their names, or of six
    with those of validation images.

    Classes are the labels that occur. Raises InputError that names the file and what is wrong.
    """
    sets = _idx_sets(tree)
    if len(sets) > 1:
        first = [next(iter(own.values())) for own in sets.values()]
        raise InputError(f"{tree.path}: several data sets, of {' and '.join(first[:2])}; give one "
                         "of the files as --data")
    (prefix, files), = sets.items()
    parts, more = {}, sorted({role for role, _ in files} - {"train"})
    for role in ("train", *(more or ["test"])):
        own = []
        for what in ("images", "labels"):
            if (role, what) not in files:
                raise InputError(f"{tree.path}: {prefix}{'t10k' if role == 'test' else role}-{what}"
                                 f"-idx{3 if what == 'images' else 1}-ubyte is not there")
            name = files[role, what]
            own.append(parse_idx(unzipped(tree.read(name), tree.path / name), tree.path / name))
        if own[1].shape[1:] == (8,):  # QMNIST: the digit, then who wrote it
            own[1] = own[1][:, 0]
        parts[role] = own
    strange = [name for name in tree.files if re.search(r"[-_.]idx\d[-_.](ubyte|int)", name)
               and not IDX.fullmatch(name)]
    return from_arrays(
        tree.path, parts, name=(prefix.rpartition("/")[2] or tree.path.name).strip("-_."),
        description=f"{tree.path.name}/{prefix}".strip("-_./"), notes=[
            f"{name} passed over: it is not named as one of MNIST's four" for name in strange])


def unzipped(content, path):
    """Return the content of a file, gzipped or not."""
    if content[:2] != b"\x1f\x8b":
        return content
    most = int(min(LARGEST_FILE, machine.free_memory() / 2))
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            whole = stream.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({first_line(error)})") from error
    if len(whole) > most:
        raise InputError(f"{path}: more than {most:,} bytes unzipped, which a file may have, or "
                         "half of what memory is free")
    return whole


def parse_idx(content, path):
    """Return the array in the bytes of an IDX file, as yann.lecun.com/exdb/mnist says.

    Layout: two zero bytes, the type of the values, the number of dimensions, each size as a
    big-endian 32-bit integer, the values. Raises InputError that names `path` and what is wrong.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        what = "values in floating point" if content[2:3] in (b"\x0d", b"\x0e") else (
            f"begins with {content[:4].hex() or 'nothing'}, not with 000008")
        raise InputError(f"{path}: no IDX file of integers ({what})")
    if content[3] not in (1, 2, 3, 4):
        raise InputError(f"{path}: its header promises {content[3]} dimensions; images have 3, "
                         "labels 1")
    header, kind = 4 + 4 * content[3], np.dtype(TYPES[content[2]])
    shape = [int.from_bytes(content[i:i + 4]) for i in range(4, header, 4)]
    promised = header + kind.itemsize * math.prod(shape)
    if len(content) != promised:
        raise InputError(f"{path}: {len(content):,} bytes, but its header promises "
                         f"{' x '.join(map(str, shape))} values, {promised:,} bytes")
    return np.frombuffer(content, kind, offset=header).reshape(shape)


# -------------------------------------------------------------------------------- NumPy archives

NPZ = [(role, names) for word, role in ROLES.items() for names in (  # Keras's, MedMNIST's
    (f"x_{word}", f"y_{word}"), (f"{word}_images", f"{word}_labels"))]


def _npz_files(tree):
    """Return the .npz files of a Tree, or [""] if it is one itself, opened as a zip."""
    return [""] if {"x_train.npy", "train_images.npy"} & set(tree.files) else [
        name for name in tree.files if name.endswith(".npz")]


def _npz(tree, name=""):
    """Return {name: array} of an .npz file. Never unpickles."""
    if not name:
        files = [file for file in tree.files if file.endswith(".npy")]
        tree.check(files)
        return {file[:-4]: _load(tree, file[:-4], tree.read(file)) for file in files}
    found = _load(tree, name, tree.read(name))
    return found if isinstance(found, dict) else {"one array without a name": found}


def _load(tree, name, content):
    check_zip(tree.path / name, io.BytesIO(content))
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        return {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else loaded
    except Exception as error:  # a header is parsed as if it were Python
        raise InputError(f"{tree.path}: {name} cannot be read as NumPy's ({first_line(error)})"
                         ) from error


@form("NumPy archives", _npz_files, mirrors=False)
def read_npz(tree, how):
    """Return Images of the one .npz file: x_train, y_train, x_test, y_test as Keras's mnist.npz, or
    train_images, train_labels ... as MedMNIST's."""
    files = _npz_files(tree)
    if len(files) > 1:
        raise InputError(f"{tree.path}: several data sets, {' and '.join(files[:2])}; give one of "
                         "them as --data")
    arrays, path = _npz(tree, files[0]), tree.path / files[0]
    found = {role: names for role, names in NPZ if {*names} <= {*arrays}}
    if "train" not in found:
        raise InputError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; wanted are "
                         "x_train, y_train, x_test and y_test")
    unused = sorted({*arrays}.difference(*found.values()))
    return from_arrays(path, {role: (arrays[x], arrays[y]) for role, (x, y) in found.items()},
                       notes=[f"arrays that are not used: {', '.join(unused[:9])}"
                              f"{' ...' * (len(unused) > 9)}"] * bool(unused))


# ------------------------------------------------------------------------------ tables of pixels

def _content(tree, name):
    """Return the content of a CSV file without the mark that Excel begins it with."""
    return tree.read(name).removeprefix(codecs.BOM_UTF8)


def _tables(tree):
    """Return {file: whether it has a heading} of the CSV files that hold a label and pixels."""
    found = {}
    for name in tree.files:
        if name.lower().endswith(".csv"):
            line = _content(tree, name)[:1 << 20].partition(b"\n")[0].decode(errors="replace")
            words = [word.strip().strip('"') for word in line.strip().split(",")]
            if len(words) > 4 and (words[0].lower() == "label"
                                   or all(w.isdecimal() for w in words)):
                numbered = words == [str(i) for i in range(len(words))]  # pandas's own heading
                found[name] = (numbered or words[0].lower() == "label"
                               or not words[-1].isdecimal())
    return found


@form("tables of pixels", _tables, mirrors=False)
def read_tables(tree, how):
    """Return Images of CSV files whose rows are a label and the pixels of a square grey image, as
    Kaggle's train.csv.

    "test" or "val" in a file's name says what it is for; a table without labels is passed over.
    """
    parts, tables = {}, _tables(tree)
    others = [name for name in tree.files if name.lower().endswith(".csv") and name not in tables]
    for name, heading in tables.items():
        word = name.rpartition("/")[2].lower()
        role = role_of(word)[0] or (
            "test" if "test" in word else "validation" if "val" in word else "train")
        if role in parts:
            raise InputError(f"{tree.path}: {name} is a second table of {role} images; keep one")
        parts[role] = _table(tree, name, heading)
    if "train" not in parts:
        raise InputError(f"{tree.path}: no table of training images, like train.csv")
    return from_arrays(tree.path, parts, notes=[
        f"{name} passed over: it has no column of labels" for name in others])


def _table(tree, name, heading):
    """Return the images and labels of a table."""
    def parse():
        rows = _content(tree, name).partition(b"\n")[2] if heading else _content(tree, name)
        if not rows.strip():
            raise InputError(f"{tree.path}: {name} has no rows below its heading")
        try:
            values = np.loadtxt(io.BytesIO(rows), np.int32, delimiter=",", ndmin=2, comments=None,
                                quotechar='"')
        except (ValueError, OverflowError) as error:
            raise InputError(f"{tree.path}: {name} is no table of integers ({first_line(error)})"
                             ) from error
        side = math.isqrt(values.shape[1] - 1)
        if side ** 2 != values.shape[1] - 1:
            raise InputError(f"{tree.path}: {name} has {values.shape[1] - 1:,} pixels a row, which "
                             "are no square image")
        if len(values) and (values[:, 1:].min() < 0 or values[:, 1:].max() > 255):
            raise InputError(f"{tree.path}: {name} has pixels from {values[:, 1:].min()} to "
                             f"{values[:, 1:].max()}, not 0 to 255")
        return values[:, 1:].astype(np.uint8).reshape(-1, side, side), values[:, 0]
    return cached(pathlib.Path(name).stem, f"{tree.key([name])} {name} {heading}", parse)
