"""How well a prediction follows the truth along the noise levels: R2 and rank correlation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EDGES = (0, 20, 50, 100, 200, 350, 550, 800, 1000)  # thousandths of T


@dataclass(frozen=True)
class Fit:
    """How well one kind of input predicts recognizability on held-out drawings.

    Attributes:
        inputs: its name.
        r2, spearman: for each bin of t (``EDGES``), then over all; NaN where nothing varies.
    """

    inputs: str
    r2: tuple[float, ...]
    spearman: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, which knows no NaN."""
        clean = {
            k: [None if np.isnan(v) else round(v, 4) for v in values]
            for k, values in (("r2", self.r2), ("spearman", self.spearman))
        }
        return {"inputs": self.inputs, **clean}


def ranks(values: Floats) -> Floats:
    """Ranks with ties shared, (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's r; NaN where a side does not vary."""
    if len(a) < 3 or np.ptp(a) < 1e-12 or np.ptp(b) < 1e-12:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def along(name: str, guess: Floats, truth: Floats, t: Floats, total: int) -> Fit:
    """R2 and Spearman's rank correlation of ``guess``, per bin of t and over all."""
    place = bins(t, total)
    parts = [place == k for k in range(len(EDGES) - 1)] + [np.ones(len(t), bool)]
    r2 = []
    for part in parts:
        spread = ((truth[part] - truth[part].mean()) ** 2).sum() if part.any() else 0.0
        error = ((truth[part] - guess[part]) ** 2).sum()
        r2.append(float(1 - error / spread) if spread > 1e-9 else float("nan"))
    rho = [correlation(ranks(guess[p]), ranks(truth[p])) for p in parts]
    return Fit(name, tuple(r2), tuple(rho))


def to_text(fits: list[Fit], what: str, n: int) -> str:
    """The table: one row for each input and measure, one column for each bin of t."""
    heads = [f"{a}-{b}" for a, b in pairwise(EDGES)] + ["all"]
    lines = [f"{what} ({n} held-out moments; t in thousandths of T)"]
    lines.append(f"{'input':<10}{'':<10}" + "".join(f"{h:>9}" for h in heads))
    for fit_ in fits:
        for measure, values in (("R2", fit_.r2), ("Spearman", fit_.spearman)):
            cells = "".join(f"{'-' if np.isnan(v) else f'{v:.2f}':>9}" for v in values)
            lines.append(f"{fit_.inputs if measure == 'R2' else '':<10}{measure:<10}{cells}")
    return "\n".join(lines)


def bins(t: Floats, total: int) -> NDArray[np.int64]:
    """Which bin of ``EDGES`` each level falls into, (n,)."""
    return np.digitize(t / total * 1000, EDGES[1:-1])
