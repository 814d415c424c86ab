"""A few drawings at random, out of anything that holds drawings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.chunks import AS_IT_IS, Chunk
from sketchknitter.data.dataset import SPLITS, AnyPath, PreparedSet, is_prepared
from sketchknitter.data.sources import find_sources, read_tasks, tasks_for
from sketchknitter.errors import UserError
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch


def pick(
    sources: Sequence[AnyPath],
    count: int,
    *,
    label: str | None = None,
    split: str | None = None,
    seed: int = 0,
) -> list[Sketch]:
    """``count`` drawings (or all there are), each equally likely, in random order.

    Args:
        sources: one prepared set, or files and folders of drawings.
        count: how many, >= 1.
        label: only this class.
        split: only ``train``, ``valid`` or ``test``.
        seed: of the choice.

    Raises:
        UserError: nothing readable there, or no such drawing.
    """
    rng = stream(seed, Stream.PICK)
    if len(sources) == 1 and is_prepared(sources[0]):
        found = _from_prepared(PreparedSet.open(sources[0]), count, label, split, rng)
    else:
        found = _from_files(sources, count, label, split, rng)
    if not found:
        what = f"of class {label!r} " if label else ""
        raise UserError(f"{sources[0]}: no drawing {what}there{f' in {split}' if split else ''}")
    return found


def _from_prepared(
    data: PreparedSet,
    count: int,
    label: str | None,
    split: str | None,
    rng: np.random.Generator,
) -> list[Sketch]:
    data = data.select([label]) if label else data
    names = [split] if split else list(SPLITS)
    places = [(name, i) for name in names for i in range(len(data.split(name)))]
    chosen = rng.permutation(len(places))[:count]
    return [data.split(name).sketch(i) for name, i in (places[k] for k in chosen)]


def _from_files(
    sources: Sequence[AnyPath],
    count: int,
    label: str | None,
    split: str | None,
    rng: np.random.Generator,
) -> list[Sketch]:
    """Every drawing gets a random key; the smallest ``count`` stay: one pass, little memory."""
    tasks = list(tasks_for(find_sources(sources), AS_IT_IS))
    best: list[tuple[float, Sketch]] = []
    for _, chunk in read_tasks(tasks, AS_IT_IS):
        if chunk is None:
            continue
        keys = rng.random(len(chunk))
        wanted = np.flatnonzero(_wanted(chunk, label, split))
        limit = best[-1][0] if len(best) >= count else 1.0
        starts = np.cumsum(chunk.lengths) - chunk.lengths
        for i in wanted[np.argsort(keys[wanted])][:count].tolist():
            if keys[i] >= limit:
                break
            rows = chunk.rows[starts[i] : starts[i] + chunk.lengths[i]]
            best.append((float(keys[i]), Sketch.from_stroke3(rows, chunk.words[chunk.labels[i]])))
        best = sorted(best, key=lambda pair: pair[0])[:count]
    return [sketch for _, sketch in best]


def _wanted(chunk: Chunk, label: str | None, split: str | None) -> NDArray[np.bool_]:
    known = np.array([label is None or w == label for w in chunk.words], dtype=bool)
    out = known[chunk.labels] if len(chunk) else np.zeros(0, dtype=bool)
    return out if split is None else out & (chunk.splits == SPLITS.index(split))
