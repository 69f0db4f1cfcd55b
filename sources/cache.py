"""Keep what took long to decode, by a hash of the files' content.

The cache may be deleted at any time.
"""
import contextlib
import hashlib
import zipfile
import zlib

import numpy as np

from system.command_line import InputError, first_line
from system.files import ROOT, atomic_file

CACHE = ROOT / "data" / "cache"  # not in --data-dir, which may be shared or read-only
CACHE_VERSION = 1  # raise it whenever the arrays that a reader makes of the same files change


def cached(name, source, decode):
    """Return the four arrays that decode() makes of a file or folder, decoding only once.

    name: beginning of the cache file's name; source: the file or folder, whose content is the key.
    A cache that cannot be read or written costs time, nothing else.
    """
    file = CACHE / f"{name}-v{CACHE_VERSION}-{content_key(source)[:16]}.npz"
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return tuple(stored[f"arr_{i}"] for i in range(4))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        arrays = decode()  # nothing there yet, or damaged
    with contextlib.suppress(OSError):
        CACHE.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as stream:
            np.savez(stream, *arrays)
    return arrays


def content_key(path):
    """Return the SHA-256 of a file, or of the relative names and contents of a folder's files."""
    digest = hashlib.sha256()
    try:
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    return digest.hexdigest()
