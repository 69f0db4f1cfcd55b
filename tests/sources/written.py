"""Write small data sets in the forms that sources/ reads, and fixtures for its tests."""
import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from sources import cache as cache_of_arrays
from sources import cifar, mnist
from sources.images import Reading
from utils import load_images

CIFAR10 = "cifar-10-batches-bin"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Give each test a cache folder of its own."""
    monkeypatch.setattr(cache_of_arrays, "CACHE", tmp_path_factory.mktemp("cache") / "new")
    return cache_of_arrays.CACHE


@pytest.fixture
def tree(tmp_path):
    """Write two classes, two training images and one test image each; pixels = 10 * class + i."""
    for split, count in (("Train", 2), ("test", 1)):
        for label in ("2", "10"):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "set" / split / label / f"{i}.png").write_bytes(
                    grey(10 * int(label) + i))
    return tmp_path / "set"


def saved(save, *what, **options):
    """Return the bytes that a function saves into a stream."""
    stream = io.BytesIO()
    save(stream, *what, **options)
    return stream.getvalue()


def encoded(image, kind, **options):
    """Return a Pillow image as the bytes of a picture file."""
    return saved(image.save, kind, **options)


def png(pixels, **options):
    """Return an array of pixels as the bytes of a PNG."""
    return encoded(Image.fromarray(np.asarray(pixels, np.uint8)), "png", **options)


def grey(value, size=3):
    """Return a grey PNG, all pixels of one value."""
    return png(np.full((size, size), value))


def official_cifar10(folder, monkeypatch, records):
    """Write CIFAR-10's folder whose six batches hold `records`; take their SHA-1 as published."""
    (folder / CIFAR10).mkdir(parents=True)
    names = [name for name in cifar.PUBLISHED if name.endswith(".bin")]
    for name in names:
        (folder / CIFAR10 / name).write_bytes(records)
    monkeypatch.setattr(cifar, "PUBLISHED", dict.fromkeys(names, hashlib.sha1(records).hexdigest()))
    return folder


def values(**parts):
    """Return {file: a grey PNG of one value} of train=dict(cat=[10, 11], ...), test=..."""
    return {f"{part}/{name}/{i}.png": grey(value) for part, classes in parts.items()
            for name, own in classes.items() for i, value in enumerate(own)}


TWO = dict(train=dict(cat=[10, 11], dog=[20, 21]), test=dict(cat=[12], dog=[22]))


def below(prefix, files):
    """Return files below another folder."""
    return {prefix + name: content for name, content in files.items()}


def read(path, **how):
    """Return the Images of a path, read as options ask."""
    return load_images(str(path), how=Reading(**how))


def seen(data):
    """Return Images as {part: {class: [first value of each image]}}, as values() takes it."""
    parts = dict(train=data.arrays[:2], test=data.arrays[2:],
                 validation=data.validation or ((), ()))
    return {part: {name: [int(x[0, 0, 0]) for x, y in zip(images, labels) if y == c]
                   for c, name in enumerate(data.classes)}
            for part, (images, labels) in parts.items() if len(labels)}


def folder(path, files):
    """Write {name: content}; return the path."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def packed(path, files, method=zipfile.ZIP_STORED):
    """Write {name: content} as an archive, its kind by its ending, without entries of folders;
    return its path."""
    if path.suffix in (".zip", ".npz"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, method)
    else:
        kind = {".tar": "", ".tgz": "gz"}.get(path.suffix, path.suffix[1:])
        with tarfile.open(path, f"w:{kind}") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def zipped(data):
    """Compress without the time of day, which would be in the names of tests."""
    return gzip.compress(data, mtime=0)


def raw_idx(array, code=8, kind=np.uint8):
    """Return an array as an IDX file."""
    sizes = b"".join(n.to_bytes(4) for n in array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(kind).tobytes()


def idx(array):
    """Return an array as a gzipped IDX file."""
    return zipped(raw_idx(array))


ARRAYS = (np.arange(60).reshape(3, 4, 5), np.array([2, 0, 1]),
          np.zeros((2, 4, 5)), np.array([1, 1]))


def idx_folder(path):
    """Write four files of 3 training and 2 test images of 4x5 pixels."""
    return folder(path, dict(zip(mnist.MD5, map(idx, ARRAYS), strict=True)))


def npz(path, **arrays):
    """Write arrays as an .npz file; return its path."""
    np.savez(path, **arrays)
    return path


def npy(**header):
    """Return an .npy file of three numbers whose header may say anything else."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (3,)} | header
    return saved(np.lib.format.write_array_header_1_0, header) + bytes(12)


