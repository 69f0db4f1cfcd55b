"""One's own folders and zips of images."""
import shutil
import zipfile

import numpy as np
import pytest
import written
from PIL import Image
from written import TWO, below, folder, grey, packed, png, read, seen, values

from system.command_line import InputError
from utils import load_images

cache, tree = written.cache, written.tree


@pytest.mark.parametrize("packed", [False, True])
def test_own_images(tree, packed, tmp_path):
    source = tree
    if packed:
        source = tmp_path / "set.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in tree.rglob("*.png"):
                archive.write(file, file.relative_to(tmp_path))
    data = load_images(str(source), tmp_path)
    assert data.classes == ("2", "10")  # by number, not by letter
    assert data.train_images[:, 0, 0, 0].tolist() == [20, 21, 100, 101]
    assert data.train_labels.tolist() == [0, 0, 1, 1] and data.test_labels.tolist() == [0, 1]


def test_archive_members_stay_inside(tmp_path):
    """A zip whose names climb out of the folder writes nothing anywhere."""
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name in ("../../train/a", "train/b", "test/a", "test/b"):
            archive.writestr(f"{name}/0.png", grey(ord(name[-1])))
    before = sorted(tmp_path.parent.rglob("*.png"))
    assert load_images(str(tmp_path / "evil.zip"), tmp_path).train_images[0, 0, 0, 0] == 97
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
    return tree, "no test set; --test-split 0.2"


def damage_empty_class(tree):
    (tree / "Train" / "11").mkdir()
    return tree, "'11'"


def damage_empty_class_without_a_test_set(tree):
    (tree / "Train" / "11").mkdir()
    shutil.rmtree(tree / "test")
    return tree, "class '11' has no picture in Train/11/"


def damage_empty_class_without_a_split(tree):
    (tree / "Train" / "11" / "new").mkdir(parents=True)
    return tree / "Train", "class '11' has no picture in 11/"


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
    return tree, r"2 sizes.* 3x3 \(5\), 4x4 \(1, like Train/2/1.png\); --image-size 3x3"


@pytest.mark.parametrize("damage", [f for name, f in sorted(globals().items())
                                    if name.startswith("damage_")], ids=lambda f: f.__name__)
def test_damaged_images_are_named(tree, tmp_path, damage):
    path, word = damage(tree)
    with pytest.raises(InputError, match=word) as caught:
        load_images(str(path), tmp_path)
    assert "\n" not in str(caught.value)


def test_jpeg_is_labelled_lossy(tmp_path):
    for split in ("train", "test"):
        for name, colour in (("cat", "red"), ("dog", "blue")):
            (tmp_path / "j" / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 5), colour).save(tmp_path / "j" / split / name / "0.jpg")
    data = load_images(str(tmp_path / "j"), tmp_path)
    assert "lossy JPEG" in data.title and data.train_images.shape == (2, 5, 4, 3)


# ---------------------------------------------------------------------------------------- layout

FEW = dict(train=dict(cat=[10, 11], dog=[20, 21]))
OTHER = below("backup/", values(train=TWO["train"]))
THREE = dict(train=TWO["train"], test=TWO["test"], validation=dict(cat=[13], dog=[23]))
PASSED = "passed over that are in no class's folder in test/ or train/, like"


