"""Unpickle plain data only: NumPy arrays of numbers, bytes, str, int, list, dict and the like.

A pickle is a program that may call anything that can be imported. Here it can import nothing: what
old and new versions of NumPy and Python name in pickles of arrays and bytes is replaced by the
stand-ins below, in Python alone; any other name is refused.
"""
import io
import pickle
import re

import numpy as np


class _Array:
    """What a pickled array becomes until its state is known, which is then checked."""

    def __setstate__(self, state):
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array of objects")
        self.array = np.frombuffer(content, np.dtype(kind.order + kind.code)).reshape(
            shape, order="F" if fortran else "C")


class _Type:
    """The type of an array's values."""
    order = "="

    def __init__(self, code, *_):
        code = _text(code)
        if not isinstance(code, str) or not re.fullmatch("b1|[iu][1248]|f[248]", code):
            raise pickle.UnpicklingError(f"an array of {code!r}")
        self.code = code

    def __setstate__(self, state):
        order = _text(state[1])
        self.order = order if order in ("<", ">", "|", "=") else "="


def _text(value):
    """Return the text that Python 2, in which bytes were text, pickled as bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else value


def _encode(text, encoding):
    """Return the bytes that Python 3 writes so for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding!r}")
    return text.encode("latin1")


def _frombuffer(content, kind, shape, order):
    """Return an array as protocol 5 pickles it."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", content))
    return array


STAND_INS = {("numpy", "ndarray"): None, ("numpy", "dtype"): _Type, ("_codecs", "encode"): _encode,
             ("__builtin__", "bytes"): lambda: b"", ("builtins", "bytes"): lambda: b""}
for _core in ("numpy.core", "numpy._core"):  # versions 1 and 2
    STAND_INS |= {(f"{_core}.multiarray", "_reconstruct"): lambda *_: _Array(),
                  (f"{_core}.numeric", "_frombuffer"): _frombuffer}


class _Unpickler(pickle._Unpickler):  # the one in C takes whatever memory it is told to
    dispatch = dict(pickle._Unpickler.dispatch)

    def load_bytearray8(self):  # the original one makes room before it reads
        self.append(self.read(int.from_bytes(self.read(8), "little")))
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module, name):
        try:
            return STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which plain data does not"
                                         ) from None


def loads(content):
    """Return what a pickle holds; bytes of Python 2 stay bytes. Raises an exception for any other.
    """
    return _plain(_Unpickler(io.BytesIO(content), encoding="bytes").load())


def _plain(value):
    """Return dicts with text keys, and arrays in place of what stood for them."""
    if isinstance(value, dict):
        return {k.decode(errors="replace") if isinstance(k, bytes) else k: getattr(v, "array", v)
                for k, v in value.items()}
    return getattr(value, "array", value)
