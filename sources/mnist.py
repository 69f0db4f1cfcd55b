"""Read MNIST, and data sets in its format: four IDX files."""
import gzip
import hashlib
import math
import zlib

import numpy as np

from sources import synthetic
from sources.download import download
from sources.images import Images, data_set
from system.command_line import InputError, first_line

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MD5 = {  # in the order of Images: training images and labels, test images and labels
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


@data_set("mnist", stand_in=synthetic.digits)
def mnist(data_dir):
    """Read MNIST, 28x28 grey digits, 60,000 + 10,000, from data_dir or data_dir/mnist.

    Each file must have its published MD5; what is missing is downloaded.
    """
    folder = data_dir if (data_dir / next(iter(MD5))).exists() else data_dir / "mnist"
    for name, md5 in MD5.items():
        if not (folder / name).exists():
            download(URL + name, folder / name, md5)
        elif hashlib.md5((folder / name).read_bytes()).hexdigest() != md5:
            raise InputError(f"{folder / name} is not the official file (MD5 differs); delete it "
                             "and run again to download it")
    return read_idx_folder(folder, "mnist", "MNIST")


def is_idx_folder(path):
    """Return whether a path is a folder that holds any of MNIST's four file names."""
    return path.is_dir() and any((path / name).exists() for name in MD5)


def read_idx_folder(folder, name="", description=""):
    """Return Images of four IDX files named like MNIST's; name and description: the folder's.

    Classes are 0 .. the largest label. Raises InputError that names the file and what is wrong.
    """
    arrays = [read_idx(folder / file) for file in MD5]
    for pixels, labels, split in ((*arrays[:2], "train"), (*arrays[2:], "t10k")):
        if (pixels.ndim != 3 or labels.ndim != 1 or len(pixels) != len(labels)
                or not pixels.size):
            raise InputError(f"{folder}: {split} has images {pixels.shape} and labels "
                             f"{labels.shape}; they must be (n, height, width) and (n,)")
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise InputError(f"{folder}: training images are {arrays[0].shape[1:]}, test images "
                         f"{arrays[2].shape[1:]}")
    train, test = ((pixels[..., None], labels.astype(np.int32))
                   for pixels, labels in (arrays[:2], arrays[2:]))
    classes = map(str, range(1 + max(train[1].max(), test[1].max())))
    return Images.titled(name or folder.name, description or folder.name, classes,
                         (*train, *test))


def read_idx(path):
    """Return the array in a gzipped IDX file of unsigned bytes, as yann.lecun.com/exdb/mnist says.

    Layout: two zero bytes, 8 for uint8, the number of dimensions, each size as a big-endian 32-bit
    integer, the values. Raises InputError that names what is wrong.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: {'not a whole gzip file' if path.exists() else 'not there'} "
                         f"({first_line(error)})") from error
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise InputError(f"{path}: no IDX file of bytes (it begins with "
                         f"{content[:4].hex() or 'nothing'}, not with 000008)")
    if content[3] > 3:
        raise InputError(f"{path}: its header promises {content[3]} dimensions; images have 3, "
                         "labels 1")
    header = 4 + 4 * content[3]
    shape = [int.from_bytes(content[i:i + 4]) for i in range(4, header, 4)]
    if len(content) != header + math.prod(shape):
        raise InputError(f"{path}: {len(content):,} bytes, but its header promises "
                         f"{' x '.join(map(str, shape))} values, "
                         f"{header + math.prod(shape):,} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
