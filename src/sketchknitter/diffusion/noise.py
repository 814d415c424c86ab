"""Noise keyed by what it is for: the same sketch gets the same noise in any batch, on any rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sketchknitter.seeds import Stream, stream


class SketchNoise:
    """Gaussian noise for a batch, one stream for each sketch.

    Args:
        streams: one generator for each row of the batch.
    """

    def __init__(self, streams: Sequence[np.random.Generator]) -> None:
        self.streams = list(streams)

    @classmethod
    def keyed(cls, seed: int, indices: Sequence[int]) -> SketchNoise:
        """Streams for the new drawings ``indices`` of the run ``seed``."""
        return cls([stream(seed, Stream.DRAWING, i) for i in indices])

    def normal(self, lengths: Sequence[int], width: int, channels: int) -> Tensor:
        """Standard normal (B, width, channels) float32.

        Row b draws for its own ``lengths[b]`` points only, so its numbers do not depend on how far
        the batch is padded; the padding is zero.
        """
        out = np.zeros((len(self.streams), width, channels), dtype=np.float32)
        for row, rng, n in zip(out, self.streams, lengths, strict=True):
            row[:n] = rng.standard_normal((int(n), channels), dtype=np.float32)
        return torch.from_numpy(out)
