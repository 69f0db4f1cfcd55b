"""Damage small files of every form that sources/ reads: each must be read, or refused in one line.

    python tests/fuzz.py --count 1000 --seed 0      # prints and keeps what is taken otherwise
"""
import argparse
import collections
import gzip
import pathlib
import random
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "sources"))
from written import folder, forms, packed

from sources import cache
from sources.images import Reading
from system.command_line import InputError
from utils import load_images

HOWS = Reading(), Reading(skip_unreadable=True), Reading(image_size="5x7", test_split=0.3)
PACKS = *[""] * 4, "file", ".zip", ".zip", ".npz", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"
METHODS = 0, 8, 12, 14  # of a zip: stored, deflated, bzip2, LZMA


def damaged(content, other, rng):
    """Return the bytes after some flips, cuts, insertions, copies and splices; what is gzipped
    mostly within."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.6:
        return gzip.compress(damaged(gzip.decompress(content), other, rng), 1)
    content = bytearray(content)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4, 16))):
        at, span = rng.randrange(1 + rng.choice((64, len(content)))), int(2 ** rng.uniform(0, 8))
        start, own, mark = rng.randrange(len(other) + 1), content[at:at + span], rng.randrange(256)
        content[at:at + rng.choice((0, span, span, 1 << 30 if rng.random() < 0.2 else 1))] = (
            rng.choice((b"", own, own * 2, rng.randbytes(span), other[start:start + span],
                        bytes([rng.choice((0, 1, 127, 255, mark))]) * min(span, 8))))
        for _ in range(rng.randrange(3) if content else 0):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def make(found, path, rng):
    """Write one damaged input; return what it is, its path and how to read it."""
    form, pack = rng.choice(list(found)), rng.choice(PACKS)
    files, other = dict(found[form]), rng.choice([*found[rng.choice(list(found))].values()])
    name, whole = rng.choice(list(files)), pack.startswith(".") and rng.random() < 0.6
    if not whole:
        files[name] = damaged(files[name], other, rng)
    if pack.startswith("."):
        path = packed(path.with_name(f"set{pack}"), files, rng.choice(METHODS))
        path.write_bytes(damaged(path.read_bytes(), other, rng) if whole else path.read_bytes())
    else:
        path = folder(path, files) / (name if pack == "file" else "")
    return f"{form} {pack}", path, rng.choice(HOWS)


class Slow(BaseException):
    """Ten seconds have passed; no reader catches this."""


def outcome(path, how):
    """Return "read", "refused", or what is wrong with how load_images takes a path."""
    def alarm(*_):
        raise Slow
    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(10)
    try:
        data = load_images(str(path), how=how)
        for x, y in (data.arrays[:2], data.arrays[2:], *filter(None, [data.validation])):
            assert x.dtype == "uint8" and x.shape[3] in (1, 3) and len(x) == len(y), x.shape
            assert set(y) <= set(range(len(data.classes))), y
        assert all(len(x.encode().splitlines()) == 1 for x in (data.title, *data.notes))
    except InputError as error:
        return "refused" if len(str(error).splitlines()) == 1 else f"not one line: {error}"
    except (Exception, Slow) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return "read"


def fuzz(seed, count, kept):
    """Return {(what, outcome): how many} of `count` inputs; what is wrong is printed, and its files
    stay in the folder `kept`, as do those of what ends the process."""
    found, counts = forms(), collections.Counter()
    for number in range(count):
        rng, own = random.Random(f"{seed} {number}"), kept / f"{seed}-{number}"
        own.mkdir(parents=True)
        what, path, how = make(found, own / "set", rng)
        result = outcome(path, how)
        counts[what, result if result in ("read", "refused") else "fault"] += 1
        if result in ("read", "refused"):
            shutil.rmtree(own)
        else:
            print(f"{path} ({what}, {how}): {result}")
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="inputs")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    options = parser.parse_args()
    cache.CACHE = pathlib.Path("/dev/null/none")  # nothing is kept
    counted = fuzz(options.seed, options.count, pathlib.Path(tempfile.mkdtemp("-fuzz")))
    print("\n".join(f"{n:8,} {result:8}{what}" for (what, result), n in sorted(counted.items())))
    sys.exit(any(result == "fault" for _, result in counted))
