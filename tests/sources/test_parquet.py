"""Parquet files as the Hugging Face hub keeps them."""
import sys

import numpy as np
import pytest
import written
from PIL import Image
from written import encoded, folder, grey, parquet, png, read, seen

from system.command_line import InputError

cache = written.cache


def table(labels, first=0, image="image", label="label", names=None, **more):
    """Grey pictures of the values first, first + 1 ... and their labels."""
    pictures = [{"bytes": grey(first + i), "path": f"{i}.png"} for i in range(len(labels))]
    info = {"features": {label: {"names": names, "_type": "ClassLabel"}}} if names else None
    return parquet({image: pictures, label: labels, **more}, info)


TRAIN, TEST = "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"


@pytest.mark.parametrize("image, label, names, classes", [
    ("image", "label", None, ("0", "1")), ("img", "label", ["cat", "dog"], ("cat", "dog")),
    ("img", "fine_label", ["cat", "dog", "owl"], ("cat", "dog"))])
def test_columns_and_names_of_classes(tmp_path, image, label, names, classes):
    options = dict(image=image, label=label, names=names)
    path = folder(tmp_path / "set", {TRAIN: table([1, 0, 1], 10, **options),
                                     TEST: table([0, 1], 20, **options), "README.md": b"hello"})
    zero, one = classes
    assert seen(read(path)) == {"train": {zero: [11], one: [10, 12]},
                                "test": {zero: [20], one: [21]}}


def test_names_of_classes_that_are_equal_get_their_labels(tmp_path):
    content = table([0, 1, 2], 10, names=["crane", "owl", "crane"])
    data = read(folder(tmp_path / "set", {TRAIN: content, TEST: content}))
    assert data.classes == ("crane (0)", "owl", "crane (2)")
    assert "several classes are called crane: their labels are added to the name" in data.notes


def test_coarse_labels(tmp_path):
    info = {"features": {"fine_label": {"names": ["a", "b", "c"]},
                         "coarse_label": {"names": ["x", "y"]}}}
    content = parquet({"img": [{"bytes": grey(i)} for i in range(3)], "fine_label": [2, 0, 1],
                       "coarse_label": [1, 1, 0]}, info)
    path = folder(tmp_path / "set", {TRAIN: content, TEST: content})
    assert seen(read(path))["train"] == dict(a=[1], b=[2], c=[0])
    assert seen(read(path, coarse=True))["train"] == dict(x=[2], y=[0, 1])
    path = folder(tmp_path / "fine", {TRAIN: table([0, 1]), TEST: content})
    with pytest.raises(InputError, match="has columns image, label; wanted are image and coarse_l"):
        read(path, coarse=True)


def test_several_files_and_validation(tmp_path):
    path = folder(tmp_path / "set", {
        "train-00000-of-00002.parquet": table([0, 1], 10),
        "train-00001-of-00002.parquet": table([1, 0], 12), "test-0.parquet": table([0, 1], 20),
        "validation-0.parquet": table([1, 0], 30)})
    assert seen(read(path)) == {"train": {"0": [10, 13], "1": [11, 12]},
                                "test": {"0": [20], "1": [21]},
                                "validation": {"0": [31], "1": [30]}}


def test_a_word_of_a_name_says_what_a_file_is_for(tmp_path):
    path = folder(tmp_path / "set", {"mnist_train2.parquet": table([0, 1], 10),
                                     "test/mnist_test2.parquet": table([0, 1], 20),
                                     "val_1/0000.parquet": table([0, 1], 30)})
    assert seen(read(path)) == {"train": {"0": [10], "1": [11]}, "test": {"0": [20], "1": [21]},
                                "validation": {"0": [30], "1": [31]}}


def test_validation_alone_is_the_test_set(tmp_path):
    """And where no name has such a word, all is for training."""
    path = folder(tmp_path / "set", {TRAIN: table([0, 1], 10),
                                     "data/dev-0.parquet": table([0], 20)})
    assert seen(read(path))["test"] == {"0": [20], "1": []}
    assert "the validation images are the test set, as there is no other" in read(path).notes
    path = folder(tmp_path / "plain", {f"{i}.parquet": table([0, 1], 10 * i) for i in (1, 2)})
    data = read(path, test_split=0.5)
    assert sorted([*data.train_images[:, 0, 0, 0], *data.test_images[:, 0, 0, 0]]) == [10, 11, 20,
                                                                                       21]


