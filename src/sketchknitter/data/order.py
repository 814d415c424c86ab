"""Numbers in random order, without a list of them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WHOLE = 1 << 20  # so many numbers may be shuffled in memory
_ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of SplitMix64


@dataclass(frozen=True)
class Permutation:
    """The numbers below ``count`` in random order, any part of it in constant memory.

    A Feistel network over the next power of four, walked on until it falls below ``count`` (Black
    and Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Attributes:
        count: how many numbers, >= 1.
        keys: of the rounds, random uint64.
    """

    count: int
    keys: NDArray[np.uint64]

    @classmethod
    def random(cls, count: int, rng: np.random.Generator) -> Permutation:
        """One of them."""
        return cls(count, rng.integers(0, 2**64, _ROUNDS, dtype=np.uint64))

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers at ``places``, each below ``count``."""
        out = self._cipher(places.astype(np.uint64))
        while (beyond := out >= self.count).any():
            out[beyond] = self._cipher(out[beyond])
        return out.astype(np.int64)

    def _cipher(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        bits = np.uint64(max(1, -(-(self.count - 1).bit_length() // 2)))
        mask = (np.uint64(1) << bits) - np.uint64(1)
        left, right = values >> bits, values & mask
        for key in self.keys:
            mixed = right + key
            for shift, factor in zip((30, 27), _MIX, strict=True):
                mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & mask)
        return (left << bits) | right


def some(rng: np.random.Generator, count: int, limit: int) -> NDArray[np.int64]:
    """Up to ``limit`` different numbers below ``count``, in random order."""
    if count <= WHOLE:
        return rng.permutation(count)[:limit]
    return rng.choice(count, limit, replace=False)