@pytest.mark.parametrize("packing", ["", ".zip", ".tar.gz"])
@pytest.mark.parametrize("files, wanted, note", [
    (values(**TWO), TWO, ""),
    (below("a/b/", values(**TWO)), TWO, ""),
    (values(**TWO) | OTHER, TWO, f"4 pictures {PASSED} backup/train/cat/0.png"),
    (values(**TWO) | {"0.png": grey(1), "test/1.png": grey(1), "more/cat/2.png": grey(1)}, TWO,
     f"3 pictures {PASSED} 0.png"),
    (values(**TWO) | {"train/cat/notes.txt": b"", "LICENSE": b""}, TWO,
     "2 files passed over that are no pictures (.txt, no ending)"),
    # as Kaggle's zips unpack, train.zip into train/
    (below("train/", values(train=TWO["train"])) | below("test/", values(test=TWO["test"])), TWO,
     ""),
    (below("x/Train/", values(Train=TWO["train"])) | below("x/", values(test=TWO["test"])), TWO,
     ""),
    (values(train=dict(train=[1], test=[2]), test=dict(train=[3], test=[4])),
     dict(train=dict(test=[2], train=[1]), test=dict(test=[4], train=[3])), ""),
    # a class's subfolders, whatever they are called
    ({"train/cat/kitten/0.png": grey(1), "train/cat/train/wild/1.png": grey(2),
      "train/dog/0.png": grey(3), "test/cat/test/0.png": grey(4), "test/dog/0.png": grey(5)},
     dict(train=dict(cat=[1, 2], dog=[3]), test=dict(cat=[4], dog=[5])), ""),
    *[(values(train=TWO["train"], **{name: TWO["test"]}), TWO,
       f"{name}/ is the test set, as there is no test/")
      for name in ("val", "valid", "validation", "VAL")],
    *[(values(**TWO, **{name: THREE["validation"]}), THREE, "")
      for name in ("val", "valid", "Validation", "dev")],
    *[(below(f"{a}/", values(**{a: TWO["train"]})) | below(f"{b}/", values(**{b: TWO["test"]}))
       | more, TWO, f"{b}/ is taken for test/; {a}/ is taken for train/" + also)
      for a, b, more, also in (
          ("training_set", "test_set", {}, ""), ("Train-1", "Test-2", {}, ""),
          ("seg_train", "seg_test", {"seg_pred/seg_pred/0.png": grey(1)}, "; 1 pictures passed "
           "over that are in no class's folder in seg_test/seg_test/ or seg_train/seg_train/, like "
           "seg_pred/seg_pred/0.png"))],
    (values(training=TWO["train"], testing=TWO["test"]), TWO, ""),
    (values(train=dict(Cat=[10, 11], dog=[20, 21]), test=dict(cat=[12], DOG=[22])),
     dict(train=dict(Cat=[10, 11], dog=[20, 21]), test=dict(Cat=[12], dog=[22])), "")])
def test_layouts(tmp_path, packing, files, wanted, note):
    data = read((packed if packing else folder)(tmp_path / f"set{packing}", files))
    assert seen(data) == wanted and "; ".join(data.notes) == note
    assert f"{sum(map(len, wanted['train'].values()))} train" in data.title


@pytest.mark.parametrize("files, words", [
    (below("a/", values(**TWO)) | below("b/", values(**TWO)), ["a/, b/ each hold a train/"]),
    (values(**TWO) | values(training=TWO["train"]), ["train/ and training/ are both there"]),
    (values(**TWO, val=THREE["validation"], valid=THREE["validation"]), ["val/ and valid/"]),
    ({f"{c}/{part}/0.png": grey(1) for c in ("cat", "dog") for part in ("train", "test")},
     ["cat/ holds a split of its own; wanted are train/<class>/*"]),
    ({"x/train_1/0.png": grey(1), "x/test_1/0.png": grey(2)},
     ["x/train_1/ has no folder for each class; wanted are"]),
    ({"train_data/0.png": grey(1), "test_images/0.png": grey(2)},
     ["test_images/ and train_data/ look like a split; wanted are"]),
    *[(below(prefix, values(**{b: FEW["train"], a: TWO["test"]}) | more),
       [f"{prefix}{a}/ and {prefix}{b}/ look like a split; rename them {said}"])
      for prefix, b, a, said, more in (
          ("", "trainset", "testset", "test/ and train/", {}),
          ("x/", "TrainData", "TestData", "test/ and train/", {}),
          ("", "trainA", "testA", "test/ and train/", {"0.png": grey(1)}),
          ("", "ValidImages", "TrainingImages", "train/ and validation/", values(
              other=dict(a=[1]))))],
    ({f"{part}{x}/0.png": grey(1) for part in ("train", "test") for x in "AB"},
     ["testA/ and trainA/ look like a split"]),
    ({f"{c}/{part}set/0.png": grey(1) for c in ("cat", "dog") for part in ("train", "test")},
     ["cat/ holds a split of its own"]),
    (values(**FEW), ["no test set", "--test-split 0.2", "4 images"]),
    (values(cat=dict(a=[1]), dog=dict(b=[2]), test=dict(c=[3])), ["test/ but no train/"]),
    ({"0.png": grey(1), "1.png": grey(2)}, ["no images in a form that is known"]),
    ({"a/0.png": grey(1), "a/1.png": grey(2)}, ["one class", "'a'"]),
    (values(train=dict(cat=[1, 2]), test=dict(cat=[3])), ["only one class, 'cat'"]),
    (values(train=dict(cat=[1], dog=[2]), test=dict(cat=[3])), ["'dog'", "for the test"]),
    (values(train=dict(cat=[1]), test=dict(cat=[3], dog=[2])), ["'dog' has no picture for train"]),
    (values(train=dict(Cat=[1], cat=[2]), test=dict(CAT=[3])), ["'CAT'"]),
    (values(**TWO) | {"train.csv": b"label,a,b,c,d\n0,1,2,3,4\n"},
     ["folders of pictures and tables of pixels", "give the one you mean"]),
    ({"notes.txt": b"", "b.doc": b""}, ["it holds b.doc, notes.txt", "data/README.md"]), ({}, [])])
