"""What the denoiser is trained for: the squared error at noise levels drawn for each sketch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.data.batch import Batch
from sketchknitter.data.conditions import ConditionedBatch, length_groups
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.diffusion.importance import LevelSampler
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.seeds import Stream
from sketchknitter.training.objective import Loss, Streams


class Denoising:
    """The denoiser's loss, with levels in strata over the batch and some labels dropped.

    Attributes:
        network: what is trained: the denoiser, and in a subclass what is trained with it.

    Args:
        denoiser: whose loss it is.
        classes: how many; their number means "no label".
        levels: which noise levels are looked at.
        label_dropout: share of drawings trained without their label.
    """

    def __init__(
        self, denoiser: Denoiser, classes: int, levels: LevelSampler, label_dropout: float
    ) -> None:
        self.network: nn.Module = denoiser
        self.denoiser, self.classes = denoiser, classes
        self.levels, self.label_dropout = levels, label_dropout

    def drawn_levels(self, streams: Streams) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Levels and loss weights of the drawings of ``streams``, each (b,)."""
        # one draw, in strata over the whole batch, then this part's share
        places, size = streams.whole(Stream.LEVEL), streams.size
        uniforms = (places.permutation(size) + places.random(size)) / size
        t, weight = self.levels.draw(uniforms)
        return t[streams.rows], weight[streams.rows]

    def dropped_labels(self, batch: Batch, streams: Streams, share: float | Tensor) -> Tensor:
        """Labels (b,), those of about ``share`` of the drawings replaced by "no label"."""
        rng = streams.whole(Stream.LABEL_DROP)
        places = torch.from_numpy(rng.random(streams.size)[streams.rows])
        return batch.label.masked_fill((places < share).to(batch.label.device), self.classes)

    def loss(self, batch: Batch, streams: Streams) -> Loss:
        t, weight = self.drawn_levels(streams)
        device, denoiser = batch.xy.device, self.denoiser
        label = self.dropped_labels(batch, streams, self.label_dropout)
        width = denoiser.state(batch.xy[:1], batch.pen[:1]).shape[-1]
        n = batch.xy.shape[1]
        lengths = batch.length.tolist() if denoiser.length_given else [n] * len(batch)
        eps = SketchNoise(streams.each(Stream.NOISE)).normal(lengths, n, width).to(device)
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


class ConditionalDenoising(Denoising):
    """:class:`Denoising` of drawings of which something may be seen.

    Only what is not known counts, and where something is seen labels are dropped more often: what a
    person has drawn seldom comes with its name.
    """

    seen_dropout = 0.4  # share of drawings seen in part that are trained without their label

    def loss(self, batch: ConditionedBatch, streams: Streams) -> Loss:  # type: ignore[override]
        own, device = batch.batch, batch.free.device
        levels, weight = self.drawn_levels(streams)
        share = torch.where(batch.plain.cpu(), self.label_dropout, self.seen_dropout)
        label = self.dropped_labels(own, streams, share)
        t = torch.from_numpy(levels).to(device)
        lengths = own.length.cpu().numpy()
        n, width = batch.free.shape[1:]
        eps = SketchNoise(streams.each(Stream.NOISE)).normal(lengths.tolist(), n, width).to(device)
        parts, order = [], []
        for group in length_groups(lengths):
            rows = torch.from_numpy(group).to(device)
            points = int(lengths[group].max())
            part = batch[rows].narrowed(points)
            mine = dataclasses.replace(streams, rows=streams.rows[group])
            parts.append(self.part_loss(part, label[rows], t[rows], eps[rows, :points], mine))
            order.append(rows)
        back = torch.argsort(torch.cat(order))
        return Loss(
            torch.cat([p.total for p in parts])[back],
            torch.cat([p.count for p in parts])[back],
            torch.from_numpy(weight).to(device, torch.float32),
        )

    def part_loss(
        self, part: ConditionedBatch, label: Tensor, t: Tensor, eps: Tensor, streams: Streams
    ) -> Loss:
        """The loss of drawings of similar length, noised by ``eps`` (b, N, D) to levels ``t`` (b,)
        and shown as ``label`` (b,)."""
        own = part.batch
        return self.denoiser.loss(
            own.xy, own.pen, own.mask, label, t, eps, part.condition, part.free
        )
