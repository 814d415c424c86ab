"""Table 1 of the SketchKnitter paper (ICLR 2023), read from a picture in its repository.

Its FID is on Inception features of 256 px renderings and its Geometry Score is printed times 1000,
it seems; no figure of it can be compared with ours in absolute value.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FOLD_NAMES = ("Simple", "Moderate", "Complex")
NAMES = ("fid_sketch", "geometry_score", "precision", "recall")  # in the order of each cell


@cache
def rows() -> dict[str, dict[str, Any]]:
    """Row to ``seconds`` per sketch and the four scores of each fold."""
    path = Path(__file__).with_name("published.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def seconds(row: str) -> float | None:
    """Published seconds per sketch; None where the paper has no such row."""
    return rows()[row]["seconds"] if row in rows() else None


def figure(row: str, metric: str, folds: tuple[str, ...]) -> float | None:
    """A published figure, averaged over ``folds``; None where the paper has none."""
    if row not in rows() or metric not in NAMES or not folds:
        return None
    cells = [rows()[row][fold][NAMES.index(metric)] for fold in folds]
    return sum(cells) / len(cells)
