"""The field's row formats (stroke-3, stroke-5, the original scripts' logits) to stroke-3."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchknitter.io.records import MAX_POINTS, BadDrawing

COLUMNS = (3, 4, 5)


def to_stroke3(rows: Any) -> NDArray[Any]:
    """Rows of any known format as stroke-3 rows (dx, dy, lift), padding removed.

    3 columns are stroke-3; 4 are (dx, dy, logit "stay down", logit "lift") as the original
    SketchKnitter scripts save them, so the larger logit picks the pen; 5 are stroke-5
    (dx, dy, down, lift, end), read up to the first end (Ha & Eck 2017).

    Args:
        rows: (n, 3 | 4 | 5) numbers.

    Returns:
        (m, 3), m <= n, in the dtype given for stroke-3, else float64.

    Raises:
        BadDrawing: a wrong shape, a value that is not finite, a pen that is not 0 or 1, no rows.
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] not in COLUMNS or rows.dtype.kind not in "iufb":
        raise BadDrawing("a drawing is an (n, 3), (n, 4) or (n, 5) array of numbers")
    if len(rows) > MAX_POINTS:
        raise BadDrawing(f"more than {MAX_POINTS} points")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise BadDrawing("a value is not finite")
    if rows.shape[1] == 5:
        rows = _from_stroke5(rows)
    else:
        rows = _without_padding(rows)
        if rows.shape[1] == 4:
            rows = np.column_stack([rows[:, :2], rows[:, 3] > rows[:, 2]])
    if not len(rows):
        raise BadDrawing("an empty drawing")
    pen = rows[:, 2]
    if not ((pen == 0) | (pen == 1)).all():
        raise BadDrawing("a pen state is neither 0 nor 1")
    return rows


def _without_padding(rows: NDArray[Any]) -> NDArray[Any]:
    """Without the all-zero rows at the end that fixed arrays are filled up with."""
    if len(rows) and rows[-1].any():
        return rows
    used = np.flatnonzero(rows.any(axis=1))
    return rows[: used[-1] + 1] if len(used) else rows[:0]


def _from_stroke5(rows: NDArray[Any]) -> NDArray[Any]:
    pens = rows[:, 2:]
    ends = np.flatnonzero((pens[:, 2] >= pens[:, :2].max(axis=1)) & (pens[:, 2] > 0))
    if len(ends):
        rows = rows[: ends[0]]
    rows = _without_padding(rows)
    if len(rows) > 1 and np.array_equal(rows[0], [0, 0, 1, 0, 0]):
        rows = rows[1:]  # sketch-rnn's start token: no ink
    return np.column_stack([rows[:, :2], rows[:, 3] > rows[:, 2]])
