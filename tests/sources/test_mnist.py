"""MNIST, and folders in its format."""
import functools
import gzip
import hashlib
import zipfile

import numpy as np
import pytest
import written
from written import folder, idx, idx_folder, npz, packed, read, zipped

from sources import mnist, tree
from system import machine
from system.command_line import InputError
from utils import load_images, split_validation

cache = written.cache

IMAGES, LABELS = list(mnist.MD5)[:2]


@functools.cache
def all_of_mnist(folder):
    return load_images("mnist", folder)


def test_mnist(real_data):
    data = all_of_mnist(real_data)
    assert (data.train_images.shape == (60000, 28, 28, 1)
            and data.test_images.shape == (10000, 28, 28, 1))
    assert data.checksum.startswith("e01a2336dfa29a82")  # as in every run's config.json
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(data.test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train_images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    train, validation = split_validation(data.train_labels, 1 / 12)
    assert (len(train), len(validation)) == (55000, 5000)


@pytest.mark.slow
def test_every_way_to_mnist_gives_the_same(real_data):
    by_name, by_path = all_of_mnist(real_data), load_images(str(real_data / "mnist"))
    inside = load_images("auto", real_data / "mnist", auto="mnist")  # the four files' own folder
    assert by_name.title == inside.title
    assert by_name.checksum == by_path.checksum == inside.checksum


def test_own_idx_files(tmp_path):
    data = load_images(str(idx_folder(tmp_path / "mine")))
    assert (data.train_images[0, 1, :, 0].tolist() == [5, 6, 7, 8, 9]
            and data.title.startswith("mine") and data.name == "mine")
    assert data.train_labels.tolist() == [2, 0, 1] and data.classes == ("0", "1", "2")
    assert "2 test images" not in data.notes and "no test image of class 0" in data.notes[-1]
    (tmp_path / "mine" / LABELS).write_bytes(idx(np.array([2, 1, 255])))
    sparse = load_images(str(tmp_path / "mine"))
    assert sparse.classes == ("1", "2", "255") and sparse.train_labels.tolist() == [1, 0, 2]
    assert "no training image of label 0" in sparse.notes[0]


@pytest.mark.parametrize("content, word", [
    (b"not gzip", "begins with 6e6f7420"), (b"", "IDX|gzip"),
    (idx(np.zeros((3, 4, 5)))[:-9], "gzip"),
    (None, "not there"), (zipped(b"\0\0\x0d\3" + bytes(72)), "floating point"),
    (zipped(b""), "begins with nothing"), (zipped(b"\0\0\x08"), "begins with 000008,"),
    (zipped(gzip.decompress(idx(np.zeros((3, 4, 5))))[:-1]), "promises"),
    (idx(np.zeros((3, 20))), r"\(3, 20\)"), (idx(np.zeros((4, 4, 5))), r"labels \(3,\)"),
    (idx(np.zeros((3, 0, 5))), r"\(3, 0, 5\)"), (idx(np.zeros((1,) * 60)), "60 dimensions"),
    (idx(np.zeros((3, 4, 6))), "test images"), (zipped(b"\0\0\x08\3\0"), "promises")])
def test_damaged_idx_is_one_line(tmp_path, content, word):
    file = idx_folder(tmp_path / "mine") / IMAGES
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        load_images(str(tmp_path / "mine"))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_files_that_are_not_the_official_ones_are_refused(tmp_path, monkeypatch, capsys):
    idx_folder(tmp_path / "mnist")
    for name in ("auto", "mnist"):
        with pytest.raises(InputError, match="MD5 differs"):
            load_images(name, tmp_path, auto="mnist")
    monkeypatch.setattr(mnist, "URL", "http://127.0.0.1:9/")
    assert load_images("auto", tmp_path / "none", auto="mnist").name == "synthetic"
    assert "SYNTHETIC stand-in, drawn digits" in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot download"):
        load_images("mnist", tmp_path / "none")


# --------------------------------------------------------------------- relatives, all in IDX files

ROLES = [(role, what) for role in ("train", "t10k") for what in ("images", "labels")]


def relatives(prefix="", sep="-", gz="", arrays=written.ARRAYS, role="t10k"):
    """Return {name: content} of four IDX files."""
    return {f"{prefix}{part.replace('t10k', role)}-{what}{sep}idx{3 if what == 'images' else 1}"
            f"-ubyte{gz}": (idx if gz else written.raw_idx)(array)
            for (part, what), array in zip(ROLES, arrays)}


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("sep", "-.")
@pytest.mark.parametrize("prefix, name", [("", "set"), ("emnist-letters-", "emnist-letters"),
                                          ("MNIST/raw/", "set"), ("a/kmnist_", "kmnist")])
@pytest.mark.parametrize("packing", ["", ".zip"])
def test_relatives_by_any_name(tmp_path, gz, sep, prefix, name, packing):
    role = "test" if sep == "." else "t10k"
    files = relatives(prefix, sep, gz, role=role) | {"readme.txt": b""}
    data = read((packed if packing else folder)(tmp_path / f"set{packing}", files))
    assert data.train_images[1, 2, :, 0].tolist() == [30, 31, 32, 33, 34]
    assert data.train_labels.tolist() == [2, 0, 1] and data.test_labels.tolist() == [1, 1]
    assert data.name == name or packing and data.name.startswith("set")
    assert not data.mirrors and data.classes == ("0", "1", "2")


def test_unpacked_files_go_before_their_archives(tmp_path):
    """As torchvision leaves them; the gzipped ones are not even read."""
    files = relatives("MNIST/raw/") | dict.fromkeys(relatives("MNIST/raw/", gz=".gz"), b"damaged")
    assert read(folder(tmp_path / "set", files)).train_labels.tolist() == [2, 0, 1]


def test_a_gzipped_file_may_hold_so_much(tmp_path, monkeypatch):
    """The training images' 16 + 60 bytes, of which twice as much must be free."""
    path = idx_folder(tmp_path / "set")
    for largest, free in ((76, 152), (75, 152), (76, 151)):
        monkeypatch.setattr(mnist, "LARGEST_FILE", largest)
        monkeypatch.setattr(machine, "free_memory", lambda free=free: free)
        if (largest, free) == (76, 152):
            assert len(read(path).train_images) == 3
            continue
        with pytest.raises(InputError, match="train-images.*gz: more than 75 bytes unzipped"):
            read(path)


def test_arrays_that_do_not_fit_into_memory_together_are_refused(tmp_path, monkeypatch):
    """Each of them would; in a folder, the archive within it is asked."""
    path = npz(tmp_path / "mine.npz", **KERAS)
    with zipfile.ZipFile(path) as archive:
        total = sum(info.file_size for info in archive.infolist())
    for place, small, needed, said in (
            (path, 0, 2 * total, "mine.npz: reading 4 files would take"),
            (tmp_path, 10 ** 6, total, "mine.npz, unpacked, would take")):
        monkeypatch.setattr(tree, "SMALL_FILE", small)
        monkeypatch.setattr(machine, "free_memory", lambda free=needed: free)
        assert len(read(place).train_images) == 3
        monkeypatch.setattr(machine, "free_memory", lambda free=needed - 1: free)
        with pytest.raises(InputError, match=said):
            read(place)


def test_of_several_sets_one_file_names_one(tmp_path):
    other = (written.ARRAYS[0] + 100, np.array([1, 0, 1]), *written.ARRAYS[2:])
    path = folder(tmp_path / "set", relatives("emnist-digits-") | relatives(
        "emnist-letters-", gz=".gz", arrays=other))
    with pytest.raises(InputError, match="several data sets, of emnist.*give one of the files"):
        read(path)
    for name, first in (("emnist-digits-t10k-labels-idx1-ubyte", 0),
                        ("emnist-letters-train-images-idx3-ubyte.gz", 100)):
        data = read(path / name)
        assert data.train_images[0, 0, 0, 0] == first and name.startswith(data.name)
    (path / "emnist-digits-t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="emnist-digits-t10k-labels-idx1-ubyte is not there"):
        read(path / "emnist-digits-train-images-idx3-ubyte")


def test_transpose(tmp_path):
    data = read(idx_folder(tmp_path / "set"), transpose=True)
    assert data.train_images.shape == (3, 5, 4, 1) and "transposed (5x4 grey" in data.title
    assert data.train_images[0, 1, :, 0].tolist() == [1, 6, 11, 16]
    fitted = read(tmp_path / "set", transpose=True, image_size="5x2")  # of what is seen
    assert fitted.train_images[0, ..., 0].tolist() == [[5, 10], [6, 11], [7, 12], [8, 13], [9, 14]]


def test_letters_are_numbered_from_1(tmp_path):
    arrays = np.arange(26)[:, None, None] * np.ones((2, 2)), np.arange(26) + 1
    data = read(folder(tmp_path / "set", relatives(arrays=arrays * 2)))
    assert data.classes == tuple(map(str, range(1, 27))) and data.train_labels.tolist() == [
        *range(26)]
    assert data.notes[0] == ("no training image of label 0: the classes are the 26 labels that "
                             "occur, 1 to 26")


def test_labels_of_qmnist(tmp_path):
    """Of eight integers of 32 bits the first is the digit."""
    labels = np.arange(1000, 1024).reshape(3, 8)
    labels[:, 0] = 2, 0, 1
    files = relatives("qmnist-")
    del files["qmnist-train-labels-idx1-ubyte"]
    files["qmnist-train-labels-idx2-int.gz"] = zipped(written.raw_idx(labels, 12, ">i4"))
    assert read(folder(tmp_path / "set", files)).train_labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("columns", [2, 7, 9])
def test_labels_of_other_columns_are_refused(tmp_path, columns):
    """Of which the first would be taken for the label; a single column is one."""
    labels = np.arange(3 * columns).reshape(3, columns)
    files = relatives(arrays=[written.ARRAYS[0], labels, *written.ARRAYS[2:]])
    with pytest.raises(InputError, match=rf"labels \(3, {columns}\); they must be"):
        read(folder(tmp_path / "set", files))
    files = relatives(arrays=[written.ARRAYS[0], np.array([[2], [0], [1]]), *written.ARRAYS[2:]])
    assert read(folder(tmp_path / "one", files)).train_labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("word", ["val", "valid", "Validation", "dev"])
def test_validation_images_in_idx_files(tmp_path, word):
    """They are the test set where there is none; files of another name are passed over, said."""
    more = {name.replace("t10k", word): x for name, x in relatives("x-").items() if "t10k" in name}
    files = relatives("x-") | more | {"x-extra-images-idx3-ubyte": b"", "x.txt": b""}
    data = read(folder(tmp_path / "set", files))
    assert data.validation[1].tolist() == [1, 1] and len(data.test_labels) == 2
    assert data.notes[0] == ("x-extra-images-idx3-ubyte passed over: it is not named as one of "
                             "MNIST's four")
    data = read(folder(tmp_path / "b", {n: x for n, x in files.items() if "t10k" not in n}))
    assert data.validation is None and data.test_labels.tolist() == [1, 1]
    assert "the validation images are the test set, as there is no other" in data.notes


@pytest.mark.parametrize("code, kind", [(13, ">f4"), (14, ">f8")])
def test_floats_are_refused(tmp_path, code, kind):
    files = relatives() | {"train-images-idx3-ubyte": written.raw_idx(
        written.ARRAYS[0] / 60, code, kind)}
    with pytest.raises(InputError, match="no IDX file of integers .values in floating point"):
        read(folder(tmp_path / "set", files))


# ------------------------------------------------------------------------------- named "mnist"

@pytest.fixture
def published(monkeypatch):
    """Take written.ARRAYS for what was published as MNIST; nothing can be downloaded."""
    monkeypatch.setattr(mnist, "URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(mnist, "MD5", {
        name: (hashlib.md5(idx(x)).hexdigest(), hashlib.md5(written.raw_idx(x)).hexdigest())
        for name, x in zip(mnist.MD5, written.ARRAYS)})


KERAS = dict(zip(("x_train", "y_train", "x_test", "y_test"), map(np.uint8, written.ARRAYS)))


@pytest.mark.parametrize("files", [
    relatives(), relatives(gz=".gz"), relatives(sep="."), relatives("mnist/"),
    relatives("MNIST/raw/") | dict.fromkeys(relatives("MNIST/raw/", gz=".gz"), b"damaged"),
    {"mnist.npz": written.saved(np.savez, **KERAS)},
    {"mnist.npz": written.saved(np.savez_compressed, **KERAS)}])
def test_mnist_is_found_in_the_data_folder(tmp_path, published, files):
    data = load_images("mnist", folder(tmp_path, files))
    assert data.title == "MNIST (4x5 grey, 3 train, 2 test)" and data.name == "mnist"
    assert data.train_labels.tolist() == [2, 0, 1] and data.train_images[0, 0, 1, 0] == 1


@pytest.mark.parametrize("files", [
    relatives(arrays=[x + 1 for x in written.ARRAYS]), relatives("MNIST/raw/", gz=".gz", arrays=[
        *written.ARRAYS[:3], written.ARRAYS[3] * 0]),
    {"mnist.npz": written.saved(np.savez, **KERAS | {"y_test": np.uint8([1, 0])})},
    {"mnist.npz": written.saved(np.savez, other=np.zeros(3))}, {"mnist.npz": b"hello"}])
def test_another_data_set_by_mnists_names_is_refused_not_deleted(tmp_path, published, files):
    """Fashion-MNIST's files have the same names: nobody is told to delete them."""
    with pytest.raises(InputError, match="MNIST.*MD5 differs.*--data .*move it") as caught:
        load_images("mnist", folder(tmp_path, files))
    assert "delete" not in str(caught.value) and all((tmp_path / name).exists() for name in files)


# ---------------------------------------------------------------------------------------- NumPy

def test_npz_of_keras_and_of_medmnist(tmp_path):
    data = read(npz(tmp_path / "mine.npz", **KERAS))
    assert data.train_labels.tolist() == [2, 0, 1] and data.title.startswith("mine.npz (4x5 grey")
    colour = np.arange(54).reshape(2, 3, 3, 3)
    parts = {f"{part}_{what}": x for part in ("train", "val", "test") for what, x in (
        ("images", colour), ("labels", np.array([[0], [1]])))}
    data = read(folder(tmp_path / "set", {
        "pathmnist.npz": written.saved(np.savez_compressed, **parts)}))
    assert data.train_images[1, 2, 2].tolist() == [51, 52, 53] and data.name == "pathmnist"
    assert data.train_labels.tolist() == data.validation[1].tolist() == [0, 1]
    assert "2 validation" in data.title
    npz(tmp_path / "set" / "other.npz", **KERAS)
    with pytest.raises(InputError, match="several data sets, .*npz and .*npz"):
        read(tmp_path / "set")
    assert read(tmp_path / "set" / "other.npz").classes == ("0", "1", "2")
    without = {name: np.concatenate([x, x]) for name, x in KERAS.items() if "train" in name}
    with pytest.raises(InputError, match="no test set; --test-split"):
        read(npz(tmp_path / "a.npz", **without))
    assert sorted(read(tmp_path / "a.npz", test_split=0.3).test_labels) == [0, 1, 2]


@pytest.mark.parametrize("x, y", [(f"x_{word}", f"y_{word}") for word in ("val", "valid")] + [
    (f"{word}_images", f"{word}_labels") for word in ("val", "valid", "validation")])
def test_validation_arrays(tmp_path, x, y):
    """Without test images they are the test set."""
    more = {x: np.uint8(written.ARRAYS[0]) + 100, y: np.uint8([0, 1, 2])}
    data = read(npz(tmp_path / "a.npz", **KERAS, **more))
    assert data.validation[0][:, 0, 0, 0].tolist() == [100, 120, 140] and not any(
        "arrays" in note for note in data.notes)
    without = {name: array for name, array in KERAS.items() if "train" in name}
    data = read(npz(tmp_path / "b.npz", **without, **more))
    assert data.validation is None and data.test_images[:, 0, 0, 0].tolist() == [100, 120, 140]
    assert data.notes[0] == "the validation images are the test set, as there is no other"


def test_arrays_that_are_not_used_are_said(tmp_path):
    more = {"x_extra": np.zeros(3), "y_extra": np.zeros(3), "x_val": KERAS["x_test"]}
    data = read(npz(tmp_path / "a.npz", **KERAS, **more))
    assert data.notes[0] == "arrays that are not used: x_extra, x_val, y_extra"
    assert not any("arrays" in note for note in read(npz(tmp_path / "b.npz", **KERAS)).notes)


def test_one_array_in_place_of_an_archive_is_refused(tmp_path):
    path = folder(tmp_path / "set", {"x.npz": written.saved(np.save, np.zeros(3))})
    for place in (path, path / "x.npz"):
        with pytest.raises(InputError, match="holds one array without a name; wanted are x_train"):
            read(place)


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("changed, words", [
    ({"x_train": None}, "cannot be read as NumPy's.*allow_pickle"),
    ({"x_train": KERAS["x_train"] / 255}, "train images are float64, not integers 0 to 255"),
    ({"x_train": KERAS["x_train"].astype(int) + 197}, "train pixels are 197 to 256, not 0 to 255"),
    ({"y_train": np.float32([0, 1, 2])}, "train labels are float32, not integers"),
    ({"y_train": np.int8([-1, 0, 1])}, "train labels begin at -1; they must be 0 or more"),
    ({"y_test": np.int8([1, -2])}, "test labels begin at -2; they must be 0 or more"),
    ({"y_train": np.eye(3, dtype=int)}, r"labels \(3, 3\)"),
    ({"y_train": np.int32(1)}, r"labels \(\)"),
    ({"x_train": np.zeros((0, 4, 5), int)}, r"images \(0, 4, 5\)"),
    ({"x_train": np.zeros((3, 4, 5, 2), int)}, r"\(3, 4, 5, 2\)"),
    ({"y_test": np.int32([7, 1])}, "label 7 of test images is not among"),
    ({"x_test": np.zeros((2, 5, 5), int)}, r"training images are \(4, 5, 1\), test images \(5, 5")])
def test_npz_that_are_refused(tmp_path, changed, words):
    if changed.get("x_train", 0) is None:
        changed = {"x_train": np.array([Evil(str(tmp_path / "touched"))] * 3, object)}
    with pytest.raises(InputError, match=words) as caught:
        read(npz(tmp_path / "mine.npz", **KERAS | changed))
    assert "\n" not in str(caught.value) and not (tmp_path / "touched").exists()


@pytest.mark.parametrize("header", [
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999,), }", b"{'descr'",
    b"[" * 5000, b"f(1)", b"(1,\n", b""])
