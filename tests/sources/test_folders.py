"""One's own folders and zips of images."""
import zipfile

import pytest
import written
from PIL import Image
from written import grey

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
