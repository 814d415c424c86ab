"""sketch-rnn ``.npz`` archives and NumPy arrays of drawings, read without trusting them."""

from __future__ import annotations

import io
import lzma
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath
from sketchknitter.io.records import (
    MAX_POINTS,
    MIB,
    SPLITS,
    BadDrawing,
    Reject,
    as_label,
    check_split,
    kind_of,
    no_splits,
    read_head,
)
from sketchknitter.io.rows import COLUMNS, to_stroke3
from sketchknitter.io.unpickle import PickledArray, RefusedPickle, load_object_array
from sketchknitter.sketch import Sketch

MAX_PICKLE = 512 * MIB  # bytes of one pickled member: it is held in memory as a whole
MAX_PLAIN = 64 * 1024 * MIB  # bytes of one plain member: it is read in pieces
MAX_RATIO, RATIO_FROM = 200, 32 * MIB  # beyond this size a member may not shrink more than this
MAX_SMALL = 256 * MIB  # bytes of one member of labels or class names
MAX_REPEATS = 16  # an object array may refer to its arrays so often, on average
_PIECE = 4 * MIB

_REFUSED = (
    "is refused: its pickle names {}, and only NumPy arrays are admitted; nothing in it was run"
)
_EXPECTED = "expected stroke arrays under train, valid, test, or one (n, N, 3|4|5) array"
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    MemoryError,
    NotImplementedError,
    RuntimeError,  # an encrypted member
    ValueError,
)

# the header of an .npy file: a Python dictionary of three keys, in any order (NEP 1)
_MAX_HEADER = 4096  # bytes
_ENTRY = re.compile(
    r"\s*(['\"])(?:(descr)\1\s*:\s*(['\"])([<>=|]?[a-zA-Z]\d{0,9}(?:\[\d{0,6}[a-z]{1,2}\])?)\3"
    r"|(fortran_order)\1\s*:\s*(True|False)"
    r"|(shape)\1\s*:\s*\(([0-9L, ]*)\))\s*(?:,|$)"
)
_MAX_DIMENSIONS = 32


@dataclass(frozen=True)
class Rows:
    """One drawing of an archive: stroke-3 ``rows`` (n, 3), its label and where it stands."""

    rows: NDArray[Any]
    label: str | None
    split: str | None
    position: str


