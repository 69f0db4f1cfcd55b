"""Folders, archives and links to them."""
import io
import os
import pathlib
import tarfile
import zipfile

import pytest
import written
from written import TWO, below, folder, grey, packed, read, seen, values

from sources import tree
from system import machine
from system.command_line import InputError

cache = written.cache


@pytest.mark.parametrize("ending", tree.ARCHIVES)
def test_every_archive_is_read_like_the_folder(tmp_path, ending):
    """None has entries of folders; all but the last begin with a folder of their own."""
    plain = read(folder(tmp_path / "set", values(**TWO)))
    for i, prefix in enumerate(("set/", "./", "")):
        data = read(packed(tmp_path / f"{i}{ending}", below(prefix, values(**TWO))))
        assert seen(data) == seen(plain) == TWO and data.checksum == plain.checksum


@pytest.mark.parametrize("path", ["/", "/tmp/..", "//"])
def test_a_whole_machine_is_no_folder_of_images(path):
    with pytest.raises(InputError, match=f"^{path[:1]}.* is every file of this machine; name the"):
        read(path)


def test_a_zip_with_entries_of_folders_and_an_empty_class(tmp_path):
    path = packed(tmp_path / "set.zip", values(**TWO))
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("train")
        archive.mkdir("train/cat")
    assert seen(read(path)) == TWO
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("train/owl")
    with pytest.raises(InputError, match="class 'owl' has no picture in train/"):
        read(path)


def test_a_zip_with_backslashes(tmp_path):
    path = tmp_path / "set.zip"
    packed(path, {name.replace("/", "|"): x for name, x in values(**TWO).items()})
    path.write_bytes(path.read_bytes().replace(b"|", b"\\"))  # zipfile itself would not write it
    assert zipfile.ZipFile(path).namelist()[0] == r"train\cat\0.png"
    assert seen(read(path)) == TWO


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_a_name_twice_in_an_archive_is_its_last(tmp_path, ending):
    path = packed(tmp_path / f"set{ending}", values(**TWO))
    if ending == ".zip":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("train/cat/0.png", grey(99))
    else:
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo("train/cat/0.png")
            info.size = len(grey(99))
            archive.addfile(info, io.BytesIO(grey(99)))
    assert seen(read(path))["train"]["cat"] == [99, 11]


@pytest.mark.parametrize("name", ["data.zip", "data.tgz"])
def test_an_archive_in_a_folder_is_opened(tmp_path, name):
    folder(tmp_path / "set", {"README.txt": b"hello"})
    packed(tmp_path / "set" / name, values(**TWO))
    assert seen(read(tmp_path / "set")) == TWO
    packed(tmp_path / "set" / "more.zip", values(**TWO))
    with pytest.raises(InputError, match="more.zip"):
        read(tmp_path / "set")