def test_a_damaged_header_is_refused(tmp_path, header):
    content = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
    with pytest.raises(InputError, match="x_train cannot be read as NumPy's") as caught:
        read(packed(tmp_path / "mine.npz", {"x_train.npy": content}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("most", [1, 16, 127, 128, 255])
def test_a_small_range_of_pixels_is_said(tmp_path, most):
    images = np.arange(4 * 9).reshape(4, 3, 3) * most // 35
    arrays = dict(x_train=images, y_train=[0, 1, 0, 1], x_test=images[::-1] // 2, y_test=[0, 1] * 2)
    said = (f"the largest pixel is {most}, read as {most} of 255; if {most} is as bright as can "
            f"be, multiply the pixels by 255 / {most}")
    assert (said in read(npz(tmp_path / "x.npz", **arrays)).notes) == (most < 128)


# ------------------------------------------------------------------------------ tables of pixels

HEADING = "label,pixel0,pixel1,pixel2,pixel3\n"
ROWS = "7,0,10,20,255\n3,1,2,3,4\n"


def test_tables_of_kaggle_and_emnist(tmp_path):
    path = folder(tmp_path / "kaggle", {
        "train.csv": (HEADING + ROWS).encode(), "test.csv": HEADING[6:].encode() + b"1,2,3,4\n",
        "sample_submission.csv": b"ImageId,Label\n1,0\n"})
    with pytest.raises(InputError, match="no test set; --test-split"):
        read(path)
    (path / "train.csv").write_text(HEADING + ROWS * 2)
    data = read(path, test_split=0.5)
    assert data.classes == ("3", "7") and data.train_images.shape == (2, 2, 2, 1)
    assert data.train_images[data.train_labels == 1][0, ..., 0].tolist() == [[0, 10], [20, 255]]
    for name in ("sample_submission.csv", "test.csv"):
        assert f"{name} passed over: it has no column of labels" in data.notes
    data = read(folder(tmp_path / "emnist", {
        "emnist-letters-train.csv": ROWS.encode(), "emnist-letters-test.csv": ROWS.encode()}),
        transpose=True)
    assert data.train_images[0, ..., 0].tolist() == [[0, 20], [10, 255]]
    assert data.notes[0].endswith("the classes are the 2 labels that occur, 3 to 7")
    quoted = folder(tmp_path / "quoted", {"a.csv": (HEADING + ROWS).replace(
        "7,", '"7",').replace("label", '"label"').replace("\n", "\r\n").encode(),
        "a_val.csv": ROWS.encode(), "a_test.csv": ROWS.encode()})
    assert read(quoted).train_images[0, 1, 1, 0] == 255 and len(read(quoted).validation[1]) == 2
    numbered = folder(tmp_path / "pandas", {f"{part}.csv": ("0,1,2,3,4\n" + ROWS).encode()
                                            for part in ("train", "test")})
    assert read(numbered).train_labels.tolist() == [1, 0] and len(read(numbered).test_labels) == 2
    unnamed = folder(tmp_path / "unnamed", {f"{part}.csv": ("label,0,1,2,3\n" + ROWS).encode()
                                            for part in ("train", "test")})
    assert read(unnamed).train_images[0, ..., 0].tolist() == [[0, 10], [20, 255]]


@pytest.mark.parametrize("heading", [HEADING, '"label",a,b,c,d\n', ""])
def test_the_mark_with_which_excel_begins_a_table(tmp_path, heading):
    content = "\ufeff".encode() + (heading + ROWS).encode()
    data = read(folder(tmp_path / "set", {"train.csv": content, "test.csv": ROWS.encode()}))
    assert data.train_images[0, ..., 0].tolist() == [[0, 10], [20, 255]]
    assert data.classes == ("3", "7") and len(data.train_labels) == 2


@pytest.mark.parametrize("names", [("train", "val"), ("latest_train", "latest_dev")])
def test_a_table_of_validation_images_alone_is_the_test_set(tmp_path, names):
    rows = ROWS.replace("255", "254")
    data = read(folder(tmp_path / "set", {f"{name}.csv": x.encode()
                                          for name, x in zip(names, (ROWS, rows))}))
    assert data.validation is None and data.test_images[0, 1, 1, 0] == 254
    assert data.notes[0] == "the validation images are the test set, as there is no other"


@pytest.mark.parametrize("text, words", [
    (HEADING + "1,0,0,0,256\n", "pixels from 0 to 256, not 0 to 255"),
    (HEADING + "1,0,0,0,-1\n", "pixels from -1 to 0"), (HEADING + "1,0,0,a,1\n", "no table"),
    (HEADING + "1,0,0,0.5,1\n", "no table"), (HEADING + "1,0,0\n1,2,3,4,5\n", "no table"),
    (HEADING + "1,0,0,0,99999999999\n", "no table"),
    ("label,a,b,c,d,e\n1,0,0,0,0,0\n", "5 pixels a row, which are no square"),
    (HEADING + "-1,0,0,0,1\n", "begin at -1"),
    (HEADING, "no rows"), (HEADING + "\n \n", "no rows"), (HEADING + "# 1\n", "no table")])
def test_tables_that_are_refused(tmp_path, text, words, recwarn):
    files = {"train.csv": text.encode(), "test.csv": ROWS.encode()}
    with pytest.raises(InputError, match=f"(train.csv|train labels).*{words}") as caught:
        read(folder(tmp_path / "set", files))
    assert "\n" not in str(caught.value) and not recwarn.list


def test_two_tables_for_one_thing_and_none_for_training(tmp_path):
    for names, words in ((("a.csv", "b.csv"), "b.csv is a second table of train images; keep one"),
                         (("test.csv",), "no table of training images")):
        with pytest.raises(InputError, match=words):
            read(folder(tmp_path / names[0], dict.fromkeys(names, ROWS.encode())))
