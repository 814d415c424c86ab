"""QuickDraw's binary format: a header of 19 bytes, then each stroke as uint8 x's and y's."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath
from sketchknitter.io.records import (
    MAX_LINE,
    MAX_POINTS,
    BadDrawing,
    Reject,
    as_label,
    kind_of,
    no_splits,
    read_head,
)
from sketchknitter.sketch import Array, Sketch

# key id, country code, recognized, timestamp, stroke count (googlecreativelab/quickdraw-dataset)
_HEADER = struct.Struct("<Q2sBIH")
_COUNT = struct.Struct("<H")
_NO_HEADER = "no drawing begins here; the rest of the file is passed over"
_CUT = "the file ends within this drawing"


class _Lost(BadDrawing):
    """The place where the next drawing begins is unknown."""


def _looks_right(header: bytes) -> bool:
    if len(header) < _HEADER.size:
        return False
    _, country, recognized, _, _ = _HEADER.unpack(header)
    return recognized <= 1 and all(65 <= c <= 90 or c in (0, 32) for c in country)


def read(path: AnyPath, *, split: str | None = None) -> Iterator[Sketch | Reject]:
    """The drawings of a QuickDraw ``.bin`` (see ``sketchknitter.io.read_counted``).

    The file names no class, so its stem is the label. Records have no marks between them: after a
    damaged one nothing can be found, and the rest of the file is one reject.

    Raises:
        UserError: the file is of another kind.
    """
    no_splits(path, split)
    head = read_head(path)
    if not _looks_right(head[: _HEADER.size]) or kind_of(head) != "something else":
        what = kind_of(head).replace("something else", "of another kind")
        raise UserError(f"{path} is {what}, not QuickDraw's binary format; check its suffix")
    label = as_label(Path(path).stem)
    with open(path, "rb") as f:
        number = 0
        while header := f.read(_HEADER.size):
            number += 1
            try:
                strokes = _strokes(f, header)
                if not strokes:
                    raise BadDrawing("an empty drawing")
                yield Sketch(strokes, label)
            except BadDrawing as fault:
                yield Reject(f"record {number}", str(fault))
                if isinstance(fault, _Lost):
                    return


def _strokes(f: IO[bytes], header: bytes) -> list[Array]:
    if len(header) < _HEADER.size:
        raise _Lost(_CUT)
    if not _looks_right(header):
        raise _Lost(_NO_HEADER)
    strokes: list[Array] = []
    empty = False
    total = 0
    for _ in range(_HEADER.unpack(header)[4]):
        (n,) = _COUNT.unpack(_exactly(f, _COUNT.size))
        total += n
        if total > min(MAX_POINTS, MAX_LINE // 2):
            raise _Lost(f"more than {MAX_POINTS} points; {_NO_HEADER}")
        points = np.frombuffer(_exactly(f, 2 * n), np.uint8).reshape(2, n).T
        empty = empty or n == 0
        strokes.append(points.astype(np.float64))
    if empty:
        raise BadDrawing("a stroke without points")
    return strokes


def _exactly(f: IO[bytes], size: int) -> bytes:
    data = f.read(size)
    if len(data) < size:
        raise _Lost(_CUT)
    return data