def test_links_are_followed_but_not_round_in_circles(tmp_path):
    """A class, a picture and a whole train/ may be links; a link to a folder above ends there."""
    folder(tmp_path / "set", values(**TWO))
    (tmp_path / "set" / "train").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cat").rename(tmp_path / "cats")
    (tmp_path / "set" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cat").symlink_to("../cats")
    (tmp_path / "cats" / "5.png").symlink_to(tmp_path / "set" / "test" / "dog" / "0.png")
    (tmp_path / "cats" / "again").symlink_to(tmp_path / "set")
    (tmp_path / "cats" / "self").symlink_to(tmp_path / "cats")
    (tmp_path / "cats" / "nothing.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "cats" / "loop.png").symlink_to(tmp_path / "cats" / "loop.png")
    (tmp_path / "cats" / "below.png").symlink_to(tmp_path / "cats" / "0.png" / "1.png")
    assert seen(read(tmp_path / "set"))["train"] == dict(cat=[10, 11, 22], dog=[20, 21])


def test_a_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    """A hidden one is nobody's."""
    path, scandir = folder(tmp_path / "set", values(**TWO)), os.scandir
    for name in ("train/owl", "train/.owl"):
        (path / name).mkdir()

    def scan(place):
        if pathlib.Path(place).name.endswith("owl"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)
    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(InputError, match="set/train/owl: cannot be read .*denied.*; make it"):
        read(path)
    (path / "train" / "owl").rmdir()
    assert seen(read(path)) == TWO


def linked(path, files, links):
    """Write {name: content} and {name: (kind, target)} as a tar archive; return its path."""
    with tarfile.open(packed(path, files), "a") as archive:
        for name, (kind, target) in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def test_links_in_a_tar_are_followed(tmp_path):
    """To a file, hard or symbolic, to another link, in the place of another file."""
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    path = linked(tmp_path / "set.tar", below("set/", values(**TWO)), {
        "set/train/cat/1.png": (soft, ".././dog/0.png"), "set/train/dog/2.png": (hard,
        "set/train/dog/1.png"), "set/train/dog/3.png": (soft, "4.png"),
        "set/train/dog/4.png": (soft, "0.png"), "set/.notes": (soft, "/etc/hosts")})
    assert seen(read(path)) == dict(train=dict(cat=[10, 20], dog=[20, 21, 21, 20, 20]),
                                    test=dict(cat=[12], dog=[22]))


@pytest.mark.parametrize("kind, target", [
    (tarfile.SYMTYPE, "/etc/0.png"), (tarfile.SYMTYPE, "../../../train/dog/0.png"),
    (tarfile.SYMTYPE, "2.png"), (tarfile.LNKTYPE, "../train/dog/0.png"),
    (tarfile.LNKTYPE, "train/cat/5.png"), (tarfile.SYMTYPE, "owl"), (tarfile.SYMTYPE, "../dog")])
def test_a_link_in_a_tar_to_no_file_in_it_is_refused(tmp_path, kind, target):
    """Nor to a folder: twenty such links, each to two others, would hold a million files."""
    path = linked(tmp_path / "set.tar", values(**TWO), {"train/cat/owl": (kind, target)})
    with pytest.raises(InputError, match="train/cat/owl is a link to no file.*--dereference"):
        read(path, skip_unreadable=True)


@pytest.mark.parametrize("ending", ["", ".zip", ".tar.gz"])
def test_hidden_names_are_nobodys(tmp_path, ending):
    hidden = ("train/.ipynb_checkpoints/0-checkpoint.png", "train/cat/._0.png", "@eaDir/a/0.png",
              "train/cat/@eaDir/0.png/thumb.png", "__MACOSX/train/cat/0.png", "train/cat/.x/0.png",
              ".git/train/a/0.png")
    files = values(**TWO) | dict.fromkeys(hidden, b"not a picture")
    data = read((packed if ending else folder)(tmp_path / f"set{ending}", files))
    assert seen(data) == TWO and data.notes == ()


@pytest.mark.parametrize("name", ["train.csv", ".train.csv", "@train.csv"])
def test_a_file_that_is_named_is_read_though_hidden(tmp_path, name):
    """Its neighbours that nobody named are not."""
    folder(tmp_path, {name: b"".join(b"%d,%d,1,2,3\n" % (i % 2, i) for i in range(4)),
                      ".test.csv": b"0,9,9,9,9\n"})
    data = read(tmp_path / name, test_split=0.5)
    assert sorted([*data.train_images[:, 0, 0, 0], *data.test_images[:, 0, 0, 0]]) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["train.csv", "a.zip", "a"])
def test_a_device_is_refused(tmp_path, name):
    (tmp_path / name).symlink_to("/dev/null")
    with pytest.raises(InputError, match=f"{name} is a pipe or a device, no file"):
        read(tmp_path / name)


def test_a_file_that_promises_too_much_is_refused_unread(tmp_path, monkeypatch):
    path = packed(tmp_path / "set.zip", values(**TWO))
    monkeypatch.setattr(tree, "LARGEST_FILE", len(grey(10)) - 1)
    said = f"train/cat/0.png would be {len(grey(10))} bytes; a file may have"
    with pytest.raises(InputError, match=said):
        read(path)


@pytest.mark.parametrize("ending", ["", ".zip"])
def test_a_file_that_does_not_fit_into_memory_is_refused_unread(tmp_path, monkeypatch, ending):
    """Whose two megabytes are held twice; what is small is read, however much is free."""
    csv = b"0,9,2,3,4\n1,4,3,2,1\n".ljust(1 << 21, b"\n")
    path = (packed if ending else folder)(tmp_path / f"set{ending}", {
        "train.csv": csv, "test.csv": csv[:100]})
    monkeypatch.setattr(machine, "free_memory", lambda: 1 << 22)
    assert read(path).train_images.size == 8
    monkeypatch.setattr(machine, "free_memory", lambda: (1 << 22) - 1)
    with pytest.raises(InputError, match="set.*: reading train.csv would take 0.0 GB of memory"):
        read(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_kind_of_compression_and_its_damage(tmp_path, method):
    path = packed(tmp_path / "set.zip", values(**TWO), method)
    assert seen(read(path)) == TWO
    content = bytearray(path.read_bytes())
    content[50:70] = bytes(20)  # of the first picture
    path.write_bytes(content)
    with pytest.raises(InputError, match="train/cat/0.png") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_half_an_archive_is_refused(tmp_path, ending):
    path = packed(tmp_path / f"set{ending}", values(**TWO))
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"set{ending}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_names_with_line_ends_or_no_text_are_written_out(tmp_path):
    """In messages, notes and names of classes: one line each, and what UTF-8 can say."""
    files = values(**TWO) | {"a\nb.png": grey(1), "\udcff.png": grey(2)}
    files |= {name.replace("cat", "c\udcffat"): x for name, x in values(**TWO).items()}
    path = folder(tmp_path / "set", {n: x for n, x in files.items() if "/cat/" not in n})
    data = read(path)
    assert data.classes == (r"c\udcffat", "dog") and r"like a\nb.png" in data.notes[0]
    folder(path, {"train/dog/x\n\x1b[31m.png": b""})
    with pytest.raises(InputError, match=r"train/dog/x\\n\\x1b\[31m.png \(empty\)"):
        read(path)
