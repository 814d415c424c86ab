"""Does our table put the systems in the published order? Rank correlations and disagreements."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.seeds import Stream, stream

EXACT = 7  # systems up to which all orders are tried
DRAWS = 20_000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Disagreement:
    """A pair of rows that stands the other way round in the paper."""

    first: str
    second: str
    ours: tuple[float, float]
    theirs: tuple[float, float]
    spread: float | None

    @property
    def clear(self) -> bool:
        """Whether our difference exceeds twice its spread over seeds."""
        gap = abs(self.ours[0] - self.ours[1])
        return self.spread is not None and gap > 2 * self.spread


@dataclass(frozen=True)
class Agreement:
    """How two orders of n systems agree.

    Attributes:
        spearman, kendall: rank correlations, -1 … 1.
        p: share of all orders whose Spearman correlation is at least as high.
    """

    n: int
    spearman: float
    kendall: float
    p: float
    disagreements: tuple[Disagreement, ...]


def ranks(values: ArrayLike) -> Array:
    """Ranks from 1; equal values share the mean of theirs."""
    v = np.asarray(values, dtype=np.float64)
    return ((v[:, None] > v[None]).sum(1) + (v[:, None] >= v[None]).sum(1) + 1) / 2


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of ranks; 0 where one side does not vary."""
    a, b = ranks(x) - ranks(x).mean(), ranks(y) - ranks(y).mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm else 0.0


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Tau-b (Kendall 1945): concordant minus discordant pairs, corrected for ties."""
    a, b = np.asarray(x, float), np.asarray(y, float)
    upper = np.triu_indices(len(a), 1)
    signs = [np.sign(v[:, None] - v[None])[upper] for v in (a, b)]
    norm = float(np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum()))
    return float((signs[0] * signs[1]).sum()) / norm if norm else 0.0


def compare(
    names: list[str],
    ours: list[float],
    theirs: list[float],
    spreads: list[float | None] | None = None,
) -> Agreement:
    """Agreement of two lists of figures for the same systems.

    Args:
        spreads: standard deviation of each of ours over sampling seeds.
    """
    rho = spearman(ours, theirs)
    spreads = spreads or [None] * len(names)
    found = []
    for i, j in combinations(range(len(names)), 2):
        if (ours[i] - ours[j]) * (theirs[i] - theirs[j]) < 0:
            known = [s for s in (spreads[i], spreads[j]) if s is not None]
            spread = float(np.sqrt(sum(s**2 for s in known))) if known else None
            found.append(
                Disagreement(names[i], names[j], (ours[i], ours[j]), (theirs[i], theirs[j]), spread)
            )
    return Agreement(len(names), rho, kendall(ours, theirs), _chance(ours, theirs), tuple(found))


def _chance(ours: list[float], theirs: list[float]) -> float:
    """Share of orders that agree at least as well."""
    x, y = ranks(ours), ranks(theirs)
    if len(x) <= EXACT:
        orders = np.array(list(permutations(range(len(x)))))
    else:
        rng = stream(0, Stream.RANK)
        orders = np.array([rng.permutation(len(x)) for _ in range(DRAWS)])
    products = (x[orders] * y[None]).sum(1)
    return float((products >= float((x * y).sum()) - 1e-9).mean())
