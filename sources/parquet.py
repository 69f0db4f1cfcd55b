"""Read image data sets as the Hugging Face hub keeps them: Parquet files."""
import io
import json

import numpy as np

from sources.folders import role_of
from sources.images import form, from_arrays
from sources.pictures import decode_files
from system.command_line import InputError, first_line


def _tables(tree):
    return [name for name in tree.files if name.endswith(".parquet")]


class _Pictures:
    """Pictures in a table's rows, read like a Tree's files."""

    def __init__(self, path, contents):
        self.path, self.contents, self.files = path, contents, list(contents)

    def read(self, name):
        return self.contents[name]


@form("Parquet files", _tables)
def read_parquet(tree, how):
    """Return Images of files like train-00000-of-00001.parquet: columns "image" (or "img") of
    pictures and "label" (or "fine_label", "coarse_label").

    Names of classes are taken from the schema, where the hub's library puts them. Raises InputError
    if pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{tree.path}: to read Parquet files, pip install pyarrow") from error
    contents, rows, names = {}, [], []
    for file in _tables(tree):
        role = next(filter(None, (role_of(part)[0] for part in file.split("/")[::-1])), "train")
        try:
            table = pyarrow.parquet.read_table(io.BytesIO(tree.read(file)))
            image = next(c for c in ("image", "img") if c in table.column_names)
            label = next(c for c in (("coarse_label", "label") if how.coarse else
                                     ("label", "fine_label")) if c in table.column_names)
            said = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
            names = said.get("info", {}).get("features", {}).get(label, {}).get("names") or names
            for i, (picture, value) in enumerate(zip(table[image].to_pylist(),
                                                     table[label].to_pylist())):
                contents[f"{file}/{i}"] = picture["bytes"] or b""
                rows.append((role, int(value), f"{file}/{i}"))
        except StopIteration:
            raise InputError(f"{tree.path}: {file} has columns {', '.join(table.column_names)}; "
                             "wanted are image and label") from None
        except Exception as error:  # pyarrow's errors have no common type
            raise InputError(f"{tree.path}: {file} cannot be read as images and labels "
                             f"({first_line(error)})") from error
    pixels, kept, notes = decode_files(_Pictures(tree.path, contents), list(contents), how)
    rows = [row for row, there in zip(rows, kept) if there]
    roles, labels = np.array([role for role, *_ in rows]), np.array([label for _, label, _ in rows])
    return from_arrays(tree.path, {str(role): (pixels[roles == role], labels[roles == role])
                                   for role in np.unique(roles)}, names, True, notes=notes)
