"""What makes a rival itself: encoder, conventions, course of learning; all else is shared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.data.stretch import Stretch
from sketchknitter.errors import UserError
from sketchknitter.systems.autoregressive.model import Divergence, Rate, Sizes, StrokeModel
from sketchknitter.systems.autoregressive.tokens import End, real_rows, to_tokens
from sketchknitter.systems.contract import Task
from sketchknitter.training.optimizers import cosine_over_share

S = TypeVar("S", bound=Sizes)
Rows = Sequence[NDArray[Any]]
Prior = Literal["normal", "mixture", "none"]


@dataclass(frozen=True)
class Design(Generic[S]):
    """One system of the family.

    Attributes:
        name: of the system.
        sizes: of its network.
        build: (sizes, classes) -> a fresh network.
        view: what the encoder sees: (stroke-3 drawings in px, the decoder's rows (B, L + 1, 5),
            px of a model unit, which patches are masked, (B, m) or None) -> tensors.
        prior: where codes come from: N(0, I), a mixture fitted to codes, or there are none.
        tasks: what it can do.
        end: where a drawing's end is said.
        floor, pen_floor: added to probabilities inside the loss's logarithms.
        convention: what a temperature does.
        temperatures: tried on validation drawings.
        rate: learning rate by update.
        divergence: the KL term; None leaves it out.
        clip: each element of the gradient to ±1 ("value"), or the norms of encoder and decoder
            to 1 each ("norm").
        augment: changes rows that are learned; None leaves them.
        augment_view: the encoder sees the changed drawing, not the one of the data.
        pens_in_scale: the divisor of offsets is that of all numbers of the rows.
        batch_size: drawings of an update.
        label_dropout: share of drawings learned from without their class, so that a drawing of
            unknown class can be encoded and decoded.
        trimmed: leave out rows beyond the end of all drawings of a batch.
        updates: of a training as published; the KL term's course was made for them.
        squeezed: run through that course in however many updates there are, and let the learning
            rate fall as a cosine: the published exponential, squeezed, would spend most of a short
            training at rates that move nothing.
    """

    name: str
    sizes: S
    build: Callable[[S, int], StrokeModel]
    view: Callable[[Rows, Tensor, float, NDArray[Any] | None], tuple[Tensor, ...]]
    prior: Prior
    tasks: tuple[Task, ...]
    end: End = "row"
    floor: float = 1e-6
    pen_floor: float = 0.0
    convention: str = "magenta"
    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    rate: Rate = dataclasses.field(default_factory=Rate)
    divergence: Divergence | None = None
    clip: Literal["value", "norm"] = "value"
    augment: Stretch | None = dataclasses.field(default_factory=Stretch)
    augment_view: bool = True
    pens_in_scale: bool = False
    batch_size: int = 100
    label_dropout: float = 0.1
    trimmed: bool = False
    updates: int = 60_000
    squeezed: bool = False

    # -- drawings ----------------------------------------------------------------------------------
    def scale_of(self, rows: Rows) -> float:
        """The standard deviation of the offsets of drawings, px: what offsets are divided by.

        Raises:
            UserError: there is none: all drawings are dots.
        """
        columns = 3 if self.pens_in_scale else 2
        total = square = count = 0.0
        for drawing in rows:
            values = np.asarray(drawing[:, :columns], dtype=np.float64)
            total += values.sum()
            square += (values**2).sum()
            count += values.size
        spread = (square / count - (total / count) ** 2) ** 0.5 if count else 0.0
        if not spread > 0:
            raise UserError("all drawings are a single dot: there is no scale to learn")
        return float(spread)

    def padded(self, longest: int) -> int:
        """Rows that the decoder predicts of drawings of so many: the released codes differ."""
        # SketchHealer appends one more end row
        return longest + 1 if self.end == "point" else longest

    def inputs(
        self,
        rows: Rows,
        longest: int,
        scale: float,
        *,
        streams: Sequence[np.random.Generator] | None = None,
        mask: NDArray[Any] | None = None,
    ) -> Inputs:
        """What network and loss take of stroke-3 drawings in px.

        Args:
            longest: rows of the longest drawing of the data.
            streams: for each drawing, of its augmentation; None leaves it as it is.
            mask: which patches of pictures are masked, (B, m) bool.
        """
        changed: Rows = rows
        if self.augment is not None and streams is not None:
            changed = [self.augment(r, s) for r, s in zip(rows, streams, strict=True)]
        length = self.padded(longest)
        tokens = to_tokens(changed, length, scale, self.end)
        cut = tokens
        if self.trimmed:
            cut = tokens[:, : min(length, max(map(len, changed)) + 1) + 1]
        seen = changed if self.augment_view else rows
        return Inputs(cut, self.view(seen, cut, scale, mask), length)

    def step(self, updates: int, share: float) -> float:
        """Where in the course of the KL term's weight an update stands.

        Args:
            updates: done before it.
            share: of the training done before it, 0 … 1.
        """
        return share * self.updates if self.squeezed else float(updates)

    def learning_rate(self, updates: int, share: float) -> float:
        """Of the update after so many others, at this share of the training."""
        if not self.squeezed:
            return self.rate.at(updates)
        least, most = self.rate.least, self.rate.lr
        return cosine_over_share(most - least, floor=least)(updates, share)

    def loss(
        self, model: StrokeModel, inputs: Inputs, label: Tensor, noise: Tensor, weight: float
    ) -> Tensor:
        """The loss of each drawing, (B,); the batch's loss is the mean.

        Args:
            weight: of the KL term.
        """
        parts = model.parts(
            inputs.tokens,
            inputs.view,
            label,
            noise,
            end=self.end,
            floor=self.floor,
            pen_floor=self.pen_floor,
            length=inputs.length,
        )
        out = parts.stroke + parts.pen
        if self.divergence is not None and model.latent:
            out = out + weight * self.divergence.floored(parts.divergence)
        return out


@dataclass(frozen=True)
class Inputs:
    """Drawings as the network takes them.

    Attributes:
        tokens: the decoder's rows, (B, L + 1, 5).
        view: what the encoder sees.
        length: rows that losses are divided by.
    """

    tokens: Tensor
    view: tuple[Tensor, ...]
    length: int

    def to(self, device: Any) -> Inputs:
        return Inputs(self.tokens.to(device), tuple(v.to(device) for v in self.view), self.length)

    def __getitem__(self, part: slice) -> Inputs:
        return Inputs(self.tokens[part], tuple(v[part] for v in self.view), self.length)


def stroke_view(
    rows: Rows, tokens: Tensor, scale: float, mask: NDArray[Any] | None
) -> tuple[Tensor, ...]:
    """The drawing's rows themselves, without the start, and how many are points."""
    del rows, scale, mask
    points = real_rows(tokens[:, 1:])
    return tokens[:, 1:], points.sum(dim=1)
