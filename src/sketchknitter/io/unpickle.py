"""Pickled NumPy object arrays, read without running anything that the pickle names.

``numpy.load(allow_pickle=True)`` lets a file call any function. Here the pickle machine knows five
names, and each is bound to a small stand-in that checks its arguments: NumPy's own constructors are
never handed to the pickle, because a crafted dtype or array state corrupts memory. The machine is
the standard library's Python one (``pickle._Unpickler``): the C one reserves memory for any memo
index that a file cares to name.

The work is bounded by the size of the pickle: nothing is read beyond its end, objects are counted,
and nothing that it made is ever hashed or printed, since a tuple of 60 shared levels is small in
the file and endless to walk. What is no array (dictionaries, sets) is built as an opaque thing.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import IO, Any, ClassVar

import numpy as np

_SPEC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|O[48]?)")
_MAX_NDIM = 4
_MAX_SIDE = 2**40
_MAX_OBJECTS = 10_000_000  # memorized or made; each takes about 100 bytes


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
    """A short text of the pickle; anything else is neither looked at nor printed."""
    if type(value) is bytes:
        value = value[:64].decode("latin1")
    if type(value) is not str:
        raise RefusedPickle("something else where a name belongs")
    return value[:64]


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
        self._fill(shape, dtype, fortran is True or fortran == 1, raw)

    def _fill(self, shape: Any, dtype: Any, fortran: bool, raw: Any) -> None:
        good = type(shape) is tuple and len(shape) <= _MAX_NDIM
        if not good or not all(type(n) is int and 0 <= n < _MAX_SIDE for n in shape):
            raise RefusedPickle("an array of a shape that no drawing has")
        if type(dtype) is not _Dtype:
            raise RefusedPickle("an array without a data type")
        self.shape = shape
        count = math.prod(shape)
        if dtype.dtype.hasobject:
            if type(raw) is not list or len(raw) != count:
                raise RefusedPickle("an object array without its list")
            self.values = raw
            return
        if type(raw) not in (bytes, bytearray) or len(raw) != count * dtype.dtype.itemsize:
            raise RefusedPickle("an array whose bytes do not fit its shape")
        flat = np.frombuffer(raw, dtype.dtype)
        self.values = flat.reshape(shape, order="F" if fortran else "C")


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> PickledArray:
    array = PickledArray()
    array._fill(shape, dtype, _text(order) == "F", raw)
    return array


class _Opaque:
    """A dictionary or set: what goes in is forgotten."""

    __slots__ = ()


class _Member:
    """The pickle's bytes; asking for more than are left is damage, not a reason to allocate."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise EOFError("it ends too early")
        self._left -= size
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline()
        self._left -= len(line)
        return line


class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(_Member(file, size), encoding="bytes")
        self._encoded = size  # bytes of text that may still be encoded
        # an array of a few rows takes 100 bytes of a pickle and six memo entries
        self._objects = min(100_000 + size // 8, _MAX_OBJECTS)
        self._names = {
            ("numpy", "ndarray"): _Name(self._not_called),
            ("numpy", "dtype"): _Name(_Dtype),
            ("_codecs", "encode"): _Name(self._encode),
        }
        for core in ("core", "_core"):  # NumPy 1 and 2
            self._names[f"numpy.{core}.multiarray", "_reconstruct"] = _Name(
                lambda *_: PickledArray()
            )
            self._names[f"numpy.{core}.numeric", "_frombuffer"] = _Name(_frombuffer)

    @staticmethod
    def _not_called(*_: Any) -> None:
        raise RefusedPickle("a call of numpy.ndarray")

    def _encode(self, text: Any, encoding: Any) -> bytes:
        """Python 2's way of writing bytes."""
        if type(text) is not str or _text(encoding) != "latin1":
            raise RefusedPickle("an unknown text encoding")
        self._encoded -= len(text)
        if self._encoded < 0:
            raise RefusedPickle("the same bytes again and again")
        return text.encode("latin1")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise RefusedPickle(f"{module}.{name}"[:120]) from None

    def get_extension(self, code: int) -> Any:
        raise RefusedPickle(f"extension {code}")

    def _count(self) -> None:
        self._objects -= 1
        if self._objects < 0:
            raise RefusedPickle("more objects than its size explains")

    # -- opcodes of the machine, by what they make -----------------------------------------------
    def _opaque(self) -> None:
        self._count()
        self.append(_Opaque())  # type: ignore[attr-defined]

    def _opaque_from_mark(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]
        self._opaque()

    def _forget_pair(self) -> None:
        del self.stack[-2:]  # type: ignore[attr-defined]

    def _forget_to_mark(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]

    def _bytearray(self) -> None:
        (size,) = np.frombuffer(self.read(8), "<u8").tolist()  # type: ignore[attr-defined]
        self.append(self.read(size))  # type: ignore[attr-defined]

    def _build(self) -> None:
        state = self.stack.pop()  # type: ignore[attr-defined]
        target = self.stack[-1]  # type: ignore[attr-defined]
        if type(target) not in (_Dtype, PickledArray, _Name):
            raise RefusedPickle("a change to something that is no array")
        target.__setstate__(state)

    def _refuse(self) -> None:
        raise RefusedPickle("an object that is no array")


def _counted(opcode: bytes) -> Callable[[_Unpickler], None]:
    load: Callable[[Any], None] = pickle._Unpickler.dispatch[opcode[0]]

    def count_and_load(self: _Unpickler) -> None:
        self._count()
        load(self)

    return count_and_load


def _set_opcodes(table: dict[int, Callable[[_Unpickler], None]]) -> None:
    own: dict[Callable[[_Unpickler], None], tuple[bytes, ...]] = {
        _Unpickler._opaque: (pickle.EMPTY_DICT, pickle.EMPTY_SET),
        _Unpickler._opaque_from_mark: (pickle.DICT, pickle.FROZENSET),
        _Unpickler._forget_pair: (pickle.SETITEM,),
        _Unpickler._forget_to_mark: (pickle.SETITEMS, pickle.ADDITEMS),
        _Unpickler._bytearray: (pickle.BYTEARRAY8,),
        _Unpickler._build: (pickle.BUILD,),
        _Unpickler._refuse: (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
    }
    for load, opcodes in own.items():
        table.update((opcode[0], load) for opcode in opcodes)
    counted = (
        *(pickle.EMPTY_LIST, pickle.LIST, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2),
        *(pickle.TUPLE3, pickle.MARK, pickle.REDUCE, pickle.FRAME),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
    )
    table.update((opcode[0], _counted(opcode)) for opcode in counted)


_set_opcodes(_Unpickler.dispatch)


def load_object_array(file: IO[bytes], size: int) -> PickledArray:
    """The object array pickled at the file's position (protocols 0 to 5, Python 2 and 3).

    Args:
        file: stands where the pickle begins.
        size: bytes from there to its end; no more than that are read or allocated.

    Raises:
        RefusedPickle: it names anything but NumPy arrays; the name is the message.
        ValueError: it is damaged, or not an array at all.
    """
    try:
        array = _Unpickler(file, size).load()
    except RefusedPickle:
        raise
    except RecursionError:
        raise ValueError("the pickle is nested too deeply") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"the pickle is damaged ({type(error).__name__})") from None
    if not isinstance(array, PickledArray) or not hasattr(array, "values"):
        raise ValueError("the pickle is not a NumPy array")
    return array
