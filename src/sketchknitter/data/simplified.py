"""The fast lane: blocks of ndjson that are in QuickDraw's simplified form from end to end.

Of each line only what stands before the drawing is parsed as JSON, and that of all lines at once.
The drawings are one array of bytes, whose grammar is checked and whose numbers are read by whole
array operations: twice as fast as parsing them into Python's lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import orjson
from numpy.typing import NDArray

from sketchknitter.data.flat import Flat
from sketchknitter.geometry import Counts, starts_of
from sketchknitter.io.records import MAX_POINTS

_TEXT = {str, type(None)}
_COMMA, _OPEN, _CLOSE, _END = b",[]}"
_ZERO = ord("0")
_TOGETHER = 512  # lines, so that their arrays stay in a processor's own cache
_STROKE = b"[[][]]"  # the brackets of [[x, …], [y, …]]
Bytes = NDArray[np.uint8]


def parse_simplified(lines: Sequence[bytes | None]) -> Flat | None:
    """Parse lines that all hold a simplified drawing; None if a single one does not.

    The form is that of the dataset's files: ``drawing`` is the last key, coordinates are whole
    numbers from 0 to 255. The caller takes the careful way with everything else
    (``io.ndjson.parse_block``), which says what is wrong.
    """
    parts = []
    for first in range(0, len(lines), _TOGETHER):
        part = _parse(lines[first : first + _TOGETHER])
        if part is None:
            return None
        parts.append(part)
    if not parts:
        return None
    words = [word for part in parts for word in part[0]]
    xy, points, strokes = (np.concatenate(arrays) for arrays in list(zip(*parts, strict=True))[1:])
    return Flat(xy, points, strokes, words, range(len(words)))


def _parse(
    lines: Sequence[bytes | None],
) -> tuple[list[str | None], NDArray[np.int16], Counts, Counts] | None:
    """Words, points, points in each stroke and strokes in each drawing of some lines."""
    try:
        words, text, lengths = _cut(lines)
    except (orjson.JSONDecodeError, TypeError, ValueError, LookupError, AttributeError):
        return None
    if not _TEXT.issuperset(map(type, words)):
        return None
    found = _points(np.frombuffer(text, np.uint8), np.cumsum(lengths))
    return None if found is None else (words, *found)


def _cut(lines: Sequence[bytes | None]) -> tuple[list[str | None], bytes, list[int]]:
    """Words of all lines, all their drawings as one text, and the bytes of each drawing.

    Raises:
        ValueError: and others, where a line has not the form; a drawing is not looked at.
    """
    key = b'"drawing": ' if b'"drawing": ' in (lines[0] or b"") else b'"drawing":'
    # None, for a line that was too long, raises
    heads, _, drawings = zip(*map(bytes.partition, lines, repeat(key)), strict=True)  # type: ignore[arg-type]
    if not all(map(bytes.startswith, heads, repeat(b"{"))):
        raise ValueError("not an object")
    # one object after the other: flat, so that none can end where another begins
    joined = b"[" + b'"":0},'.join(heads) + b'"":0}]'
    if joined.count(b"{") != len(lines) or joined.count(b"[") != 1:
        raise ValueError("not flat")
    records = orjson.loads(joined)
    if len(records) != len(lines):
        raise ValueError("not one object a line")
    if b", " in drawings[0]:
        drawings = tuple(drawing.replace(b", ", b",") for drawing in drawings)
    words = [record.get("word") for record in records]
    return words, b"".join(drawings), list(map(len, drawings))


def _points(text: Bytes, ends: Counts) -> tuple[NDArray[np.int16], Counts, Counts] | None:
    """The points of many drawings ``[[[x, …], [y, …]], …]}``.

    Args:
        text: of all drawings.
        ends: where each of them ends in it.

    Returns:
        (P, 2) points, points in each stroke, strokes in each drawing; None where the text has any
        other form, such as a number beyond 255.
    """
    digits = text - np.uint8(_ZERO)
    other = digits > 9
    numbers = _numbers(digits, other)
    if numbers is None or text[0] != _OPEN:
        return None
    marks = np.flatnonzero(other)
    coded = text.copy()  # what stands there, and whether a number before it
    coded[1:] |= (~other[:-1]).view(np.uint8) * np.uint8(128)
    kinds = coded[marks]
    after = kinds > 127
    kinds &= 127
    # a number stands before a comma or closing bracket that follows a comma or an opening one
    comma = kinds == _COMMA
    wanted = comma | (kinds == _CLOSE)
    wanted[1:] &= comma[:-1] | (kinds[:-1] == _OPEN)
    if not np.array_equal(after, wanted):
        return None
    found = _strokes(kinds, marks, ends)
    if found is None:
        return None
    lengths, strokes = found
    xy = np.empty((int(lengths.sum()), 2), dtype=np.int16)
    values = numbers[marks[after]]  # the xs of a stroke, then its ys
    own = np.arange(len(xy)) + np.repeat(starts_of(lengths), lengths)
    xy[:, 0] = values[own]
    own += np.repeat(lengths, lengths)
    xy[:, 1] = values[own]
    return xy, lengths, strokes


def _numbers(digits: Bytes, other: NDArray[np.bool_]) -> Bytes | None:
    """The number that ends before each byte; None if one is beyond 255 or has a needless zero.

    Args:
        digits: the value of each byte that is a digit.
        other: which bytes are none.
    """
    if len(digits) < 4:
        return None
    inner = ~other
    if (inner[3:] & inner[2:-1] & inner[1:-2] & inner[:-3]).any():
        return None
    if (other[:-2] & (digits[1:-1] == 0) & inner[2:]).any():
        return None
    digits = digits * inner.view(np.uint8)  # of one type: then a processor does many at once
    numbers = np.zeros(len(digits) + 1, np.uint8)
    ones = numbers[1:]
    ones[:] = digits
    ones[1:] += np.uint8(10) * digits[:-1]
    hundreds = digits[:-2] * inner[1:-1].view(np.uint8)
    beyond = (hundreds > 2) | ((hundreds == 2) & (ones[2:] > 55))
    if (beyond & inner[2:]).any():
        return None
    ones[2:] += np.uint8(100) * hundreds
    return numbers


def _strokes(kinds: Bytes, marks: Counts, ends: Counts) -> tuple[Counts, Counts] | None:
    """How the points are shared out; None where brackets or commas are wrong.

    Args:
        kinds: all bytes but digits.
        marks: where they stand.
        ends: where each drawing ends.

    Returns:
        Points in each stroke, strokes in each drawing.
    """
    places = np.flatnonzero(kinds != _COMMA)
    brackets = kinds[places]
    last = np.flatnonzero(brackets == _END)
    if not np.array_equal(marks[places[last]] + 1, ends):
        return None
    # a drawing has three brackets and six for each stroke
    strokes = (np.diff(last, prepend=-1) - 3) // len(_STROKE)
    if strokes.min() < 1:
        return None
    counts = strokes.tolist()
    drawing = {n: b"[" + _STROKE * n + b"]}" for n in set(counts)}
    if brackets.tobytes() != b"".join(map(drawing.__getitem__, counts)):
        return None
    own = np.repeat(np.arange(len(strokes)), strokes)  # drawing of each stroke
    stroke = len(_STROKE) * np.arange(len(own)) + 3 * own + 1
    commas = np.diff(places) - 1  # between a bracket and the next
    points, others, between, behind = (commas[stroke + k] for k in (1, 3, 2, 5))
    behind[np.cumsum(strokes) - 1] += 1  # none behind the last stroke
    if not (np.array_equal(points, others) and (between == 1).all() and (behind == 1).all()):
        return None
    if commas.sum() != 2 * points.sum() + 2 * len(own) - len(strokes):  # and nowhere else
        return None
    points += 1
    if len(marks) > MAX_POINTS and np.add.reduceat(points, starts_of(strokes)).max() > MAX_POINTS:
        return None
    return points, strokes