@dataclass(frozen=True)
class Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def drawings(self) -> bool:
        """Whether an array of this kind can hold drawings."""
        if self.dtype.hasobject:
            return len(self.shape) in (1, 3)
        return (
            self.dtype.kind in "iufb"
            and len(self.shape) in (2, 3)
            and self.shape[-1] in COLUMNS
            and self.shape[-2] <= MAX_POINTS
        )

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def read_header(f: IO[bytes]) -> Header:
    """The header of an .npy file, taken apart here: NumPy's own way evaluates it as Python.

    Raises:
        ValueError: it is damaged, or of a type that holds neither drawings nor labels.
    """
    start = f.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in (b"\x01\x00", b"\x02\x00"):
        raise ValueError("it begins with no .npy header")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(f.read(width), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    raw = f.read(length)
    if len(raw) < length:
        raise ValueError("it ends within its header")
    return _parse_header(raw.decode("latin1").strip())


def _parse_header(text: str) -> Header:
    if text[:1] != "{" or text[-1:] != "}":
        raise ValueError("its header is no dictionary")
    found: dict[str, str] = {}
    rest = text[1:-1].strip()
    while rest:
        entry = _ENTRY.match(rest)
        if entry is None:
            raise ValueError("its header describes no plain array")
        _, descr, _, kind, fortran, order, shape, sides = entry.groups()
        found[descr or fortran or shape] = (kind or order or sides or "").strip()
        rest = rest[entry.end() :]
    if found.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header is incomplete")
    sides = [side.strip().rstrip("L") for side in found["shape"].split(",")]
    if sides and not sides[-1]:
        sides.pop()
    if len(sides) > _MAX_DIMENSIONS or not all(s.isdigit() and len(s) < 19 for s in sides):
        raise ValueError("its header has no proper shape")
    try:
        dtype = np.dtype(found["descr"])
    except (TypeError, ValueError):
        raise ValueError("its header names no data type") from None
    return Header(tuple(map(int, sides)), found["fortran_order"] == "True", dtype)


class Archive:
    """An open ``.npz``: its members by name, each checked for size before it is read.

    Raises:
        UserError: not a zip archive, a zip bomb, or a member named twice.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        head = read_head(path)
        size = os.path.getsize(path)
        if not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            raise UserError(f"{path} is {kind_of(head)}, not an .npz archive; check its suffix")
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception:  # a directory of garbage makes the standard library raise anything
            raise UserError(f"{path} is a damaged zip archive; copy it again") from None
        self._infos: dict[str, zipfile.ZipInfo] = {}
        if sum(info.compress_size for info in self._zip.infolist()) > size:
            raise UserError(f"{path}: its members overlap or are cut short; copy it again")
        for info in self._zip.infolist():
            name = info.filename.removesuffix(".npy")
            if name in self._infos:
                raise self.error(name, "stands twice in the archive")
            if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * info.compress_size:
                raise self.error(
                    name,
                    f"unpacks {info.compress_size} bytes to {info.file_size}, a zip bomb; refused",
                )
            self._infos[name] = info

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        return list(self._infos)

    def error(self, name: str, what: str) -> UserError:
        return UserError(f"{self.path}, member {name!r} {what}")

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[Header, IO[bytes]]]:
        """A member's header and the stream that follows it; damage becomes a UserError."""
        try:
            with self._zip.open(self._infos[name]) as raw:
                f = cast("IO[bytes]", io.BufferedReader(raw, MIB))
                header = read_header(f)
                size = self._infos[name].file_size - f.tell()
                limit = MAX_PICKLE if header.dtype.hasobject else MAX_PLAIN
                if size > limit:
                    raise self.error(
                        name, f"holds {size} bytes, more than the {limit} we read; split the file"
                    )
                if not header.dtype.hasobject:
                    expected = math.prod(header.shape) * header.dtype.itemsize
                    if size != expected:
                        raise self.error(name, f"holds {size} bytes where {header} has {expected}")
                yield header, f
        except RefusedPickle as error:
            raise self.error(name, _REFUSED.format(error)) from None
        except _DAMAGE as error:
            what = str(error)[:200] or type(error).__name__
            raise self.error(name, f"is damaged or no .npy array ({what})") from None

    def size(self, name: str) -> int:
        """Bytes of a member once unpacked."""
        return self._infos[name].file_size

    def header(self, name: str) -> Header:
        with self.open(name) as (header, _):
            return header

    def check_pickle(self, name: str) -> None:
        """Refuse the archive if this member's pickle names anything but NumPy arrays."""
        with self.open(name) as (_, f):
            load_object_array(f, self.size(name))

    def array(self, name: str) -> NDArray[Any]:
        """A small plain member, whole (classes, labels)."""
        with self.open(name) as (header, f):
            if (
                header.dtype.hasobject
                or math.prod(header.shape) * header.dtype.itemsize > MAX_SMALL
            ):
                raise self.error(name, f"is {header}; plain text or numbers are expected")
            if not header.dtype.itemsize:
                raise self.error(name, f"is {header}, a type without content")
            return np.frombuffer(f.read(), header.dtype).reshape(header.shape)


def splits_in(path: AnyPath) -> list[str]:
    """Which of train, valid, test an ``.npz`` has; empty for one that knows no splits.

    Raises:
        UserError: not a readable archive.
    """
    with Archive(path) as archive:
        return [s for s in SPLITS if s in archive.names]


def read_rows(path: AnyPath, *, split: str | None = None) -> Iterator[Rows | Reject]:
    """The drawings of an ``.npz`` in file order, split by split, as stroke-3 rows.

    Memory: one pickled member, or a piece of a plain one.

    Raises:
        UserError: the archive is damaged, a bomb or of another kind; a pickle in it names anything
            but NumPy arrays; it holds no drawings or not the split asked for.
    """
    check_split(path, split)
    with Archive(path) as archive:
        names = [s for s in SPLITS if s in archive.names]
        if split is not None and split not in names:
            has = ", ".join(names) or "no splits at all"
            raise UserError(f"{path} has no split {split!r}; it has {has}")
        others = [n for n in archive.names if n not in SPLITS]
        headers = {n: archive.header(n) for n in others}
        if not names:
            names = [n for n, h in headers.items() if h.drawings]
            if not names:
                listing = ", ".join(f"{n}: {h}" for n, h in list(headers.items())[:4]) or "nothing"
                raise UserError(f"{path} holds no drawings ({listing}); {_EXPECTED}")
        for name, header in headers.items():
            if header.dtype.hasobject and name not in names:
                archive.check_pickle(name)  # nobody asked for it, but a trap shall not be passed on
        for name in names if split is None else [split]:
            label_of = _labels(archive, name)
            for i, item in enumerate(_items(archive, name)):
                yield _row(item, label_of(i), name if name in SPLITS else None, f"{name}[{i}]")


def _row(item: Any, label: str | None, split: str | None, position: str) -> Rows | Reject:
    try:
        return Rows(to_stroke3(item), label, split, position)
    except BadDrawing as fault:
        return Reject(position, str(fault))


def _labels(archive: Archive, name: str) -> Any:
    """index -> label: from ``classes`` and ``labels_<split>``, else the file's stem."""
    key = f"labels_{name}"
    if "classes" not in archive.names or key not in archive.names:
        stem = as_label(Path(archive.path).stem)
        return lambda i: stem
    classes, labels = archive.array("classes"), archive.array(key)
    count = (archive.header(name).shape or (0,))[0]
    good = classes.ndim == labels.ndim == 1 and classes.dtype.kind == "U"
    if not good or labels.dtype.kind not in "iu" or len(labels) != count:
        raise archive.error(key, f"does not label the {count} drawings of {name!r}")
    if len(labels) and not -1 <= labels.min() <= labels.max() < len(classes):
        raise archive.error(key, f"names a class outside the {len(classes)} in 'classes'")
    if not _is_text(classes):
        raise archive.error("classes", "holds invalid characters")
    # -1, the last, is a drawing without a label
    known = [as_label(str(c)) for c in classes] + [None]
    return lambda i: known[labels[i]]


def _is_text(names: NDArray[Any]) -> bool:
    """Whether every code point of a text array is one that Unicode has and UTF-8 can write."""
    if not names.size:
        return True
    codes = names.astype(names.dtype.newbyteorder("=")).view(np.uint32)
    return bool(((codes < 0xD800) | ((codes > 0xDFFF) & (codes <= 0x10FFFF))).all())


def _items(archive: Archive, name: str) -> Iterator[Any]:
    """The member's drawings as they stand; what is no array at all becomes None."""
    with archive.open(name) as (header, f):
        if header.dtype.hasobject:
            yield from _objects(header, f, archive.size(name))
        elif not header.drawings:
            if math.prod(header.shape):
                raise archive.error(name, f"is {header}; drawings are (n, N, 3|4|5) arrays")
        else:
            yield from _in_pieces(header, f)


def _objects(header: Header, f: IO[bytes], size: int) -> Iterator[Any]:
    """The drawings of a pickled member of at most ``size`` bytes.

    Raises:
        RefusedPickle, ValueError: as ``load_object_array``; it is no array of the header's shape,
            or refers to the same arrays so often that its size does not explain the work.
    """
    array = load_object_array(f, size)
    if array.shape != header.shape or not isinstance(array.values, list):
        raise ValueError(f"it holds other objects than its header says: {header}")
    left = MAX_REPEATS * size + MIB
    for item in _from_list(array):
        left -= item.nbytes if item is not None else 0
        if left < 0:
            raise ValueError(f"it holds the same arrays more than {MAX_REPEATS} times")
        yield item


def _from_list(array: PickledArray) -> Iterator[Any]:
    values = array.values
    if len(array.shape) == 3:  # equally long drawings that NumPy melted into one object array
        numbers = all(type(v) is float or (type(v) is int and abs(v) < 2**53) for v in values)
        if numbers and values:
            yield from np.array(values).reshape(array.shape)
        else:
            yield from [None] * (array.shape[0] if values else 0)
        return
    for item in values:
        plain = isinstance(item, PickledArray) and isinstance(item.values, np.ndarray)
        yield item.values if plain else None


def _in_pieces(header: Header, f: IO[bytes]) -> Iterator[NDArray[Any]]:
    shape = header.shape if len(header.shape) == 3 else (1, *header.shape)
    if not math.prod(shape):
        return
    if header.fortran:
        if math.prod(shape) * header.dtype.itemsize > MAX_PICKLE:
            raise ValueError("it is in Fortran order and too large to turn; save it in C order")
        whole = np.frombuffer(f.read(), header.dtype).reshape(header.shape, order="F")
        yield from whole.reshape(shape)
        return
    row = math.prod(shape[1:]) * header.dtype.itemsize
    step = max(1, _PIECE // max(1, row))
    for start in range(0, shape[0], step):
        count = min(step, shape[0] - start)
        yield from np.frombuffer(f.read(count * row), header.dtype).reshape(count, *shape[1:])


def read(path: AnyPath, *, split: str | None = None) -> Iterator[Sketch | Reject]:
    """The drawings of an ``.npz`` or ``.npy`` (see ``sketchknitter.io.read_counted``)."""
    rows = read_rows(path, split=split)
    if Path(path).suffix.lower() == ".npy":
        rows = _npy_rows(path, split)
    for item in rows:
        if isinstance(item, Reject):
            yield item
        else:
            yield Sketch.from_stroke3(item.rows, item.label)


def _npy_rows(path: AnyPath, split: str | None) -> Iterator[Rows | Reject]:
    no_splits(path, split)
    head = read_head(path)
    if not head.startswith(b"\x93NUMPY"):
        raise UserError(f"{path} is {kind_of(head)}, not a .npy array; check its suffix")
    label = as_label(Path(path).stem)
    with open(path, "rb") as f:
        try:
            header = read_header(f)
            size = os.path.getsize(path) - f.tell()
            if header.dtype.hasobject:
                if size > MAX_PICKLE:
                    raise UserError(
                        f"{path} holds {size} bytes, more than the {MAX_PICKLE} we read"
                    )
                items = _objects(header, f, size)
            elif not header.drawings or size != math.prod(header.shape) * header.dtype.itemsize:
                raise UserError(f"{path} is {header} in {size} bytes; {_EXPECTED}")
            else:
                items = _in_pieces(header, f)
            for i, item in enumerate(items):
                yield _row(item, label, None, f"[{i}]")
        except RefusedPickle as error:
            raise UserError(f"{path} {_REFUSED.format(error)}") from None
        except _DAMAGE as error:
            raise UserError(f"{path} is damaged ({str(error)[:200]}); copy it again") from None
