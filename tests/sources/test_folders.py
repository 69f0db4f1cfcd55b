"""One's own folders and zips of images, and what was decoded of them once."""
import zipfile

import numpy as np
import pytest
import written
from PIL import Image
from written import grey, png

from sources import folders
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
        archive.writestr("../../train/a/0.png", grey(1))
        archive.writestr("test/a/0.png", grey(2))
    before = sorted(tmp_path.parent.rglob("*.png"))
    assert load_images(str(tmp_path / "evil.zip"), tmp_path).train_images[0, 0, 0, 0] == 1
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
        load_images(str(path), tmp_path)
    assert "\n" not in str(caught.value)


def test_jpeg_is_labelled_lossy(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "j" / split / "cat").mkdir(parents=True)
        Image.new("RGB", (4, 5)).save(tmp_path / "j" / split / "cat" / "0.jpg")
    data = load_images(str(tmp_path / "j"), tmp_path)
    assert "lossy JPEG" in data.title and data.train_images.shape == (1, 5, 4, 3)


def test_cache_is_used_renewed_and_rebuilt(tree, cache, monkeypatch):
    first = load_images(str(tree))
    file, = cache.glob("set-v*.npz")
    with monkeypatch.context() as context:
        context.setattr(folders, "_decode", None)  # would fail if it were called
        assert load_images(str(tree)).checksum == first.checksum
    file.write_bytes(file.read_bytes()[:100])  # half a cache is no cache
    assert load_images(str(tree)).checksum == first.checksum
    (tree / "Train" / "2" / "0.png").write_bytes(grey(99))  # other content, other key
    assert load_images(str(tree)).train_images[0, 0, 0, 0] == 99
    assert not list(cache.glob("*.tmp"))


def test_unwritable_cache_is_no_error(tree, cache):
    cache.write_text("a file where the folder should be")
    assert len(load_images(str(tree)).train_images) == 4
