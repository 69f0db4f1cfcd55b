"""Read your own images: a folder or zip of train/<class>/* and test/<class>/*."""
import contextlib
import io
import struct
import zipfile

import numpy as np
from PIL import Image

from sources.cache import cached
from sources.images import Images
from system.command_line import InputError, first_line

SPLITS = ("train", "test")
JPEG = (".jpg", ".jpeg")


def read_class_folders(path):
    """Return Images of a folder or zip of train/<class>/* and test/<class>/*, PNG or JPEG.

    Classes are in order of their names, numbers by value; all images must have one size and one
    mode, grey or colour. Raises InputError that names the file and what is wrong.
    """
    with _opened(path) as (names, read):
        listing = _list_images(names)
        classes = sorted({name for _, name, _ in listing}, key=_natural)
        for split in SPLITS:
            filled = {name for s, name, file in listing if s == split and file}
            if not filled:
                raise InputError(f"{path}: no images under {split}/<class>/ (PNG or JPEG)")
            if missing := [name for name in classes if name not in filled]:
                raise InputError(f"{path}: class {missing[0]!r} has no image in {split}/")
        arrays = cached(path.stem, path, lambda: _decode(path, listing, read, classes))
    lossy = any(file.lower().endswith(JPEG) for *_, file in listing)
    return Images.titled(path.stem, path.name, classes, arrays, lossy)


@contextlib.contextmanager
def _opened(path):
    """Open a folder or zip: yield the names in it, "/" after folders, and a function
    name -> bytes."""
    if path.is_dir():
        yield ([p.relative_to(path).as_posix() + "/" * p.is_dir() for p in path.rglob("*")],
               lambda name: (path / name).read_bytes())
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, NotImplementedError, struct.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a zip archive, or a damaged one; copy it anew "
                         f"({first_line(error)})") from error
    with archive:
        yield archive.namelist(), archive.read


def _list_images(names):
    """Return [(split, class, file)] in order; the file of an empty class folder is ""."""
    listing = []
    for name in names:
        *parents, file = name.split("/")
        if len(parents) < 2 or parents[-2].lower() not in SPLITS or file.startswith("."):
            continue
        if not file or file.lower().endswith((".png", *JPEG)):
            listing.append((parents[-2].lower(), parents[-1], file and name))
    return sorted(listing, key=lambda row: (row[0], _natural(row[1]), row[2]))


def _natural(name):
    """Return a sort key: numbers by value and before words ("2" < "10" < "cat")."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _decode(path, listing, read, classes):
    """Return training images, labels, test images and labels of the listed files."""
    pixels, labels = {split: [] for split in SPLITS}, {split: [] for split in SPLITS}
    import tqdm
    files = [row for row in listing if row[2]]
    first = None
    for split, name, file in tqdm.tqdm(files, desc=f"decoding {path.name}", disable=None,
                                       leave=False):
        image = _decode_image(path, file, read)
        first = first or image.shape
        if image.shape != first:
            raise InputError(f"{path}: {file} is {'x'.join(map(str, image.shape))}, the first "
                             f"image is {'x'.join(map(str, first))}; all must have one size and "
                             "one mode")
        pixels[split].append(image)
        labels[split].append(classes.index(name))
    return (np.stack(pixels["train"]), np.int32(labels["train"]),
            np.stack(pixels["test"]), np.int32(labels["test"]))


def _decode_image(path, file, read):
    """Return an image as uint8 (height, width, 1 if it is grey, else 3)."""
    try:
        with Image.open(io.BytesIO(read(file))) as image:
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except Exception as error:  # whatever a decoder says of a damaged file is the user's to mend
        raise InputError(f"{path}: {file} is not a readable image "
                         f"({first_line(error)})") from error
    return pixels.reshape(*pixels.shape[:2], -1)
