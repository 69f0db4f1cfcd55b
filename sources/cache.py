"""Keep what took long to decode, by a hash of the files' content.

The cache may be deleted at any time.
"""
import contextlib
import hashlib

import numpy as np

from system.files import ROOT, atomic_file

CACHE = ROOT / "data" / "cache"  # not in --data-dir, which may be shared or read-only
CACHE_VERSION = 3  # raise it whenever the arrays that a reader makes of the same files change


def cached(name, key, decode):
    """Return the arrays that decode() makes, decoding only once.

    name: beginning of the cache file's name; key: text that says what is decoded, and how. A cache
    that cannot be read or written costs time, nothing else.
    """
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    file = CACHE / f"{name}-v{CACHE_VERSION}-{digest[:16]}.npz"
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return tuple(stored[f"arr_{i}"] for i in range(len(stored.files)))
    except Exception:  # nothing there yet, or damaged
        arrays = decode()
    with contextlib.suppress(OSError):
        CACHE.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as stream:
            np.savez(stream, *arrays)
    return arrays