def cifar10_pickles(batch, names=(b"cat", b"dog"), protocol=2):
    """Return {file: content} of CIFAR-10's Python version, all six batches alike."""
    files = dict.fromkeys([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], batch)
    return {name: pickle.dumps(value, protocol) for name, value in (
        *files.items(), ("batches.meta", {b"label_names": list(names)}))}


def parquet(columns, info=None):
    """Return the bytes of a Parquet file of {column: values}; info: what the hub's library says."""
    import json

    import pyarrow.parquet
    metadata = {"huggingface": json.dumps({"info": info})} if info else None
    table = pyarrow.table(columns, metadata=metadata)
    return saved(lambda stream: pyarrow.parquet.write_table(table, stream))


TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # orientation 6
PICTURES = {"png": ["L", "RGBA", "P", "I;16"], "jpeg": ["RGB", "CMYK"], "gif": ["P"],
            "webp": ["RGB", "RGBA"], "tiff": ["RGB", "CMYK", "I;16"], "bmp": ["RGB"],
            "ppm": ["RGB"]}


def forms():
    """Return {form: {file: content}} of every form that is read, each of two classes."""
    labels, rng, found = np.uint8([0, 1, 1, 0]), np.random.default_rng(0), {}
    grey, colour = (rng.integers(0, 256, (4, *size), np.uint8) for size in ((8, 8), (3, 32, 32)))
    for kind, mode in ((kind, mode) for kind, modes in PICTURES.items() for mode in modes):
        images = [Image.fromarray(x[:, :8, :8].transpose(1, 2, 0)).convert(
            "I" if mode == "I;16" else mode).convert(mode) for x in colour]
        options = {"exif": TURNED} if kind == "jpeg" else {}
        found[f"{kind} {mode}"] = {
            f"{part}/{c}/{i}.{kind}": encoded(x, kind, **options) for part in ("train", "test")
            for i, (c, x) in enumerate(zip("abba", images))}
    found["idx"] = {name[:-3]: raw_idx(x) for name, x in zip(mnist.MD5, (grey, labels) * 2)}
    found["idx gz"] = {f"{name}.gz": zipped(x) for name, x in found["idx"].items()}
    found["npy"] = {f"{x}_{part}.npy": saved(np.save, a) for part in ("train", "test")
                    for x, a in (("x", grey), ("y", labels[:, None]))}
    rows = "".join(f"{c},{','.join(map(str, x.ravel()))}\n" for c, x in zip(labels, grey)).encode()
    found["csv"] = {"train.csv": b"label" + b",pixel" * 64 + b"\n" + rows, "test.csv": rows}
    rows = b"".join(bytes([c]) + x.tobytes() for c, x in zip(labels, colour))
    found["cifar bin"] = {"data_batch_1.bin": rows, "test_batch.bin": rows,
                          "batches.meta.txt": b"cat\ndog\n"}
    batch = {b"data": colour.reshape(4, -1), b"labels": labels.tolist()}
    found |= {f"cifar py {p}": cifar10_pickles(batch, protocol=p) for p in (2, 4)}
    content = parquet({"image": [{"bytes": x} for x in list(found["png L"].values())[:4]],
                       "label": labels}, {"features": {"label": {"names": ["cat", "dog"]}}})
    return found | {"parquet": {"train-0.parquet": content, "test-0.parquet": content}}
