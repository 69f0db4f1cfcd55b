"""Small files are written whole or not at all; damaged ones are named in one line."""
import os
import pickle
import zipfile

import numpy as np
import pytest
from written import npy, packed

from system import machine
from system.command_line import InputError
from system.files import atomic_file, compare, load_arrays, read_json, write_json


def test_atomic_file_keeps_the_old_one_when_writing_fails(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_file(path) as stream:
        stream.write(b"half of the new")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]
    with atomic_file(path) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["f"]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as error, atomic_file(tmp_path / "f"):
        raise OSError(28, "No space left on device")
    assert error.value.filename == str(tmp_path / "f")


def test_json_and_arrays_come_back(tmp_path):
    write_json(tmp_path / "j", {"ö": [1, None]})
    assert read_json(tmp_path / "j") == {"ö": [1, None]}
    with atomic_file(tmp_path / "a.npz") as stream:
        np.savez(stream, w=np.arange(3))
    assert load_arrays(tmp_path / "a.npz")["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("content, said", [
    (None, "not there"), (b"", "as JSON"), (b"{", "as JSON"), (b"\xff", "as JSON"),
    (b"[" * 99999, "as JSON"), (b"[]", "no JSON object")])
def test_json_that_is_none_is_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "j").write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        read_json(tmp_path / "j")
    assert str(tmp_path / "j") in str(error.value) and "\n" not in str(error.value)


def test_arrays_that_are_none_are_named_and_never_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match="a.npz is not there"):
        load_arrays(path)
    np.savez(path, w=np.array([print], object))
    whole = path.read_bytes()
    other = packed(tmp_path / "other.npz", {"w.npy": b"no array"}).read_bytes()
    for content in (b"", b"PK", whole, whole[:-30], pickle.dumps([1]), other):
        path.write_bytes(content)
        with pytest.raises(InputError, match="a.npz is damaged"):
            load_arrays(path)


def test_a_header_that_is_half_python_is_damaged(tmp_path):
    """Its bracket is never closed, or its lines are not indented alike."""
    np.savez(tmp_path / "a.npz", w=np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.npz") as good:
        content = good.read("w.npy")
    for old, new in ((b"(3,), }", b"(3,(, }"), (b"{'descr'", b" ]\n  esc")):
        assert old in content
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as bad:
            bad.writestr("w.npy", content.replace(old, new))
        with pytest.raises(InputError, match="a.npz is damaged"):
            load_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("header", [
    {"shape": (1 << 45,)}, {"shape": (1 << 70,)}, {"shape": (None,)}, {"descr": ()}])
@pytest.mark.parametrize("form", [".npz", ".npy"])
def test_a_header_that_promises_what_cannot_be_is_damaged(tmp_path, header, form):
    """More memory than is there, more values than can be counted, none, and a type of nothing."""
    path = packed(tmp_path / "a.npz", {"w.npy": npy(**header)})
    if form == ".npy":  # a single array under the name of an archive
        path.write_bytes(npy(**header))
    with pytest.raises(InputError, match="a.npz is damaged"):
        load_arrays(path)


def test_what_promises_more_than_memory_holds_is_refused_unread(tmp_path, monkeypatch):
    """Two arrays of 10,000 zeros behind headers of 128 bytes, which a few bytes are packed into."""
    path, free = tmp_path / "a.npz", [2 * (128 + 40_000)]
    np.savez_compressed(path, a=np.zeros(10_000, np.float32), b=np.zeros(10_000, np.float32))
    monkeypatch.setattr(machine, "free_memory", lambda: free[0])
    assert path.stat().st_size < 1000 and len(load_arrays(path)["b"]) == 10_000
    free[0] -= 1
    monkeypatch.setattr(np, "load", None)  # would fail if it were called
    with pytest.raises(InputError, match="a.npz, unpacked, would take 0.0 GB of memory.* more$"):
        load_arrays(path)


def test_the_first_difference_is_named():
    compare("x", {"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, "do this")
    for old, new, said in (({"a": 1}, {"a": 2}, "x a=1, not 2: do this"),
                           ({}, {"a": 2}, "x a=None, not 2"), ({"a": 1}, {}, "x a=1, not None"),
                           ({"b": {"c": 2}}, {"b": {"c": 3}}, "x b c=2, not 3"),
                           (None, {}, "x: nothing that can be read; do this")):
        with pytest.raises(InputError, match=said):
            compare("x", old, new, "do this")
