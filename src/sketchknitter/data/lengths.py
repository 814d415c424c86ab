"""How long a new drawing will be: as long as training drawings of its class are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def counts_of(counts: NDArray[Any], label: int) -> NDArray[Any]:
    """How many drawings of a class have each length, (N + 1,).

    A class without training drawings is as long as all of them.

    Args:
        counts: those of every class, (classes + 1, N + 1); the last row counts all drawings.
    """
    return counts[label] if counts[label].any() else counts[-1]


def drawn_length(weights: NDArray[Any], rng: np.random.Generator) -> int:
    """A length, as often as its weight in (N + 1,) says."""
    place = rng.random() * weights.sum()
    return int(np.searchsorted(np.cumsum(weights), place, side="right"))
