"""Read and write small files: whole or not at all, and damage named in one line."""
import contextlib
import json
import os
import pathlib
import zipfile

from system import machine
from system.command_line import InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEYOND_MEMORY = "if that is what it should hold, it needs a machine with more"
DATA_DIR = os.environ.get("DATA_DIR", "data")


@contextlib.contextmanager
def atomic_file(path):
    """Open a binary file that appears under `path` only once it is complete and on the disk."""
    part = f"{path}.{os.getpid()}.tmp"
    try:
        with open(part, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError as error:  # the error of a full disk does not name the file
        error.filename = error.filename or str(path)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def write_text(path, text):
    """Write a text file atomically, as UTF-8."""
    with atomic_file(path) as stream:
        stream.write(text.encode())


def write_json(path, value):
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def regular(path):
    """Return a path; InputError if it leads to a pipe or device, whose reading may never end."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(f"{path} is a pipe or a device, no file; copy its content into one")
    return path


def check_zip(path, file=None):
    """Raise InputError if a zip archive, at `path` or open, promises more than fits into memory, or
    is a pipe or device. What is no zip is not refused: who reads it will say so."""
    regular(path)
    try:
        with zipfile.ZipFile(file or path) as archive:
            promised = sum(info.file_size for info in archive.infolist())
    except Exception:  # whatever zipfile says of damage
        return
    machine.check_memory(promised, f"{path}, unpacked,", BEYOND_MEMORY)


def read_json(path):
    """Return the JSON object in a file; InputError if it is missing, damaged or no object."""
    try:
        value = json.loads(pathlib.Path(regular(path)).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there; is its folder that of a (finished) run?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object")
    return value


def load_arrays(path):
    """Return {name: array} of an .npz file; InputError if missing or damaged. Never unpickles."""
    import numpy as np
    check_zip(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
            if any(isinstance(array, bytes) for array in arrays.values()):
                raise ValueError  # a file of another kind, which NumPy hands over as it is
            return arrays
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there") from error
    except Exception as error:  # NumPy reads a header as if it were Python, and believes its shape
        raise InputError(f"{path} is damaged ({type(error).__name__})") from error


def compare(what, old, new, remedy):
    """Raise InputError, naming the first difference, if two JSON objects differ."""
    if not isinstance(old, dict):
        raise InputError(f"{what}: nothing that can be read; {remedy}")
    for key in {**old, **new}:
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            compare(f"{what} {key}", a, b, remedy)
        elif a != b:
            raise InputError(f"{what} {key}={a!r}, not {b!r}: {remedy}")
