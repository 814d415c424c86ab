"""Random streams keyed by what they are for, so that nothing random needs to be stored."""

from __future__ import annotations

import logging
import secrets

import numpy as np


def stream(seed: int, *key: int) -> np.random.Generator:
    """An independent random stream for (seed, key), by counter-based Philox."""
    words = np.random.SeedSequence([seed % 2**64, *(k % 2**32 for k in key)])
    return np.random.Generator(np.random.Philox(words))


def fresh_seed() -> int:
    """A seed that nobody chose, 0 … 2³² − 1, said by the logger ``sketchknitter``."""
    seed = secrets.randbelow(2**32)
    logging.getLogger("sketchknitter").warning("seed %d", seed)
    return seed
