"""What the denoiser is trained for: the squared error at noise levels drawn for each sketch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sketchknitter.data.batch import Batch
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.diffusion.importance import LevelSampler
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.training.objective import Loss, Streams

NOISE, LEVELS, LABELS = 11, 12, 13  # what a random stream is for


class Denoising:
    """The denoiser's loss, with levels in strata over the batch and some labels dropped.

    Args:
        denoiser: what is trained.
        classes: how many; their number means "no label".
        levels: which noise levels are looked at.
        label_dropout: share of drawings trained without their label.
    """

    def __init__(
        self, denoiser: Denoiser, classes: int, levels: LevelSampler, label_dropout: float
    ) -> None:
        self.network, self.classes = denoiser, classes
        self.levels, self.label_dropout = levels, label_dropout

    def drawn_levels(self, streams: Streams) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Levels and loss weights of the drawings of ``streams``, each (b,)."""
        # one draw, in strata over the whole batch, then this part's share
        places, size = streams.whole(LEVELS), streams.size
        uniforms = (places.permutation(size) + places.random(size)) / size
        t, weight = self.levels.draw(uniforms)
        return t[streams.rows], weight[streams.rows]

    def loss(self, batch: Batch, streams: Streams) -> Loss:
        t, weight = self.drawn_levels(streams)
        device, denoiser = batch.xy.device, self.network
        dropped = streams.whole(LABELS).random(streams.size) < self.label_dropout
        label = batch.label.masked_fill(
            torch.from_numpy(dropped[streams.rows]).to(device), self.classes
        )
        width = denoiser.state(batch.xy[:1], batch.pen[:1]).shape[-1]
        n = batch.xy.shape[1]
        lengths = batch.length.tolist() if denoiser.length_given else [n] * len(batch)
        eps = SketchNoise(streams.each(NOISE)).normal(lengths, n, width).to(device)
        out = denoiser.loss(
            batch.xy, batch.pen, batch.mask, label, torch.from_numpy(t).to(device), eps
        )
        return dataclasses.replace(out, weight=torch.from_numpy(weight).to(device, torch.float32))

    # -- the levels learn which of them cost most ------------------------------------------------
    def observe(self, streams: Streams, losses: NDArray[np.float64]) -> None:
        self.levels.observe(self.drawn_levels(streams)[0], losses)

    def state(self) -> Mapping[str, NDArray[Any]]:
        return {f"levels.{k}": v for k, v in self.levels.state().items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        strip = len("levels.")
        self.levels.restore({k[strip:]: v for k, v in state.items()})
