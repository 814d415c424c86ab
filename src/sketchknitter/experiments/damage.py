"""What the conditional protocols do to clean drawings before they are healed or completed.

Deformation is Gaussian noise on every point, its standard deviation a share of the drawing's longer
side; masking is SketchHealer's (patches of a grid are blanked, Su et al. 2020); cutting takes the
last points away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sketchknitter.errors import UserError
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch

Array = NDArray[np.float64]

PATCHES = 8  # a side of the masks' grid
KINDS = ("deformed", "masked", "cut")


def read(text: str, where: str = "damage") -> tuple[str, int]:
    """("masked", 30) of "masked 30".

    Raises:
        UserError: not a kind of damage and a percentage.
    """
    kind, _, percent = text.partition(" ")
    if kind not in KINDS or not percent.isdigit() or not 0 < int(percent) < 100:
        raise UserError(
            f"{where} = {text!r}: one of {', '.join(KINDS)} and a percentage between 0 and 100, "
            "such as 'cut 50'"
        )
    return kind, int(percent)


def damaged(sketches: Sequence[Sketch], damage: str, seed: int) -> list[Sketch]:
    """Each drawing damaged, without its label; one of which nothing is left stays as it is."""
    kind, percent = read(damage)
    share = percent / 100
    out = []
    for i, sketch in enumerate(sketches):
        if kind == "deformed":
            bad = deformed(sketch, share, stream(seed, Stream.DEFORMATION, percent, i))
        elif kind == "masked":
            bad = masked(sketch, share, stream(seed, Stream.MASKING, percent, i))
        else:
            bad = cut(sketch, share)
        out.append(bad if bad.num_points > 2 else sketch.with_label(None))
    return out


def deformed(sketch: Sketch, level: float, rng: np.random.Generator) -> Sketch:
    """Every point moved by Gaussian noise of ``level`` times the longer side; no label."""
    spread = level * sketch.extent
    return Sketch([s + rng.normal(0.0, spread, s.shape) for s in sketch.strokes])


def masked(sketch: Sketch, share: float, rng: np.random.Generator) -> Sketch:
    """Without the points in a share of the inked cells of a grid over the box; no label.

    Strokes break where points are gone; pieces of a single point go as well.
    """
    low = np.array(sketch.bounds[:2])
    cell = np.minimum(((sketch.points - low) / sketch.extent * PATCHES).astype(int), PATCHES - 1)
    number = cell[:, 0] * PATCHES + cell[:, 1]
    inked = np.unique(number)
    blank = rng.choice(inked, max(1, round(share * len(inked))), replace=False)
    gone = np.isin(number, blank)
    pieces: list[Array] = []
    start = 0
    for stroke in sketch.strokes:
        here = gone[start : start + len(stroke)]
        start += len(stroke)
        runs = np.split(np.arange(len(stroke)), np.flatnonzero(np.diff(here)) + 1)
        pieces += [stroke[run] for run in runs if len(run) > 1 and not here[run[0]]]
    return Sketch(pieces)


def cut(sketch: Sketch, share: float) -> Sketch:
    """Without the last ``share`` of its points; no label."""
    left = round(sketch.num_points * (1 - share))
    pieces = []
    for stroke in sketch.strokes:
        if left > 1:
            pieces.append(stroke[:left])
        left -= len(stroke)
    return Sketch(pieces)
