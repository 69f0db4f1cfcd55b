"""The official CIFAR-10 and the course's subset of it."""
import contextlib
import functools
import hashlib
import io
import os
import pickle
import re
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
import written
from conftest import assert_one_line, read_only, run_without_privilege
from PIL import Image
from written import below, cifar10_pickles, folder, official_cifar10, packed, read

from sources import cifar, pickles
from sources.images import Reading
from system.command_line import InputError
from utils import load_images

cache = written.cache


@functools.cache
def course_subset(folder):
    return load_images("auto", folder)


@pytest.mark.slow
def test_course_subset(real_data):
    data = course_subset(real_data)
    assert data.train_images.shape == (10000, 28, 28, 1) and data.train_images.dtype == np.uint8
    assert data.test_images.shape == (1000, 28, 28, 1)
    assert np.bincount(data.train_labels).tolist() == [1000] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    assert data.name == "elec677" and data.classes[6] == "frog" and "28x28 grey" in data.title
    assert data.checksum.startswith("f6f49190558bff6b")  # as in every run's config.json
    with zipfile.ZipFile(real_data / "CIFAR10.zip") as archive:
        for path, images, index in (("Train/0/Image00000.png", data.train_images, 0),
                                    ("Train/3/Image00007.png", data.train_images, 3007),
                                    ("Test/9/Image00099.png", data.test_images, 999)):
            pixels = Image.open(io.BytesIO(archive.read(f"CIFAR10/{path}")))
            np.testing.assert_array_equal(images[index, ..., 0], np.asarray(pixels))


def test_only_the_course_subset_is_called_so(tmp_path):
    """Ten classes 0 to 9 of 28x28 grey pictures, or of the size that is asked for."""
    parts = dict.fromkeys(("Train", "Test"), [str(c) for c in range(10)])
    own = {f"{part}/{c}/0.png": written.grey(int(c), 28) for part, cs in parts.items() for c in cs}
    other = {name.replace("/9/", "/sun/"): x for name, x in own.items()}
    colour = {name: written.png(np.full((28, 28, 3), [int(name.split("/")[1]), 2, 3]))
              for name in own}
    small = {name: written.grey(int(name.split("/")[1])) for name in own}
    for i, (files, how, is_it) in enumerate(((own, "", True), (own, "16", True), (other, "", False),
                                             (colour, "", False), (small, "", False))):
        written.folder(tmp_path / str(i) / "CIFAR10", files)
        data = load_images("elec677", tmp_path / str(i), how=Reading(image_size=how))
        assert data.title.startswith("CIFAR-10, ELEC 677 subset (" if is_it else "CIFAR10 (")
        assert any("is not the course's subset" in note for note in data.notes) != is_it
        assert data.classes[8:] == (("ship", "truck") if is_it else ("8", data.classes[9]))


@pytest.mark.slow
def test_a_course_subset_of_ones_own_keeps_its_validation_set_and_says_lossy(tmp_path):
    files = {f"{part}/{c}/0.jpg": written.encoded(
        Image.fromarray(np.full((28, 28), 20 * c + i, np.uint8)), "jpeg")
             for i, part in enumerate(("train", "valid", "test")) for c in range(10)}
    written.folder(tmp_path / "CIFAR10", files)
    data = load_images("elec677", tmp_path)
    assert data.title == ("CIFAR-10, ELEC 677 subset (lossy JPEG, 28x28 grey, 10 train, 10 test, "
                          "10 validation)")
    assert data.validation[0][3, 0, 0, 0] == pytest.approx(61, abs=1)


def test_subset_is_rebuilt_from_official_records(real_data):
    """Every one of the 4,000 lossless records stands in CIFAR10.zip, off by at most 1 grey level.
    """
    records = np.fromfile(real_data / "cifar10-first-4000.bin", np.uint8).reshape(4000, 3073)
    colour = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    rebuilt = cifar.grey28(colour).astype(int)
    course = course_subset(real_data).train_images.astype(int)
    exact = 0
    for label in range(10):
        mine = rebuilt[records[:, 0] == label]
        theirs = course[1000 * label + 1:1000 * label + 1 + len(mine)]  # numbered from 1
        assert np.abs(mine - theirs).max() <= 1
        exact += (mine == theirs).sum()
    assert exact / rebuilt.size > 0.99