@pytest.mark.parametrize("split", ["extra", "unsupervised", "trainset"])
def test_a_split_of_another_name_is_refused(tmp_path, split):
    path = folder(tmp_path / "set", {TRAIN: table([0, 1], 10), TEST: table([0, 1], 20),
                                     f"data/{split}-00000-of-00001.parquet": table([0, 1], 30)})
    with pytest.raises(InputError, match=f"the name of data/{split}-.* says neither train, test"):
        read(path)


HASHES = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize("names, allowed", [
    (("a/train-0.parquet", "b/train-0.parquet"), False),
    (("mnist-train.parquet", "svhn-train.parquet"), False), (("a.parquet", "b.parquet"), False),
    (("train/a/0.parquet", "train/b/0.parquet"), False),
    (("train/0000.parquet", "train/0001.parquet"), True),
    ([f"train-0000{i}-of-00002-{x}.parquet" for i, x in enumerate(HASHES)], True),
    ([f"train-{x}.parquet" for x in HASHES], False)])
def test_several_data_sets_are_refused(tmp_path, names, allowed):
    """Parts of one are told by their numbers, and the hub's hashes behind these."""
    path = folder(tmp_path / "set", {name: table([0, 1], 10 * i) for i, name in enumerate(names)})
    if allowed:
        assert len(read(path, test_split=0.5).train_labels) == 2
        return
    with pytest.raises(InputError, match=f"several data sets, of {names[0]} and {names[1]}; give"):
        read(path)


def test_other_names_of_classes_are_refused(tmp_path):
    files = {TRAIN: table([0, 1], 10, names=["cat", "dog"]), TEST: table([0, 1], 20)}
    assert read(folder(tmp_path / "a", files)).classes == ("cat", "dog")  # the test set has none
    for names, said in ((["dog", "cat"], "'cat', not 'dog'"),
                        (["cat", "dog", "owl"], "None, not 'owl'")):
        files[TEST] = table([0, 1], 20, names=names)
        with pytest.raises(InputError, match=f"names its classes otherwise than another.*: {said}"):
            read(folder(tmp_path / "b", files))


@pytest.mark.parametrize("labels, said", [
    ([-1, 0, 1], "train labels begin at -1; they must be 0 or more"),
    ([0.5, 1.0], "'float' object cannot be interpreted as an integer")])
def test_labels_that_are_refused(tmp_path, labels, said):
    with pytest.raises(InputError, match=said):
        read(folder(tmp_path / "set", {TRAIN: table(labels, 10), TEST: table([0, 1], 20)}))
    path = folder(tmp_path / "yes", {TRAIN: table([True, False], 10), TEST: table([0, 1], 20)})
    assert seen(read(path))["train"] == {"0": [11], "1": [10]}


def test_pictures_are_read_like_those_of_folders(tmp_path):
    colour = png(np.tile(np.uint8([9, 8, 7]), (6, 8, 1)))
    deep = encoded(Image.fromarray(np.full((6, 8), 2570, np.uint16)), "png")
    rows = [{"bytes": x} for x in (colour, deep, b"", None, grey(3))]
    path = folder(tmp_path / "set", {TRAIN: parquet({"image": rows, "label": [0, 1, 0, 1, 1]}),
                                     TEST: table([0, 1], 20)})
    with pytest.raises(InputError, match=r"2 pictures.*parquet/2 \(empty\), .*parquet/3 \(empty\)"):
        read(path, image_size="3")
    data = read(path, image_size="3", skip_unreadable=True)
    assert data.train_images[:, 1, 1].tolist() == [[9, 8, 7], [10] * 3, [3] * 3]
    assert data.train_labels.tolist() == [0, 1, 1] and data.mirrors
    assert "1 pictures have 16 bits" in data.notes[0] and "2 unreadable" in data.notes[1]


@pytest.mark.parametrize("content, words", [
    (parquet({"text": ["a"], "label": [0]}), "has columns text, label; wanted are image and label"),
    (parquet({"image": ["a"], "label": [0]}), "cannot be read as images and labels"),
    (parquet({"image": [{"bytes": b""}], "label": ["cat"]}), "cannot be read"),
    (parquet({"image": [{"bytes": b""}], "label": [None]}), "cannot be read"),
    (b"PAR1 not really", "cannot be read"), (b"", "cannot be read")])
def test_tables_that_are_refused(tmp_path, content, words):
    with pytest.raises(InputError, match=f"train-0.parquet.*{words}") as caught:
        read(folder(tmp_path / "set", {"train-0.parquet": content}))
    assert "\n" not in str(caught.value)


def test_without_pyarrow_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    path = folder(tmp_path / "set", {TRAIN: table([0, 1])})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="to read Parquet files, pip install pyarrow"):
        read(path)
