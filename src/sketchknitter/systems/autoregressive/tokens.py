"""Stroke-5 rows: (dx, dy, draw, lift, end), the pen one-hot; the two ways to say where it ends.

A drawing of n stroke-3 rows becomes ``length + 1`` rows: the start (0, 0, 1, 0, 0), the points,
then (0, 0, 0, 0, 1) up to the end. The decoder reads rows 0 … length - 1 and predicts rows
1 … length. What differs is the last point:

========= ============================ =====================================================
end       last point's pen             a sample ends
========= ============================ =====================================================
``row``   lift, as in the data         before the row that says end (SketchRNN, SketchPix2seq)
``point`` end                          with the row that says end (SketchHealer)
========= ============================ =====================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.sketch import Sketch

End = Literal["row", "point"]
START = (0.0, 0.0, 1.0, 0.0, 0.0)
DRAW, LIFT, END = 2, 3, 4  # columns
LARGEST_OFFSET = 1000.0  # px; magenta and SketchHealer clamp what is larger


def to_tokens(rows: Sequence[NDArray[Any]], length: int, scale: float, end: End = "row") -> Tensor:
    """Stroke-3 drawings (n, 3) in px, n <= length, as stroke-5 rows, (B, length + 1, 5) float32.

    Args:
        length: rows the decoder predicts.
        scale: px of one model unit.
    """
    out = np.zeros((len(rows), length + 1, 5), dtype=np.float32)
    out[:, 0] = START
    out[:, 1:, END] = 1
    for tokens, drawing in zip(out, rows, strict=True):
        n = len(drawing)
        at = tokens[1 : n + 1]
        at[:, :2] = np.clip(drawing[:, :2], -LARGEST_OFFSET, LARGEST_OFFSET) / scale
        at[:, LIFT] = drawing[:, 2] > 0.5
        at[:, DRAW] = 1 - at[:, LIFT]
        at[:, END] = 0
        if end == "point":
            at[-1, DRAW:] = (0, 0, 1)
    return torch.from_numpy(out)


def to_rows(tokens: NDArray[Any], scale: float, end: End = "row") -> NDArray[np.float64]:
    """Stroke-3 rows (n, 3) in px of stroke-5 rows (m, 5) without a start, cut at the first end."""
    tokens = np.asarray(tokens, dtype=np.float64)
    ends = np.flatnonzero(tokens[:, END] > 0.5)
    if len(ends):
        tokens = tokens[: ends[0] + (end == "point")]
    lift = (tokens[:, LIFT] > 0.5) | (tokens[:, END] > 0.5)
    if len(lift):
        lift[-1] = True
    return np.column_stack([tokens[:, :2] * scale, lift])


def to_sketch(
    rows: NDArray[Any], label: str | None = None, origin: Sequence[float] = (0.0, 0.0)
) -> Sketch:
    """The drawing of stroke-3 rows; without rows, a dot at the origin, so that there is ink."""
    if not len(rows):
        return Sketch([[tuple(origin)]], label)
    return Sketch.from_stroke3(rows, label, origin)


def real_rows(tokens: Tensor, end: End = "row") -> Tensor:
    """Which of the predicted rows (B, L, 5) are points of the drawing, (B, L) bool."""
    ended = tokens[..., END] > 0.5
    if end == "row":
        return ~ended
    # the last point says end itself; every row after it does so again
    before = torch.zeros_like(ended)
    before[:, 1:] = ended[:, :-1]
    return ~before
