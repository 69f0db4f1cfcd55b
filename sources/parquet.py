"""Read image data sets as the Hugging Face hub keeps them: Parquet files."""
import io
import itertools
import json
import operator
import re

import numpy as np

from sources.folders import role_of
from sources.images import form, from_arrays
from sources.pictures import decode_files
from system.command_line import InputError, first_line


def _tables(tree):
    return [name for name in tree.files if name.endswith(".parquet")]


def _roles(tree):
    """Return {file: role}, which a word of its name or of a folder says, all for training if none
    has such a word. InputError if only some have, or if several data sets are there."""
    said = {file: next(filter(None, (role_of(part)[0] for part in file.split("/")[::-1])), None)
            for file in _tables(tree)}
    silent = [file for file, role in said.items() if not role]
    if silent and any(said.values()):
        raise InputError(f"{tree.path}: the name of {silent[0]} says neither train, test nor "
                         "validation, as others do; rename it, or move it elsewhere")
    first = {}  # {role: (name without numbers, file)}
    for file, role in said.items():
        folder, _, base = file.rpartition("/")
        stem = folder, re.sub(r"(?<=\d)-[0-9a-f]{16}\.|\d", "", base)  # the hub's hash of a shard
        if first.setdefault(role, (stem, file))[0] != stem:
            raise InputError(f"{tree.path}: several data sets, of {first[role][1]} and {file}; "
                             "give one, in a folder of its own, as --data")
    return {file: role or "train" for file, role in said.items()}


class _Pictures:
    """Pictures in a table's rows, read like a Tree's files."""

    def __init__(self, path, contents):
        self.path, self.contents, self.files = path, contents, list(contents)

    def read(self, name):
        return self.contents[name]


@form("Parquet files", _tables, coarse=True)
def read_parquet(tree, how):
    """Return Images of files like train-00000-of-00001.parquet: columns "image" (or "img") of
    pictures and "label" (or "fine_label", "coarse_label").

    Names of classes are taken from the schema, where the hub's library puts them. Raises InputError
    if pyarrow is not installed.
    """
    contents, rows, names = {}, [], []
    for file, role in _roles(tree).items():
        images, labels, own = _read(tree, file, how.coarse)
        if own and names and own != names:
            raise InputError(f"{tree.path}: {file} names its classes otherwise than another file: "
                             f"{_difference(own, names)}; are they of one data set?")
        names = own or names
        contents |= {f"{file}/{i}": image for i, image in enumerate(images)}
        rows += [(role, label) for label in labels]
    pixels, kept, notes = decode_files(_Pictures(tree.path, contents), list(contents), how)
    rows = [row for row, there in zip(rows, kept) if there]
    roles, labels = np.array([role for role, _ in rows]), np.array([label for _, label in rows])
    return from_arrays(tree.path, {str(role): (pixels[roles == role], labels[roles == role])
                                   for role in np.unique(roles)}, names, True, notes=notes)


def _read(tree, file, coarse):
    """Return the pictures and labels of a file, and the names of its classes, [] if it has none."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{tree.path}: to read Parquet files, pip install pyarrow") from error
    wanted = ("coarse_label",) if coarse else ("label", "fine_label")
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(tree.read(file)))
        image = next(c for c in ("image", "img") if c in table.column_names)
        label = next(c for c in wanted if c in table.column_names)
        said = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        names = said.get("info", {}).get("features", {}).get(label, {}).get("names")
        return ([picture["bytes"] or b"" for picture in table[image].to_pylist()],
                [int(operator.index(value)) for value in table[label].to_pylist()],
                [*map(str, names or ())])
    except StopIteration:
        raise InputError(f"{tree.path}: {file} has columns {', '.join(table.column_names)}; "
                         f"wanted are image and {wanted[0]}") from None
    except Exception as error:  # pyarrow's errors have no common type
        raise InputError(f"{tree.path}: {file} cannot be read as images and labels "
                         f"({first_line(error)})") from error


def _difference(one, other):
    """Return the first two names that differ: "'cat', not 'dog'"."""
    return "{!r}, not {!r}".format(*next((a, b) for a, b in itertools.zip_longest(one, other)
                                         if a != b))
