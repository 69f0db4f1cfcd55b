import gzip
import hashlib
import io
import os
import pathlib
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

import cifar_lenet5
import sources
import synthetic
import utils
from runs import InputError


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(stream, "png")
    return stream.getvalue()


def grey(value, size=3):
    return png(np.full((size, size), value))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache folder of each test's own."""
    monkeypatch.setattr(sources, "CACHE", tmp_path_factory.mktemp("cache") / "new")
    return sources.CACHE


@pytest.fixture
def tree(tmp_path):
    """A folder of two classes, two training images and one test image each; pixels = 10 * class."""
    for split, count in (("Train", 2), ("test", 1)):
        for label in ("2", "10"):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "set" / split / label / f"{i}.png").write_bytes(
                    grey(10 * int(label) + i))
    return tmp_path / "set"


def official(folder, monkeypatch, records):
    """A CIFAR-10 folder whose six batches hold `records`, with their checksums as the published
    ones."""
    (folder / sources.CIFAR10_FOLDER).mkdir(parents=True)
    for name in sources.CIFAR10_SHA1:
        (folder / sources.CIFAR10_FOLDER / name).write_bytes(records)
    monkeypatch.setattr(sources, "CIFAR10_SHA1", dict.fromkeys(
        sources.CIFAR10_SHA1, hashlib.sha1(records).hexdigest()))
    return folder


# ------------------------------------------------------------------------------ real files

def test_course_subset(real_data):
    data = utils.load_images("auto", real_data)
    assert data.train_images.shape == (10000, 28, 28, 1) and data.train_images.dtype == np.uint8
    assert data.test_images.shape == (1000, 28, 28, 1)
    assert np.bincount(data.train_labels).tolist() == [1000] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    assert data.name == "elec677" and data.classes[6] == "frog" and "28x28 grey" in data.title
    with zipfile.ZipFile(real_data / "CIFAR10.zip") as archive:
        for path, images, index in (("Train/0/Image00000.png", data.train_images, 0),
                                    ("Train/3/Image00007.png", data.train_images, 3007),
                                    ("Test/9/Image00099.png", data.test_images, 999)):
            pixels = Image.open(io.BytesIO(archive.read(f"CIFAR10/{path}")))
            np.testing.assert_array_equal(images[index, ..., 0], np.asarray(pixels))


def test_subset_is_rebuilt_from_official_records(real_data):
    """Every one of the 4,000 lossless records stands in CIFAR10.zip, off by at most 1 grey level.
    """
    records = np.fromfile(real_data / "cifar10-first-4000.bin", np.uint8).reshape(4000, 3073)
    colour = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    rebuilt = sources.grey28(colour).astype(int)
    course = utils.load_images("elec677", real_data).train_images.astype(int)
    exact = 0
    for label in range(10):
        mine = rebuilt[records[:, 0] == label]
        theirs = course[1000 * label + 1:1000 * label + 1 + len(mine)]  # numbered from 1
        assert np.abs(mine - theirs).max() <= 1
        exact += (mine == theirs).sum()
    assert exact / rebuilt.size > 0.99


def test_subset_from_official_folder_equals_the_recipe(real_data, tmp_path, monkeypatch):
    content = (real_data / "cifar10-first-4000.bin").read_bytes()
    data = utils.load_images("elec677", official(tmp_path, monkeypatch, content))
    assert data.train_images.shape == (10000, 28, 28, 1) and "rebuilt" in data.title
    course = utils.load_images("elec677", real_data)
    difference = data.train_images[1:301].astype(int) - course.train_images[1:301]
    assert np.abs(difference).max() <= 1  # the five equal batches begin with the true first records


def test_jpeg_is_labelled_lossy(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "j" / split / "cat").mkdir(parents=True)
        Image.new("RGB", (4, 5)).save(tmp_path / "j" / split / "cat" / "0.jpg")
    data = utils.load_images(str(tmp_path / "j"), tmp_path)
    assert "lossy JPEG" in data.title and data.train_images.shape == (1, 5, 4, 3)


# --------------------------------------------------------------------------- official archive

