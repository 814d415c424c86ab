"""Thousands of drawings at once, from what a reader yields to the rows that go to disk.

On the way from ndjson everything happens in flat arrays: no object is made for a drawing.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.dataset import SPLITS
from sketchknitter.data.flat import (
    MAX_COORDINATE,
    Flat,
    merge_rows,
    of_block,
    of_rows,
    of_sketches,
    where,
)
from sketchknitter.data.simplified import parse_simplified
from sketchknitter.geometry import Counts
from sketchknitter.io.ndjson import EMPTY, Block, load_line, parse_block
from sketchknitter.io.npz import Rows
from sketchknitter.io.records import Reject, as_label
from sketchknitter.sketch import Sketch

Simplify = Literal["auto", "always", "never"]

MAX_EXAMPLES = 20  # rejects whose place is kept, for each chunk and for each set
FOREIGN_SHARE = 0.1  # of drawings not in QuickDraw's form, from which on a file is not either
TOO_FAR = "a coordinate is beyond ±1e9"


@dataclass(frozen=True)
class Recipe:
    """How drawings are made ready for training."""

    simplify: Simplify = "auto"
    """QuickDraw's simplification: auto (timed strokes, SVG, and files not in whole numbers within
    256 px), always or never"""
    max_points: int = 96
    """longest drawing kept, in stroke-3 rows; 0 keeps all"""
    clamp: int = 1000
    """largest offset between two points, px; 0 leaves them"""
    split: tuple[float, float, float] = (90.0, 5.0, 5.0)
    """shares of train, valid and test, decided by a hash of each drawing; sketch-rnn archives
    keep their own splits"""
    label: str | None = None
    """class of drawings that name none"""


AS_IT_IS = Recipe(simplify="never", max_points=0, clamp=0)


@dataclass
class Chunk:
    """Drawings ready to be written, and what became of the others.

    Attributes:
        rows: stroke-3 rows of all drawings, (M, 3); int16 where all are whole, else float32.
        lengths: (n,) rows of each drawing.
        splits: (n,) index into train, valid, test.
        labels: (n,) index into ``words``.
        words: class names; None where a drawing names none.
        rejects: how many drawings were left out, by reason.
        examples: where the first few of them stand: (line in the chunk from 0, or words; reason).
        lines: how many lines of ndjson the chunk was.
    """

    rows: NDArray[Any]
    lengths: Counts
    splits: NDArray[np.int8]
    labels: NDArray[np.int32]
    words: list[str | None]
    rejects: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int | str, str]] = field(default_factory=list)
    lines: int = 0

    def __len__(self) -> int:
        return len(self.lengths)


# -- from the readers --------------------------------------------------------------------------
def from_lines(lines: Sequence[bytes | None], recipe: Recipe, foreign: bool) -> Chunk:
    """The drawings of a block of ndjson lines.

    Args:
        lines: without newlines; None is a line that was too long.
        recipe: what to do with them.
        foreign: drawings without times are not in QuickDraw's form either (:func:`is_foreign`).
    """
    if not foreign and recipe.simplify != "always" and (quick := parse_simplified(lines)):
        chunk = _finish(quick, quick.rows(), recipe)
    else:
        block = parse_block(lines)
        rough = timed_drawings(block, lines) if recipe.simplify == "auto" else None
        chunk = _chunk(of_block(block), recipe, foreign, rough)
        _count(chunk, block.rejects)
    chunk.lines = len(lines)
    return chunk


def from_items(
    items: Sequence[Rows | Sketch | Reject], first: int, recipe: Recipe, foreign: bool
) -> Chunk:
    """The drawings that a reader yielded one by one; ``first`` is the number of the first."""
    bad: list[tuple[int | str, str]] = []
    good: list[Rows] = []
    sketches: list[Sketch] = []
    places: list[str] = []
    for number, item in enumerate(items, first):
        if isinstance(item, Reject):
            bad.append((item.position, item.reason))
        elif isinstance(item, Rows):
            if np.abs(item.rows).max() > MAX_COORDINATE:  # before they are added up
                bad.append((item.position, TOO_FAR))
            else:
                good.append(item)
        elif not item.num_points:
            bad.append((f"drawing {number}", EMPTY))
        else:
            sketches.append(item)
            places.append(f"drawing {number}")
    chunk = empty_chunk()
    if good:
        splits = [-1 if r.split is None else SPLITS.index(r.split) for r in good]
        chunk = _chunk(of_rows(good), recipe, foreign, splits=np.array(splits, np.int8))
    elif sketches:
        chunk = _chunk(of_sketches(sketches, places), recipe, foreign)
    _count(chunk, bad)
    return chunk


def empty_chunk() -> Chunk:
    """A chunk without drawings."""
    none = np.zeros(0, np.int64)
    return Chunk(np.zeros((0, 3), np.int16), none, none.astype(np.int8), none.astype(np.int32), [])


def _count(chunk: Chunk, bad: Sequence[tuple[int | str, str]]) -> None:
    chunk.rejects.update(reason for _, reason in bad)
    chunk.examples = (chunk.examples + list(bad))[:MAX_EXAMPLES]


# -- which drawings need simplifying -----------------------------------------------------------
def is_foreign(drawings: Flat) -> bool:
    """Whether drawings are in another form than QuickDraw's simplified one.

    Its drawings have whole coordinates within 256 px; a tenth of the drawings may differ.
    """
    unlike = drawings.unlike_quickdraw()[~drawings.far()]
    return bool(len(unlike)) and float(unlike.mean()) > FOREIGN_SHARE


def items_foreign(items: Sequence[Rows | Sketch | Reject]) -> bool:
    """:func:`is_foreign` of what a reader yielded."""
    rows = [i for i in items if isinstance(i, Rows) and np.abs(i.rows).max() <= MAX_COORDINATE]
    sketches = [i for i in items if isinstance(i, Sketch) and i.num_points]
    if rows:
        return is_foreign(of_rows(rows))
    return bool(sketches) and is_foreign(of_sketches(sketches, [""] * len(sketches)))


def timed_drawings(block: Block, lines: Sequence[bytes | None]) -> NDArray[np.bool_]:
    """Which drawings of a block have strokes with a time column: raw ones, (D,).

    A drawing of S strokes without times opens 3 S + 1 brackets; only other counts are parsed again.
    """
    out = np.zeros(len(block.lines), dtype=bool)
    for i, (line, strokes) in enumerate(zip(block.lines, block.drawing_strokes, strict=True)):
        text = lines[line] or b""
        if text.count(b"[") != 3 * strokes + 1:
            out[i] = any(len(s) > 2 for s in load_line(text)["drawing"])
    return out


def _chunk(
    drawings: Flat,
    recipe: Recipe,
    foreign: bool,
    timed: NDArray[np.bool_] | None = None,
    splits: NDArray[np.int8] | None = None,
) -> Chunk:
    """Simplify what needs it, then filter."""
    bad: list[tuple[int | str, str]] = []
    if (far := drawings.far()).any():
        bad = [(drawings.places[i], TOO_FAR) for i in np.flatnonzero(far).tolist()]
        drawings = drawings.pick(~far)
        timed = None if timed is None else timed[~far]
        splits = None if splits is None else splits[~far]
    chunk = empty_chunk()
    if len(drawings):
        rough = np.full(len(drawings), recipe.simplify == "always" or foreign)
        if recipe.simplify == "never":
            rough[:] = False
        elif not rough.all():
            rough |= drawings.unlike_quickdraw()
            rough |= False if timed is None else timed
        chunk = _finish(drawings, _rows(drawings, rough), recipe, splits)
    _count(chunk, bad)
    return chunk


def _rows(drawings: Flat, rough: NDArray[np.bool_]) -> tuple[NDArray[Any], Counts]:
    if not rough.any():
        return drawings.rows()
    if rough.all():
        return drawings.simplified().rows()
    simplified = drawings.pick(rough).simplified()
    return merge_rows(simplified.rows(), drawings.pick(~rough).rows(), rough)


# -- filters -----------------------------------------------------------------------------------
def _finish(
    drawings: Flat,
    made: tuple[NDArray[Any], Counts],
    recipe: Recipe,
    splits: NDArray[np.int8] | None = None,
) -> Chunk:
    """Drop what is too long, clamp, choose the split; -1 and None are splits yet to be chosen."""
    rows, lengths = made
    words = drawings.words
    splits = np.full(len(lengths), -1, np.int8) if splits is None else splits
    bad: list[tuple[int | str, str]] = []
    if recipe.max_points and (long := lengths > recipe.max_points).any():
        reason = f"longer than {recipe.max_points} rows"
        bad = [(drawings.places[i], reason) for i in np.flatnonzero(long).tolist()]
        rows, keep = where(rows, np.repeat(~long, lengths)), ~long
        words = [words[i] for i in np.flatnonzero(keep).tolist()]
        lengths, splits = lengths[keep], splits[keep]
    if recipe.clamp and len(rows) and max(rows.max(), -float(rows.min())) > recipe.clamp:
        np.clip(rows[:, :2], -recipe.clamp, recipe.clamp, out=rows[:, :2])
    index: dict[str | None, int] = {}
    labels = {
        w: index.setdefault(as_label(w) or recipe.label, len(index)) for w in dict.fromkeys(words)
    }
    rows = _narrow(rows)
    chunk = Chunk(
        rows,
        lengths,
        _choose_splits(rows, lengths, splits, recipe.split),
        np.fromiter(map(labels.__getitem__, words), np.int32, len(words)),
        list(index),
    )
    _count(chunk, bad)
    return chunk


def _narrow(rows: NDArray[Any]) -> NDArray[Any]:
    """As int16 where that loses nothing, else as float32."""
    if rows.dtype == np.int16:
        return rows
    single = rows.astype(np.float32) + np.float32(0)  # adding 0 makes -0 a 0
    if len(rows) and np.abs(single).max() >= 2**15:
        return single
    whole = single.astype(np.int16)
    return whole if np.array_equal(whole, single) else single


def _choose_splits(
    rows: NDArray[Any],
    lengths: Counts,
    splits: NDArray[np.int8],
    shares: tuple[float, float, float],
) -> NDArray[np.int8]:
    """Splits of those that have none yet, by a hash of content: equal drawings stay together."""
    if not (splits < 0).any():
        return splits
    if rows.dtype == np.int16:
        content, ends = rows.tobytes(), (np.cumsum(lengths) * 3 * rows.itemsize).tolist()
        hashes = [zlib.crc32(content[a:b]) for a, b in pairwise([0, *ends])]
    else:  # a drawing's hash does not depend on whether its neighbors are whole
        ends = np.cumsum(lengths).tolist()
        hashes = [zlib.crc32(_narrow(rows[a:b]).tobytes()) for a, b in pairwise([0, *ends])]
    limits = np.cumsum(shares) / sum(shares) * 2**32
    chosen = np.searchsorted(limits[:2], np.array(hashes, np.float64), side="right")
    return np.where(splits < 0, chosen, splits).astype(np.int8)