@pytest.mark.slow
def test_subset_from_official_folder_equals_the_recipe(real_data, tmp_path, monkeypatch):
    content = (real_data / "cifar10-first-4000.bin").read_bytes()
    data = load_images("elec677", official_cifar10(tmp_path, monkeypatch, content))
    assert data.train_images.shape == (10000, 28, 28, 1) and "rebuilt" in data.title
    course = course_subset(real_data)
    difference = data.train_images[1:301].astype(int) - course.train_images[1:301]
    assert np.abs(difference).max() <= 1  # the five equal batches begin with the true first records


def test_official_archive_and_folder_agree(tmp_path, monkeypatch):
    records = np.zeros((4, 3073), np.uint8)
    records[:, 0] = [3, 1, 4, 1]
    records[:, 1:] = np.arange(3072) % 251
    official_cifar10(tmp_path / "a", monkeypatch, records.tobytes())
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a" / written.CIFAR10, written.CIFAR10)
    one, two = (load_images("cifar10", tmp_path / name) for name in "ab")
    assert one.checksum == two.checksum
    assert [one.classes[label] for label in one.train_labels] == [
        "cat", "automobile", "deer", "automobile"] * 5
    # Planes R, G, B of 1,024 bytes, row by row: pixel (1, 2) is byte 34 of each plane.
    assert one.train_images[0, 1, 2].tolist() == [34 % 251, (1024 + 34) % 251, (2048 + 34) % 251]


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing", "not a tar", "empty",
                                    "no batch"])
def test_damaged_official_data_is_named(tmp_path, monkeypatch, damage):
    folder = official_cifar10(tmp_path, monkeypatch, bytes(3073 * 2)) / written.CIFAR10
    if damage == "changed":
        (folder / "data_batch_3.bin").write_bytes(bytes(3073) + b"\1" * 3073)
    elif damage == "truncated":
        (folder / "data_batch_3.bin").write_bytes(bytes(3073 + 5))
    elif damage == "missing":
        (folder / "data_batch_3.bin").unlink()
    else:
        archive = tmp_path / "cifar-10-binary.tar.gz"
        archive.write_bytes({"not a tar": b"hello", "empty": b""}.get(damage, b""))
        if damage == "no batch":
            tarfile.open(archive, "w:gz").close()
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with pytest.raises(InputError, match="cifar-10-b") as caught:
        load_images("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_download_into_a_read_only_data_folder_is_one_line(tmp_path):
    (tmp_path / "data").mkdir()
    with read_only(tmp_path / "data"):
        assert_one_line(run_without_privilege(
            "cifar_lenet5.py", "--data", "cifar10", "--data-dir", tmp_path / "data", "--logdir",
            tmp_path / "logs"), "cannot write", "cifar-10-binary.tar.gz", "Permission denied")
    assert not (tmp_path / "logs").exists()


# --------------------------------------------------------------- binary and Python version, by hand

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)  # red, green, blue
FINE, COARSE = [3, 1, 0, 1], [1, 0, 1, 0]
NAMES = {b"fine_label_names": [b"apple", b"baby", b"bear", b"bed"],
         b"coarse_label_names": [b"people", b"fruit"]}
BATCH = {b"data": PIXELS.reshape(4, 3072), b"labels": FINE, b"filenames": [b"x.png"] * 4}


def cifar10(version):
    """The files of a CIFAR-10 whose six batches are alike."""
    if version == "py":
        return below("cifar-10-batches-py/", cifar10_pickles(BATCH, (b"a", b"b", b"c", b"d")))
    records = b"".join(bytes([label]) + x.tobytes() for label, x in zip(FINE, PIXELS))
    return below("cifar-10-batches-bin/", dict.fromkeys(
        [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], records) | {
            "batches.meta.txt": b"a\nb\nc\nd\n"})


