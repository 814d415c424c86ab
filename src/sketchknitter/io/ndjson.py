"""QuickDraw ndjson: one drawing per line, simplified ``[xs, ys]`` or raw ``[xs, ys, ts]`` strokes.

Lines come from :mod:`sketchknitter.io.lines` by byte range, so that several processes can share
one file; :func:`parse_block` is the fast way through many of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath, atomic
from sketchknitter.io.lines import iter_line_blocks
from sketchknitter.io.records import (
    MAX_LINE,
    MAX_POINTS,
    MIB,
    BadDrawing,
    Reject,
    as_label,
    digits_for,
    kind_of,
    no_splits,
    read_head,
)
from sketchknitter.sketch import Array, Sketch

TOO_LONG = f"a line longer than {MAX_LINE // MIB} MiB"
NOT_JSON = "not a JSON object (cut short?)"
NO_DRAWING = "no 'drawing' in the object"
EMPTY = "an empty drawing"
BAD_STROKE = "a stroke is not [xs, ys] or [xs, ys, ts] of equal lengths"
BAD_NUMBER = "a coordinate is not a finite number"
BAD_WORD = "'word' is not text"


def check(path: AnyPath) -> None:
    """Refuse a file that cannot be ndjson.

    Raises:
        UserError: missing, empty, or its first character is not that of a JSON object.
    """
    head = read_head(path, 4096)
    if not _text(head).lstrip().startswith(b"{"):
        raise UserError(
            f"{path} is {kind_of(head)}, not ndjson; each line is one JSON object with a 'drawing'"
        )


def _text(head: bytes) -> bytes:
    return head.removeprefix(b"\xef\xbb\xbf")


# -- one line ------------------------------------------------------------------------------------
def load_line(line: bytes) -> dict[str, Any]:
    """One line as a JSON object whose ``drawing`` is a list and whose ``word`` is text or None.

    Raises:
        BadDrawing: it is not.
    """
    try:
        obj = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadDrawing(
            BAD_NUMBER if b"NaN" in line or b"Infinity" in line else NOT_JSON
        ) from None
    if type(obj) is not dict:
        raise BadDrawing(NOT_JSON)
    drawing = obj.get("drawing")
    if type(drawing) is not list:
        raise BadDrawing(NO_DRAWING)
    if not drawing:
        raise BadDrawing(EMPTY)
    word = obj.get("word")
    if word is not None and type(word) is not str:
        raise BadDrawing(BAD_WORD)
    return obj


# -- many drawings at once -----------------------------------------------------------------------
@dataclass(frozen=True)
class Block:
    """Many drawings in flat arrays, for those who cannot afford an object per stroke.

    Args:
        xy: (P, 2) float64 px, all points in drawing order.
        stroke_lengths: (S,) points in each stroke.
        drawing_strokes: (D,) strokes in each drawing.
        words: D labels or None.
        lines: (D,) the index in the block of each drawing's line, from 0.
        rejects: (index in the block, reason) of the lines left out.
    """

    xy: Array
    stroke_lengths: NDArray[np.int64]
    drawing_strokes: NDArray[np.int64]
    words: list[str | None]
    lines: list[int]
    rejects: list[tuple[int, str]]

    @cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        points, strokes = np.cumsum(self.stroke_lengths), np.cumsum(self.drawing_strokes)
        return [0, *points.tolist()], [0, *strokes.tolist()]

    def strokes(self, index: int) -> list[Array]:
        """The strokes of one drawing, (n, 2) views of ``xy``."""
        points, strokes = self._ends
        cuts = points[strokes[index] : strokes[index + 1] + 1]
        return [self.xy[a:b] for a, b in pairwise(cuts)]


class _Flat:
    """Grows flat columns; ``array.fromlist`` converts and checks the numbers in one go."""

    def __init__(self) -> None:
        self.xs, self.ys = array("d"), array("d")
        self.lengths: list[int] = []
        self.counts: list[int] = []

    def take(self, drawing: list[Any]) -> None:
        """Add a drawing, or raise BadDrawing and add nothing."""
        xs, ys, lengths = self.xs, self.ys, self.lengths
        points, strokes = len(xs), len(lengths)
        try:
            for stroke in drawing:
                x, y = stroke[0], stroke[1]
                n = len(x)
                if not n or len(y) != n or type(stroke) is not list:
                    raise BadDrawing(BAD_STROKE)
                if len(stroke) > 2 and (len(stroke) > 3 or len(stroke[2]) != n):
                    raise BadDrawing(BAD_STROKE)
                if type(x) is not list or type(y) is not list:
                    raise BadDrawing(BAD_STROKE)
                xs.fromlist(x)
                ys.fromlist(y)
                lengths.append(n)
            if len(xs) - points > MAX_POINTS:
                raise BadDrawing(f"more than {MAX_POINTS} points")
            if len(lengths) == strokes:
                raise BadDrawing(EMPTY)
        except (TypeError, LookupError, BadDrawing) as fault:
            del xs[points:], ys[points:], lengths[strokes:]
            if isinstance(fault, BadDrawing):
                raise
            numbers = isinstance(fault, TypeError) and "real number" in str(fault)
            raise BadDrawing(BAD_NUMBER if numbers else BAD_STROKE) from None
        self.counts.append(len(lengths) - strokes)

    def block(
        self, words: list[str | None], lines: list[int], rejects: list[tuple[int, str]]
    ) -> Block:
        # JSON knows no NaN and orjson refuses what overflows, so the numbers are finite
        xy = np.empty((len(self.xs), 2))
        xy[:, 0], xy[:, 1] = self.xs, self.ys
        lengths, counts = np.array(self.lengths, np.int64), np.array(self.counts, np.int64)
        return Block(xy, lengths, counts, words, lines, rejects)


def parse_block(lines: Iterable[bytes | None]) -> Block:
    """Parse many lines into one :class:`Block`; blank ones are passed over, None is too long."""
    flat = _Flat()
    words: list[str | None] = []
    kept: list[int] = []
    rejects: list[tuple[int, str]] = []
    for index, line in enumerate(lines):
        try:
            if line is None:
                raise BadDrawing(TOO_LONG)
            obj = load_line(line)
            flat.take(obj["drawing"])
        except BadDrawing as fault:
            if line is None or line.strip():
                rejects.append((index, str(fault)))
            continue
        words.append(obj.get("word"))
        kept.append(index)
    return flat.block(words, kept, rejects)


# -- files ---------------------------------------------------------------------------------------
def read(path: AnyPath, *, split: str | None = None) -> Iterator[Sketch | Reject]:
    """The drawings of an ndjson file (see ``sketchknitter.io.read_counted``); label = ``word``."""
    no_splits(path, split)
    check(path)
    first = 1  # the number of the block's first line
    for at, lines in iter_line_blocks(path):
        if at == 0 and lines[0] is not None:
            lines[0] = _text(lines[0])
        block = parse_block(lines)
        rejects = iter([*block.rejects, (len(lines), "")])
        bad, reason = next(rejects)
        for i, line in enumerate([*block.lines, len(lines)]):
            while bad < line:
                yield Reject(f"line {first + bad}", reason)
                bad, reason = next(rejects)
            if i < len(block.lines):
                yield Sketch(block.strokes(i), as_label(block.words[i]))
        first += len(lines)


# -- writing -------------------------------------------------------------------------------------
def dump(sketch: Sketch, key_id: int | str = 0, decimals: int | None = None) -> bytes:
    """A sketch as one QuickDraw line, newline included; coordinates rounded, whole ones as ints.

    Country and time, which a sketch does not know, are empty.
    """
    if decimals is None:
        decimals = digits_for(sketch.extent) if sketch.num_points else 2
    drawing = []
    for stroke in sketch.strokes:
        points = np.round(stroke, decimals) + 0.0  # no -0.0
        if (points == np.rint(points)).all() and np.abs(points).max() < 2**53:
            drawing.append(points.T.astype(np.int64).tolist())
        else:
            drawing.append(points.T.tolist())
    record = {
        "word": sketch.label or "",
        "countrycode": "",
        "timestamp": "",
        "recognized": True,
        "key_id": str(key_id),
        "drawing": drawing,
    }
    if sketch.label is None:
        del record["word"]
    return orjson.dumps(record) + b"\n"


def write(sketches: Iterable[Sketch], path: AnyPath, *, decimals: int | None = None) -> None:
    """Write drawings as QuickDraw ndjson, as a stream.

    Args:
        sketches: any iterable.
        path: the file.
        decimals: digits kept after the point; None: 2, and more for a drawing below 10 px.
    """
    with atomic(path) as f:
        for i, sketch in enumerate(sketches):
            f.write(dump(sketch, i, decimals))
