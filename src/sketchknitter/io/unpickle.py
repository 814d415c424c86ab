"""Pickled NumPy object arrays, read without running anything that the pickle names.

``numpy.load(allow_pickle=True)`` lets a file call any function. Here the pickle machine knows five
names, and each is bound to a small stand-in that checks its arguments: NumPy's own constructors are
never handed to the pickle, because a crafted dtype or array state corrupts memory. The machine is
the standard library's Python one (``pickle._Unpickler``): the C one reserves memory for any memo
index that a file cares to name.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import IO, Any

import numpy as np

_SPEC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|O[48]?)")
_MAX_NDIM = 4


class RefusedPickle(Exception):
    """The pickle names something that is not a NumPy array; nothing of it was run."""


class _Name:
    """What a global name of the pickle stands for: callable, with no state to tamper with."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickle("a change to a function")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


class _Dtype:
    __slots__ = ("dtype",)

    def __init__(self, spec: Any, *_: Any) -> None:
        if not _SPEC.fullmatch(_text(spec)):
            raise RefusedPickle(f"the data type {_text(spec)[:20]!r}")
        self.dtype = np.dtype(_text(spec))

    def __setstate__(self, state: Any) -> None:
        order, subarray, names = _text(state[1]), state[2], state[3]
        if subarray is not None or names is not None or order not in tuple("<>=|"):
            raise RefusedPickle("a structured data type")
        if not self.dtype.hasobject and order in "<>":
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class PickledArray:
    """One array of the pickle: ``values`` is numeric, or a flat list for an object array."""

    __slots__ = ("shape", "values")
    shape: tuple[int, ...]
    values: np.ndarray | list[Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self._fill(shape, dtype, "F" if fortran else "C", raw)

    def _fill(self, shape: Any, dtype: _Dtype, order: Any, raw: Any) -> None:
        if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > _MAX_NDIM:
            raise RefusedPickle(f"an array of shape {str(shape)[:40]}")
        self.shape = tuple(shape)
        count = math.prod(self.shape)
        if dtype.dtype.hasobject:
            if type(raw) is not list or len(raw) != count:
                raise RefusedPickle("an object array without its list")
            self.values = raw
            return
        if type(raw) not in (bytes, bytearray) or len(raw) != count * dtype.dtype.itemsize:
            raise RefusedPickle("an array whose bytes do not fit its shape")
        flat = np.frombuffer(raw, dtype.dtype)
        self.values = flat.reshape(self.shape, order="F" if order == "F" else "C")


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> PickledArray:
    array = PickledArray()
    array._fill(shape, dtype, order, raw)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or _text(encoding) != "latin1":
        raise RefusedPickle("an unknown text encoding")
    return text.encode("latin1")


def _names() -> dict[tuple[str, str], _Name]:
    def not_called(*_: Any) -> None:
        raise RefusedPickle("a call of numpy.ndarray")

    known = {
        ("numpy", "ndarray"): _Name(not_called),
        ("numpy", "dtype"): _Name(_Dtype),
        ("_codecs", "encode"): _Name(_encode),
    }
    for core in ("core", "_core"):  # NumPy 1 and 2
        known[f"numpy.{core}.multiarray", "_reconstruct"] = _Name(lambda *_: PickledArray())
        known[f"numpy.{core}.numeric", "_frombuffer"] = _Name(_frombuffer)
    return known


class _Unpickler(pickle._Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="bytes")
        self._known = _names()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._known[module, name]
        except KeyError:
            raise RefusedPickle(f"{module}.{name}"[:120]) from None

    def get_extension(self, code: int) -> Any:
        raise RefusedPickle(f"extension {code}")


def load_object_array(file: IO[bytes]) -> PickledArray:
    """The object array pickled at the file's position (protocols 0 to 5, Python 2 and 3).

    Raises:
        RefusedPickle: it names anything but NumPy arrays; the name is the message.
        ValueError: it is damaged, or not an array at all.
    """
    try:
        array = _Unpickler(file).load()
    except RefusedPickle:
        raise
    except RecursionError:
        raise ValueError("the pickle is nested too deeply") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"the pickle is damaged ({type(error).__name__})") from None
    if not isinstance(array, PickledArray) or not hasattr(array, "values"):
        raise ValueError("the pickle is not a NumPy array")
    return array