def test_layouts_that_are_refused(tmp_path, files, words):
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError) as caught:
        read(folder(tmp_path / "set", files), test_split=0.5 if "one class" in words else 0.0)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "photos/", "my data/photos/"])
def test_class_folders_without_train_and_a_test_set_held_out(tmp_path, prefix):
    """A fifth of each class, the same whatever else is asked; folders below a class are its own."""
    files = {f"{prefix}{name}/{'deep/' * (i % 2)}{i}.png": grey(base + i)
             for name, base, count in (("cat", 0, 10), ("dog", 100, 20)) for i in range(count)}
    data = read(folder(tmp_path / "set", files), test_split=0.2)
    found = seen(data)
    assert [len(found["test"][name]) for name in data.classes] == [2, 4]
    assert sorted(found["train"]["cat"] + found["test"]["cat"]) == [*range(10)]
    assert sorted(found["train"]["dog"] + found["test"]["dog"]) == [*range(100, 120)]
    assert "test images drawn from all" in data.title
    assert found["test"] == dict(cat=[5, 9], dog=[100, 106, 113, 103])  # as in recorded runs
    assert read(tmp_path / "set", test_split=0.2).checksum == data.checksum


def test_words_in_names_of_classes_are_no_split(tmp_path):
    for i, names in enumerate((("steam_train", "test_tube", "bus"), ("bullet-train", "owl"),
                               ("trainers", "testers", "boots"), ("valley", "testament"))):
        files = {f"{name}/new/{j}.png": grey(j) for name in names for j in range(2)}
        data = read(folder(tmp_path / str(i), files), test_split=0.5)
        assert sorted(data.classes) == sorted(names) and not data.notes[1:]


def test_a_folder_of_other_files_beside_those_of_classes_is_passed_over(tmp_path):
    files = {f"{name}/{i}.png": grey(i) for name in ("cat", "dog") for i in range(2)}
    data = read(folder(tmp_path / "set", files | {"notes/a.txt": b""}), test_split=0.5)
    assert data.classes == ("cat", "dog") and data.notes[0].startswith("1 files passed over")


def test_a_held_out_test_set_leaves_each_class_a_training_picture(tmp_path):
    path = folder(tmp_path / "set", {"a/0.png": grey(1), "b/0.png": grey(2), "b/1.png": grey(3)})
    with pytest.raises(InputError, match="--test-split 0.5: class 'a' would have no image left"):
        read(path, test_split=0.5)
    assert seen(read(path, test_split=0.1))["train"] == dict(a=[1], b=[3])


def test_a_test_set_is_not_drawn_where_there_is_one(tmp_path):
    with pytest.raises(InputError, match="has a test set of its own"):
        read(folder(tmp_path / "set", values(**TWO)), test_split=0.2)


def test_test_pictures_that_are_training_pictures_are_counted(tmp_path):
    files = values(train=dict(cat=[10, 11], dog=[20]), test=dict(cat=[11, 12], dog=[20, 23]))
    assert read(folder(tmp_path / "set", files)).notes == (
        "2 of 4 test images are training images too",)


def test_one_picture_throughout_is_refused(tmp_path):
    """Black drawings whose ground is transparent are all black on black."""
    lines = np.zeros((4, 4, 4), np.uint8)
    files = {}
    for part, name, column in (("train", "a", 0), ("train", "b", 1), ("test", "a", 2),
                               ("test", "b", 3)):
        drawn = lines.copy()
        drawn[:, column, 3] = 255
        files[f"{part}/{name}/0.png"] = png(drawn)
    path = folder(tmp_path / "set", files)
    assert read(path).train_images[..., 0].tolist() == [[[0, 255, 255, 255]] * 4,
                                                        [[255, 0, 255, 255]] * 4]
    with pytest.raises(InputError, match="one and the same picture.*another --background"):
        read(path, background="black")
