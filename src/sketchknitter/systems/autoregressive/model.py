"""Encoder, class vectors and decoder as one network, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sketchknitter.systems.autoregressive.decoder import Decoder, Start, State
from sketchknitter.systems.autoregressive.density import Density, pen_loss, stroke_loss
from sketchknitter.systems.autoregressive.tokens import DRAW, End, real_rows


@dataclass(frozen=True)
class Sizes:
    """What every network of this family has; the defaults are the published ones.

    Attributes:
        hidden: units of the decoder.
        latent: numbers of a code, z.
        mixtures: Gaussians of the next offset, M.
        class_vector: numbers of the learned class vector that stands beside z wherever the decoder
            takes z. The originals know no classes: a network without classes has none.
        dropout: share of the LSTM's candidates dropped in training.
        max_rows: longest drawing, stroke-3 rows; 0 is the longest of the data.
    """

    hidden: int = 512
    latent: int = 128
    mixtures: int = 20
    class_vector: int = 16
    dropout: float = 0.1
    max_rows: int = 0


@dataclass(frozen=True)
class Parts:
    """The loss of B drawings, by parts, (B,) each.

    Attributes:
        stroke: -log density of the offsets, a mean over the padded length.
        pen: cross-entropy of the pens, a mean over the same.
        divergence: KL(q(z | drawing) || N(0, I)), a mean over the dimensions of z; 0 without z.
    """

    stroke: Tensor
    pen: Tensor
    divergence: Tensor


class StrokeModel(nn.Module):
    """Encoder (of whatever it sees) and decoder.

    Args:
        encoder: ``(*view) -> mean and log-variance`` of the code, (B, Z) each; None for a network
            that is a decoder alone.
        sizes: of the decoder.
        classes: how many there are; 0 leaves the class vectors out.
        start: how weights start.
    """

    def __init__(
        self, encoder: nn.Module | None, sizes: Sizes, classes: int, start: Start = "magenta"
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.latent = sizes.latent if encoder is not None else 0
        self.label: nn.Embedding | None = None
        width = sizes.class_vector if classes else 0
        if width:
            self.label = nn.Embedding(classes + 1, width)  # the last row is "no label"
        self.decoder = Decoder(
            self.latent + width,
            sizes.hidden,
            sizes.mixtures,
            start,
            sizes.dropout,
            from_condition=encoder is not None,
        )

    def encode(self, view: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the codes, (B, Z) each; (B, 0) without an encoder."""
        if self.encoder is None:
            nothing = view[0].new_zeros(len(view[0]), 0, dtype=torch.float32)
            return nothing, nothing
        mean, log_variance = self.encoder(*view)
        return mean, log_variance

    def condition(self, code: Tensor, label: Tensor) -> Tensor:
        """What the decoder is given: codes (B, Z) and the class vectors of labels (B,)."""
        if self.label is None:
            return code
        return torch.cat([code, self.label(label)], dim=-1)

    def forward(
        self, tokens: Tensor, condition: Tensor, state: State | None = None
    ) -> tuple[Density, State]:
        """Densities of rows 1 … L of (B, L + 1, 5), each from the rows before it."""
        head, state = self.decoder(tokens[:, :-1], condition, state)
        return Density.of(head), state

    def parts(
        self,
        tokens: Tensor,
        view: tuple[Tensor, ...],
        label: Tensor,
        noise: Tensor,
        *,
        end: End,
        floor: float,
        pen_floor: float = 0.0,
        length: int = 0,
    ) -> Parts:
        """The loss of drawings.

        Args:
            tokens: (B, L + 1, 5).
            view: what the encoder sees of them.
            label: (B,).
            noise: standard normal, (B, Z).
            floor, pen_floor: added to probabilities inside the logarithms.
            length: what sums are divided by, if not L: tokens may be cut where all have ended.
        """
        mean, log_variance = self.encode(view)
        code = mean + torch.exp(log_variance / 2) * noise
        density, _ = self(tokens, self.condition(code, label))
        target = tokens[:, 1:]
        points = real_rows(target, end)
        # not a product: what lies beyond the end must not matter even where it is not finite
        stroke = stroke_loss(density, target[..., :2], floor).masked_fill(~points, 0)
        pen = pen_loss(density, target[..., DRAW:], pen_floor)
        over = length or target.shape[1]
        return Parts(
            stroke.sum(dim=1) / over, pen.sum(dim=1) / over, divergence(mean, log_variance)
        )


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) as a mean over dimensions, (B,)."""
    if not mean.shape[-1]:
        return mean.new_zeros(len(mean))
    each = 1 + log_variance - mean**2 - torch.exp(log_variance)
    return -0.5 * each.mean(dim=-1)


@dataclass(frozen=True)
class Divergence:
    """How much the KL term counts, by update.

    Attributes:
        weight: in the limit.
        start: at update 0.
        decay: how the difference shrinks each update.
        floor: the batch mean counts as no less.
    """

    weight: float = 0.5
    start: float = 0.01
    decay: float = 0.99995
    floor: float = 0.2

    def at(self, step: float) -> float:
        """The weight at an update."""
        return self.weight - (self.weight - self.start) * self.decay**step

    def floored(self, divergence: Tensor) -> Tensor:
        """max(batch mean, floor) of (B,), spread over the drawings: the mean is that maximum."""
        mean = divergence.mean()
        return torch.where(mean > self.floor, divergence, torch.full_like(divergence, self.floor))


@dataclass(frozen=True)
class Rate:
    """A learning rate that decays exponentially.

    ``above`` (magenta): (lr - least) decay^step + least; ``down`` (SketchHealer): lr decay^step,
    not below ``least``.
    """

    lr: float = 1e-3
    decay: float = 0.9999
    least: float = 1e-5
    course: str = "above"

    def at(self, step: float) -> float:
        """The learning rate at an update."""
        if self.course == "down":
            return max(self.least, self.lr * self.decay**step)
        return (self.lr - self.least) * self.decay**step + self.least