def test_official_archive_and_folder_agree(tmp_path, monkeypatch):
    records = np.zeros((4, 3073), np.uint8)
    records[:, 0] = [3, 1, 4, 1]
    records[:, 1:] = np.arange(3072) % 251
    official(tmp_path / "a", monkeypatch, records.tobytes())
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a" / sources.CIFAR10_FOLDER, sources.CIFAR10_FOLDER)
    one, two = (utils.load_images("cifar10", tmp_path / name) for name in "ab")
    assert one.checksum == two.checksum
    assert one.train_labels.tolist() == [3, 1, 4, 1] * 5
    # Planes R, G, B of 1,024 bytes, row by row: pixel (1, 2) is byte 34 of each plane.
    assert one.train_images[0, 1, 2].tolist() == [34 % 251, (1024 + 34) % 251, (2048 + 34) % 251]


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing", "not a tar", "empty",
                                    "no batch"])
def test_damaged_official_data_is_named(tmp_path, monkeypatch, damage):
    folder = official(tmp_path, monkeypatch, bytes(3073 * 2)) / sources.CIFAR10_FOLDER
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
        utils.load_images("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------ own images

@pytest.mark.parametrize("packed", [False, True])
def test_own_images(tree, packed, tmp_path):
    source = tree
    if packed:
        source = tmp_path / "set.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in tree.rglob("*.png"):
                archive.write(file, file.relative_to(tmp_path))
    data = utils.load_images(str(source), tmp_path)
    assert data.classes == ("2", "10")  # by number, not by letter
    assert data.train_images[:, 0, 0, 0].tolist() == [20, 21, 100, 101]
    assert data.train_labels.tolist() == [0, 0, 1, 1] and data.test_labels.tolist() == [0, 1]


def test_archive_members_stay_inside(tmp_path):
    """A zip whose names climb out of the folder writes nothing anywhere."""
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../train/a/0.png", grey(1))
        archive.writestr("test/a/0.png", grey(2))
    before = sorted(tmp_path.parent.rglob("*.png"))
    assert utils.load_images(str(tmp_path / "evil.zip"), tmp_path).train_images[0, 0, 0, 0] == 1
    assert sorted(tmp_path.parent.rglob("*.png")) == before


def damage_nothing_there(tree):
    return tree / "nowhere", "no such file"


def damage_not_a_zip(tree):
    (tree / "x.zip").write_bytes(b"PK not really")
    return tree / "x.zip", "not a zip"


def damage_truncated_zip(tree):
    with zipfile.ZipFile(tree / "x.zip", "w") as archive:
        archive.writestr("train/a/0.png", grey(1))
    (tree / "x.zip").write_bytes((tree / "x.zip").read_bytes()[:-30])
    return tree / "x.zip", "not a zip"


def damage_flipped_bits(tree):
    with zipfile.ZipFile(tree / "x.zip", "w") as archive:
        archive.writestr("train/a/0.png", grey(1))
        archive.writestr("test/a/0.png", grey(1))
    content = bytearray((tree / "x.zip").read_bytes())
    content[60] ^= 255
    (tree / "x.zip").write_bytes(content)
    return tree / "x.zip", "train/a/0.png"


def damage_no_test(tree):
    for file in (tree / "test").rglob("*.png"):
        file.unlink()
    return tree, "test/"


def damage_empty_class(tree):
    (tree / "Train" / "11").mkdir()
    return tree, "'11'"


def damage_test_only_class(tree):
    (tree / "test" / "11").mkdir()
    (tree / "test" / "11" / "0.png").write_bytes(grey(1))
    return tree, "'11'"


def damage_truncated_image(tree):
    (tree / "Train" / "2" / "0.png").write_bytes(grey(1)[:-25])
    return tree, "0.png"


def damage_empty_image(tree):
    (tree / "Train" / "2" / "0.png").write_bytes(b"")
    return tree, "0.png"


def damage_sizes(tree):
    (tree / "Train" / "2" / "1.png").write_bytes(grey(1, size=4))
    return tree, "4x4x1"


def damage_modes(tree):
    (tree / "Train" / "2" / "1.png").write_bytes(png(np.zeros((3, 3, 3))))
    return tree, "3x3x3"


@pytest.mark.parametrize("damage", [f for name, f in sorted(globals().items())
                                    if name.startswith("damage_")], ids=lambda f: f.__name__)
def test_damaged_images_are_named(tree, tmp_path, damage):
    path, word = damage(tree)
    with pytest.raises(InputError, match=word) as caught:
        utils.load_images(str(path), tmp_path)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------- cache

def test_cache_is_used_renewed_and_rebuilt(tree, cache, monkeypatch):
    first = utils.load_images(str(tree))
    file, = cache.glob("set-v*.npz")
    with monkeypatch.context() as context:
        context.setattr(sources, "_decode", None)  # would fail if it were called
        assert utils.load_images(str(tree)).checksum == first.checksum
    file.write_bytes(file.read_bytes()[:100])  # half a cache is no cache
    assert utils.load_images(str(tree)).checksum == first.checksum
    (tree / "Train" / "2" / "0.png").write_bytes(grey(99))  # other content, other key
    assert utils.load_images(str(tree)).train_images[0, 0, 0, 0] == 99
    assert not list(cache.glob("*.tmp"))


def test_unwritable_cache_is_no_error(tree, cache):
    cache.write_text("a file where the folder should be")
    assert len(utils.load_images(str(tree)).train_images) == 4


# ------------------------------------------------------------------------------ stand-in

def test_synthetic_is_deterministic_and_what_it_says():
    (images, labels, *test), classes = synthetic.patterns(train=20, test=5)
    assert (images.shape == (200, 28, 28, 1) and test[0].shape == (50, 28, 28, 1)
            and len(classes) == 10)
    np.testing.assert_array_equal(images, synthetic.patterns(train=20, test=5)[0][0])
    assert "SYNTHETIC" in utils.load_images("synthetic").title
    # Gratings: stripes run at the named angle, so the spectrum's peak lies across them.
    frequency = np.fft.fftfreq(28)
    for label, across in ((0, 90), (1, 45), (2, 0), (3, 135)):
        own = images[labels == label][..., 0].astype(float)
        spectrum = np.abs(np.fft.fft2(own - own.mean((1, 2), keepdims=True))).mean(0)
        row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
        angle = np.degrees(np.arctan2(frequency[row], frequency[column])) % 180
        assert abs((angle - across + 90) % 180 - 90) < 12, (label, angle)


def test_auto_falls_back_loudly_and_names_never_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources, "CIFAR10_URL", "http://127.0.0.1:9/cifar-10-binary.tar.gz")
    assert utils.load_images("auto", tmp_path).name == "synthetic"
    assert "SYNTHETIC" in capsys.readouterr().err
    for name in ("elec677", "cifar10"):
        with pytest.raises(InputError, match="cannot download"):
            utils.load_images(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
    # there but damaged: never replaced in silence
    (tmp_path / "CIFAR10.zip").write_bytes(b"damaged")
    with pytest.raises(InputError, match="not a zip"):
        utils.load_images("auto", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_data_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write"):
        utils.load_images("cifar10", tmp_path)


# ---------------------------------------------------------------------------------- MNIST

def zipped(data):
    """Compressed without the time of day, which would be in the names of tests."""
    return gzip.compress(data, mtime=0)


def idx(array):
    """`array` as a gzipped IDX file."""
    sizes = b"".join(n.to_bytes(4) for n in array.shape)
    return zipped(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


def idx_folder(folder):
    """Four files of 3 training and 2 test images of 4x5 pixels."""
    folder.mkdir()
    arrays = (np.arange(60).reshape(3, 4, 5), np.array([2, 0, 1]),
              np.zeros((2, 4, 5)), np.array([1, 1]))
    for name, array in zip(sources.MNIST_MD5, arrays):
        (folder / name).write_bytes(idx(array))
    return folder


def test_mnist_as_images(real_data):
    images, digits = (load("mnist", real_data) for load in (utils.load_images, utils.load_digits))
    assert images.checksum == digits.checksum and images.title == digits.title


def test_mnist(real_data):
    data = utils.load_digits("mnist", real_data)
    assert (data.train_images.shape == (60000, 28, 28, 1)
            and data.test_images.shape == (10000, 28, 28, 1))
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(data.test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train_images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    train, validation = utils.split_validation(data.train_labels, 1 / 12)
    assert (len(train), len(validation)) == (55000, 5000)


def test_small_classes_keep_an_image_for_validation():
    """Of two images one is held out; the only one of a class is for training."""
    labels = np.array([0] * 50 + [1] * 2 + [2] + [3] * 4)
    train, validation = utils.split_validation(labels, 0.1)
    assert np.bincount(labels[validation], minlength=4).tolist() == [6, 1, 0, 1]
    assert np.bincount(labels[train], minlength=4).tolist() == [44, 1, 1, 3]
    assert not len(utils.split_validation(labels, 0)[1])


def test_a_run_says_which_class_has_no_validation_image(tmp_path, capsys):
    folder = class_folders(tmp_path / "mine")
    config = cifar_lenet5.Config(data=str(folder), validation_fraction=0.5)
    cifar_lenet5.load(config)
    assert "no validation image of lone" in capsys.readouterr().out


def class_folders(folder):
    for part in ("train", "test"):
        for name, count in (("many", 4), ("lone", 1)):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((4, 4), 30 * i + 9, np.uint8)).save(
                    folder / part / name / f"{i}.png")
    return folder


def test_own_idx_files(tmp_path):
    data = utils.load_digits(str(idx_folder(tmp_path / "mine")))
    assert (data.train_images[0, 1, :, 0].tolist() == [5, 6, 7, 8, 9]
            and data.title.startswith("mine"))
    assert data.train_labels.tolist() == [2, 0, 1] and data.classes == ("0", "1", "2")
    (tmp_path / "mine" / list(sources.MNIST_MD5)[1]).write_bytes(idx(np.array([2, 0, 255])))
    assert len(utils.load_digits(str(tmp_path / "mine")).classes) == 256


@pytest.mark.parametrize("content, word", [
    (b"not gzip", "gzip"), (b"", "IDX|gzip"), (idx(np.zeros((3, 4, 5)))[:-9], "gzip"),
    (None, "not there"), (zipped(b"\0\0\x0d\3" + bytes(72)), "00000d03"),
    (zipped(b""), "begins with nothing"),
    (zipped(gzip.decompress(idx(np.zeros((3, 4, 5))))[:-1]), "promises"),
    (idx(np.zeros((3, 20))), r"\(3, 20\)"), (idx(np.zeros((4, 4, 5))), r"labels \(3,\)"),
    (idx(np.zeros((3, 4, 6))), "test images"), (zipped(b"\0\0\x08\3\0"), "promises")])
def test_damaged_idx_is_one_line(tmp_path, content, word):
    file = idx_folder(tmp_path / "mine") / "train-images-idx3-ubyte.gz"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        utils.load_digits(str(tmp_path / "mine"))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_the_official_ones_are_refused(tmp_path, monkeypatch, capsys):
    idx_folder(tmp_path / "mnist")
    for name in ("auto", "mnist"):
        with pytest.raises(InputError, match="MD5 differs"):
            utils.load_digits(name, tmp_path)
    monkeypatch.setattr(sources, "MNIST_URL", "http://127.0.0.1:9/")
    assert utils.load_digits("auto", tmp_path / "none").name == "synthetic"
    assert "SYNTHETIC" in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot download"):
        utils.load_digits("mnist", tmp_path / "none")


def test_drawn_digits_are_legible_and_fixed():
    (images, labels, *_), classes = synthetic.digits(train=20, test=1)
    np.testing.assert_array_equal(images, synthetic.digits(train=20, test=1)[0][0])
    assert classes == tuple("0123456789") and images.shape == (200, 28, 28, 1)
    ink = (images > 100).mean((1, 2, 3))
    assert 0.03 < ink.min() and ink.max() < 0.35
    means = np.stack([images[labels == c].mean(0).ravel() for c in range(10)])
    assert np.corrcoef(means)[~np.eye(10, dtype=bool)].max() < 0.97  # no two digits look alike


# --------------------------------------------------------------------------------- splits

def test_split_is_stratified_disjoint_and_fixed():
    labels = np.repeat(np.arange(10), 30)[np.random.default_rng(0).permutation(300)]
    train, validation = utils.split_validation(labels, 0.1)
    assert np.bincount(labels[validation]).tolist() == [3] * 10
    assert np.ptp(np.bincount(labels[utils.split_validation(labels, 44 / 300)[1]])) == 1
    # in proportion, and exactly so many
    assert len(utils.split_validation(labels, 44 / 300)[1]) == 44
    assert sorted([*train, *validation]) == list(range(300))
    np.testing.assert_array_equal(validation, utils.split_validation(labels, 0.1)[1])
    assert len(utils.split_validation(labels, 0)[1]) == 0
    with pytest.raises(InputError):
        utils.split_validation(labels, 1.0)


def test_every_epoch_visits_every_image_once_however_it_is_cut():
    whole = utils.batch_indices(seed=5, first=0, last=21, batch=10, count=70)
    for epoch in range(3):
        assert sorted(whole.reshape(-1)[70 * epoch:70 * (epoch + 1)]) == list(range(70))
    assert whole.reshape(3, 70)[0].tolist() != whole.reshape(3, 70)[1].tolist()
    parts = [utils.batch_indices(5, a, b, 10, 70) for a, b in ((0, 4), (4, 13), (13, 21))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert utils.batch_indices(0, 0, 2, 64, 10).shape == (2, 64)  # batches larger than the set


# -------------------------------------------------------------------------------- schedules

def test_schedules_by_hand():
    assert utils.constant(10 ** 6, 0.1) == 0.1
    assert utils.exponential(249, 1e-4, 0.97, 250) == 1e-4
    assert utils.exponential(250, 1e-4, 0.97, 250) == pytest.approx(0.97e-4)
    assert utils.exponential(500, 1e-4, 0.97, 250) == pytest.approx(0.9409e-4)
    assert utils.exponential(125, 1.0, 0.25, 250, staircase=False) == pytest.approx(0.5)
    assert utils.inverse_time(20, 1.0, 0.5, 10) == pytest.approx(0.5)
    assert [utils.cosine(s, 1.0, 12, start=4) for s in (0, 3, 4, 8, 12, 99)] == \
        pytest.approx([1.0, 1.0, 1.0, 0.5, 0.0, 0.0])
    assert utils.cosine(0, 1.0, 10) == 1.0


@pytest.mark.parametrize("schedule, options, expected", [
    ("cosine", dict(warmup=1 / 3), [0.25, 1.0, 1.0, 0.5]),
    ("constant", dict(warmup=0.5), [1 / 6, 4 / 6, 5 / 6, 1.0]),
    ("exponential", dict(decay_factor=0.5, decay_every=4), [1.0, 1.0, 0.5, 0.25]),
    ("inverse-time", dict(decay_factor=1.0, decay_every=4), [1.0, 4 / 7, 0.5, 1 / 3])])
def test_the_rate_of_a_run_by_hand(schedule, options, expected):
    config = cifar_lenet5.Config(rate=1.0, schedule=schedule, **options)
    assert [utils.learning_rate(s, 12, config) for s in (0, 3, 4, 8)] == pytest.approx(expected)


def test_an_unknown_schedule_is_no_other():
    with pytest.raises(KeyError, match="step"):
        utils.learning_rate(0, 10, cifar_lenet5.Config(schedule="step"))


def test_readme_of_data_names_what_the_loader_looks_for():
    text = (pathlib.Path(utils.__file__).parent / "data" / "README.md").read_text()
    for name in ("CIFAR10.zip", sources.CIFAR10_FOLDER, pathlib.Path(sources.CIFAR10_URL).name):
        assert name in text


# ------------------------------------------------------------------------------------ parts

def small_colour():
    """Six 1x2 images of classes 0 1 2 0 1 2; the test images are the first three."""
    images = np.arange(6 * 6, dtype=np.uint8).reshape(6, 1, 2, 3)
    labels = np.int32([0, 1, 2, 0, 1, 2])
    return utils.Images("x", "X", ("a", "b", "c"), images, labels, images[:3], labels[:3])


def test_restrict_to_classes():
    data = small_colour()
    part = utils.restrict(data, "0,2")
    assert part.classes == ("a", "c") and part.title == "X, classes 0,2 only"
    assert part.train_labels.tolist() == [0, 1, 0, 1] and part.test_labels.tolist() == [0, 1]
    np.testing.assert_array_equal(part.train_images, data.train_images[[0, 2, 3, 5]])
    np.testing.assert_array_equal(part.test_images, data.test_images[[0, 2]])
    assert utils.restrict(data, "1-2").classes == ("b", "c")
    assert utils.restrict(data).checksum == data.checksum != part.checksum


def test_restrict_to_grey():
    data = utils.restrict(small_colour(), grey=True)
    assert data.title == "X, made grey" and data.train_images.shape == (6, 1, 2, 1)
    assert data.train_images[1, 0, 1, 0] == round(0.298936 * 9 + 0.587043 * 10 + 0.114021 * 11)
    assert utils.restrict(data, grey=True).checksum == data.checksum


@pytest.mark.parametrize("classes", ["3", "0", "0-3", "a", "0-", "2-1", "0,,1"])
def test_restrict_refuses(classes):
    with pytest.raises(InputError, match="--classes"):
        utils.restrict(small_colour(), classes)


def test_some_of_each_class():
    labels = np.repeat([0, 1, 2], [50, 50, 3])
    chosen = utils.some_of_each_class(labels, 10, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [10, 10, 3] and (np.diff(chosen) > 0).all()
    assert utils.some_of_each_class(labels, 10, seed=1).tolist() == chosen.tolist()
    assert utils.some_of_each_class(labels, 10, seed=2).tolist() != chosen.tolist()