def cifar100(version):
    """The files of a CIFAR-100."""
    if version == "python":
        batch = {b"data": PIXELS.reshape(4, 3072), b"fine_labels": FINE, b"coarse_labels": COARSE}
        return below("cifar-100-python/", {name: pickle.dumps(value, 2) for name, value in (
            ("train", batch), ("test", batch), ("meta", NAMES))})
    records = b"".join(bytes([c, f]) + x.tobytes() for c, f, x in zip(COARSE, FINE, PIXELS))
    return below("cifar-100-binary/", {"train.bin": records, "test.bin": records} | {
        f"{kind}_label_names.txt": b"\n".join(NAMES[f"{kind}_label_names".encode()])
        for kind in ("fine", "coarse")})


def publish(monkeypatch, files, archive=None):
    """Take these files, and this archive, for the official ones."""
    hashes = {name.rpartition("/")[2]: hashlib.new(
        "sha1" if name.endswith(".bin") else "md5", content).hexdigest()
        for name, content in files.items()}
    monkeypatch.setattr(cifar, "PUBLISHED", {
        name: digest for name, digest in hashes.items() if name in cifar.PUBLISHED})
    if archive:
        monkeypatch.setitem(cifar.MD5, archive.name, hashlib.md5(archive.read_bytes()).hexdigest())


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("version", ["bin", "py"])
def test_cifar10_by_path_and_by_name(tmp_path, monkeypatch, version, archive):
    files = cifar10(version)
    path = tmp_path / f"cifar-10-batches-{version}"
    if archive:
        long = {"bin": "binary", "py": "python"}[version]
        path = packed(tmp_path / f"cifar-10-{long}.tar.gz", files)
    else:
        folder(tmp_path, files)
    publish(monkeypatch, files)
    mine, named = read(path), load_images("cifar10", tmp_path)
    for data in (mine, named, load_images("cifar10", tmp_path)):  # the last from the cache
        np.testing.assert_array_equal(data.train_images[:4], PIXELS.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(data.test_images, PIXELS.transpose(0, 2, 3, 1))
        assert data.train_labels.tolist() == [2, 1, 0, 1] * 5 and data.mirrors
        assert data.notes[0] == ("no training image of label 2: the classes are the 3 labels that "
                                 "occur, 0 to 3")
        assert data.notes[-1] == "4 of 4 test images are training images too"
    assert mine.classes == ("a", "b", "d") and named.classes == ("airplane", "automobile", "cat")
    assert named.title.startswith("CIFAR-10 (32x32 colour, 20 train") and path.name in mine.title
    changed = [name for name in files if "data_batch_3" in name][0]
    files[changed] = pickle.dumps(BATCH | {b"labels": [0] * 4}, 2) if version == "py" else (
        b"\0" + files[changed][1:])
    packed(path, files) if archive else folder(tmp_path, files)
    with pytest.raises(InputError, match="data_batch_3.* is not the official file"):
        load_images("cifar10", tmp_path)
    read(path)  # nobody said that it is the official one


@pytest.mark.parametrize("how, classes, labels", [
    ({}, ("apple", "baby", "bed"), [2, 1, 0, 1]),
    ({"coarse": True}, ("people", "fruit"), [1, 0, 1, 0])])
@pytest.mark.parametrize("version", ["binary", "python"])
def test_cifar100_fine_and_coarse(tmp_path, monkeypatch, version, how, classes, labels):
    files = cifar100(version)
    archive = packed(tmp_path / f"cifar-100-{version}.tar.gz", files)
    publish(monkeypatch, files, archive)
    named = load_images("cifar100", tmp_path, how=Reading(**how))
    for data in (named, read(archive, **how), read(folder(tmp_path / "set", files), **how)):
        assert data.classes == classes and data.train_labels.tolist() == labels
        np.testing.assert_array_equal(data.train_images, PIXELS.transpose(0, 2, 3, 1))
    assert named.title.startswith("CIFAR-100" + ", coarse labels" * bool(how))


def test_without_meta_classes_are_numbers(tmp_path):
    files = {n: x for n, x in cifar10("py").items() if "meta" not in n}
    assert read(folder(tmp_path / "set", files)).classes == ("0", "1", "3")
    short = files | below("cifar-10-batches-py/", {"batches.meta": pickle.dumps(
        {"label_names": ["one"]})})
    assert read(folder(tmp_path / "short", short)).classes == ("0", "1", "3")


@pytest.mark.parametrize("version", ["bin", "py"])
def test_more_than_nine_batches_are_read_in_the_order_of_their_numbers(tmp_path, version):
    """The pixels of a batch's only image are the batch's number."""
    def batch(i):
        pixels = np.full((1, 3072), i, np.uint8)
        return pickle.dumps({b"data": pixels, b"labels": [i % 2]}, 2) if version == "py" else (
            bytes([i % 2]) + pixels.tobytes())
    end = ".bin" if version == "bin" else ""
    files = {f"data_batch_{i}{end}": batch(i) for i in (1, 2, 9, 10, 11, 100)}
    data = read(folder(tmp_path / "set", files | {f"test_batch{end}": batch(3)}))
    assert data.train_images[:, 0, 0, 0].tolist() == [1, 2, 9, 10, 11, 100]
    assert data.train_labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_of_several_cifars_one_is_to_be_given(tmp_path):
    path = folder(tmp_path / "set", cifar10("py") | cifar100("python"))
    with pytest.raises(InputError, match="several data sets, of cifar-10-.*/test_batch and "
                                         "cifar-100-python/test; give one"):
        read(path)
    assert read(path / "cifar-100-python").classes == ("apple", "baby", "bed")
    other = folder(tmp_path / "other", cifar10("py") | below("old/", cifar100("python")))
    assert read(other).classes == ("a", "b", "d")  # of the topmost


@pytest.mark.parametrize("name", ["batches.meta.txt", "fine_label_names.txt"])
def test_names_of_classes_are_lines(tmp_path, name):
    """With spaces in them and, as Windows writes them, a mark of their encoding at the start."""
    files = cifar10("bin") if "meta" in name else cifar100("binary")
    files = {n: "\ufeffred ant\r\nb\r\n\r\nbée\r\nd\r\n".encode() if n.endswith(name) else x
             for n, x in files.items()}
    assert read(folder(tmp_path / "set", files)).classes == ("red ant", "b", "d")


@pytest.mark.parametrize("changed, words", [
    ({b"labels": [0.5, 1, 0, 1]}, "'float' object cannot be"),
    ({b"labels": [0, -1, 0, 1]}, "train labels begin at -1; they must be 0 or more"),
    ({b"labels": [[3], [1], [0], [1]]}, "int"), ({b"labels": 3}, "not iterable"),
    ({b"labels": [0, 1]}, r"images \(20, 32, 32, 3\)|images"), ({b"labels": ["a"] * 4}, "'str'"),
    ({b"labels": None}, "not iterable"), ({b"data": [1, 2]}, "pixels are no array"),
    ({b"data": PIXELS.reshape(4, 3072) / 255}, "pixels are float64"),
    ({b"data": PIXELS[:, :2]}, "reshape"), ({b"data": np.array([None, {}])}, "an array of"),
    ({"labels": {}, b"labels": {}}, "labels")])
def test_batches_that_are_refused(tmp_path, changed, words):
    files = cifar10("py")
    files["cifar-10-batches-py/data_batch_2"] = pickle.dumps(BATCH | changed, 2)
    with pytest.raises(InputError, match=words) as caught:
        read(folder(tmp_path / "set", files))
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


# --------------------------------------------------------------------------------------- pickles

PYTHON2 = (  # as Python 2 wrote the official batches: text and names of types are bytes
    b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("
    b"K\x03K\x01K\x00K\x01eU\x04dataq\x08cnumpy.core.multiarray\n_reconstruct\nq\tcnumpy\nndarray\n"
    b"q\nK\x00\x85U\x01b\x87Rq\x0b(K\x01K\x04M\x00\x0c\x86cnumpy\ndtype\nq\x0cU\x02u1K\x00K\x01"
    b"\x87Rq\r(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x30\x00\x00"
    + PIXELS.tobytes() + b"tbU\tfilenamesq\x0e]q\x0f(U\x05a.pngeu.")


def test_batches_of_python_2(tmp_path):
    assert pickle.loads(PYTHON2, encoding="bytes")[b"data"].shape == (4, 3072)
    files = below("cifar-10-batches-py/", cifar10_pickles(BATCH))
    files["cifar-10-batches-py/data_batch_1"] = PYTHON2
    data = read(folder(tmp_path / "set", files))
    np.testing.assert_array_equal(data.train_images[:4], PIXELS.transpose(0, 2, 3, 1))
    assert data.train_labels[:4].tolist() == [2, 1, 0, 1]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", [b"numpy._core", b"numpy.core"])
def test_plain_data_comes_back(protocol, module):
    """Arrays of numbers in both orders, as old and as new versions of NumPy name them."""
    value = {b"a": np.arange(6, dtype=">i4").reshape(2, 3), "b": [1, 2.5, None, True, "x", b"y"],
             b"c": np.asfortranarray(np.arange(6, dtype="<f8").reshape(3, 2)), b"d": (1, {2: 3}),
             b"e": np.zeros((0, 3), np.uint8), b"f": bytes(range(256)) * 3}
    content = pickle.dumps(value, protocol)
    if protocol < 4:
        content = content.replace(b"cnumpy._core.", b"c" + module + b".")
    elif module == b"numpy.core":  # the byte before a name says how long it is
        content = re.sub(rb"(.)numpy\._core(\.\w+)", lambda m: bytes([m[1][0] - 1]) + module + m[2],
                         content, flags=re.DOTALL)
    found = pickles.loads(content)
    assert list(found) == list("abcdef")
    for name, wanted in zip("abcdef", value.values()):
        np.testing.assert_array_equal(found[name], wanted)
    assert found["b"] == value["b"] and found["d"] == value[b"d"]


class Call:
    """Pickled as a call of a function."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def hostile(path):
    """Return {what: pickle that would make a file}."""
    touch = f"open({str(path)!r}, 'w')"
    system = Call(os.system, f"touch {path}")
    return {"system": pickle.dumps(system, 2), "eval": pickle.dumps(Call(eval, touch), 4),
            "objects": pickle.dumps(BATCH | {b"data": np.array([system, None])}, 2),
            "in a list": pickle.dumps(BATCH | {b"filenames": [Call(exec, touch)]}, 5),
            "by instance": b"(V" + touch.encode() + b"\ni__builtin__\neval\n.",
            "by name": b"cnumpy.core.multiarray\nos.system\n(S'touch " + str(path).encode()
                       + b"'\ntR.",
            "through a module": b"\x80\x04\x8c\x05numpy\x8c\x0bos.path.sep\x93.",
            "builtin": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'__class__'\ntR."}


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_pickles_run_nothing(tmp_path, file):
    mark = tmp_path / "touched"
    for what, content in hostile(mark).items():
        if what == "system":
            pickle.loads(content)
            assert mark.exists()  # so it would
            mark.unlink()
        path = folder(tmp_path / what, cifar10("py") | {f"cifar-10-batches-py/{file}": content})
        with pytest.raises(InputError, match=file) as caught:
            read(path)
        assert "\n" not in str(caught.value) and not mark.exists(), what
    with pytest.raises(InputError, match="it names (posix|nt|os).system, which plain"):
        read(tmp_path / "system")


@pytest.mark.parametrize("content", [
    b"\x80\x02Nr\xff\xff\xff\x7f.", b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    b"\x80\x05\x96" + (1 << 33).to_bytes(8, "little") + b"x.", b"\x80\x02T\xff\xff\xff\x7fx.",
    b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b"N.", b"\x80\x02\x8b\xff\xff\xff\x7f\1.",
    b"\x80\x02}q\0" + b"".join(b"}q%c(U\1ah%cU\1bh%cu" % (i + 1, i, i) for i in range(90)) + b"."],
    ids=["memo", "bytes", "bytearray", "string", "frame", "integer", "dicts of dicts"])
def test_pickles_that_promise_much_take_neither_memory_nor_time(content):
    tracemalloc.start()
    with contextlib.suppress(Exception):
        pickles.loads(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
