"""SketchRNN: a sequence-to-sequence variational autoencoder over pen rows.

Paper: D. Ha and D. Eck, A Neural Representation of Sketch Drawings, ICLR 2018, arXiv 1704.03477.
Released code: magenta, ``magenta/models/sketch_rnn`` (Apache-2.0).

What the released code does, and so does this:

- encoder: bidirectional LSTM of 256 units over the drawing's rows (no start, no end row); both last
  outputs -> mean and log-variance of a code of 128 numbers;
- decoder: LSTM of 512 units; its first state is tanh(Linear(z)), z stands beside every input row;
  20 Gaussians for the next offset, three pen states; without the encoder (``decoder_only``) it
  starts at zero;
- 2,186,107 numbers (decoder alone 1,123,963), counting one bias for each LSTM as TensorFlow does;
  torch keeps a second one, which stays zero here;
- offsets divided by their standard deviation over the training set; rows padded to the longest
  drawing with (0, 0, 0, 0, 1);
- loss: -log(density + 1e-6) of the offsets of real rows + cross-entropy of the pens of all rows,
  padding included, both divided by the padded length; + w max(KL, 0.2), KL a mean over batch and
  dimensions, w = 0.5 - 0.49 x 0.99995^step;
- Adam, learning rate (1e-3 - 1e-5) x 0.9999^step + 1e-5, each element of the gradient clipped to
  ±1, batches of 100, recurrent dropout that keeps 90 %, in encoder and decoder;
- augmentation: each axis times U(0.85, 1.15), points dropped with probability 0.1;
- temperature T: log-probabilities divided by T, sigmas times T (the paper says variance times T:
  convention ``healer`` here).

Where this differs, and why:

- a class vector of 16 numbers beside z, so that one network draws all classes of a table; the
  original trains one network for each class. Without classes there is none, and the parameter
  counts are the released ones;
- 1 - rho^2 and the density are computed in log space, log-sigmas clamped to ±20: same values, no
  overflow;
- an epoch is a permutation, not random draws; the model of the last update is kept;
- size ``cpu`` (553,407 numbers without classes): decoder 256, encoder 128 in each direction, z 64,
  10 Gaussians, 96 rows, batches of 64, no recurrent dropout. The learning rate falls as a cosine;
  the KL weight's course, made for 60,000 updates, is squeezed into those there are; batches are of
  drawings of similar lengths, and rows beyond the end of all of them are left out (their pen loss
  as well);
- with classes, a tenth of the drawings is learned from without its class, so that a drawing of
  unknown class can be finished.

Whole drawings come from z ~ N(0, I), the model's prior. An unfinished drawing is finished so: the
encoder sees what there is, the decoder reads it as well and goes on, pen lifted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from sketchknitter.data.stretch import Stretch
from sketchknitter.systems.autoregressive.decoder import Lstm, small_linear
from sketchknitter.systems.autoregressive.design import Design, stroke_view
from sketchknitter.systems.autoregressive.model import Divergence, Sizes, StrokeModel
from sketchknitter.systems.autoregressive.system import StrokeSystem


@dataclass(frozen=True)
class SketchRNNSizes(Sizes):
    """Sizes of SketchRNN.

    Attributes:
        encoder_hidden: units of the encoder, each direction.
        decoder_only: leave encoder and code out.
    """

    encoder_hidden: int = 256
    decoder_only: bool = False


PUBLISHED = SketchRNNSizes()
CPU = SketchRNNSizes(
    hidden=256, latent=64, mixtures=10, dropout=0.0, max_rows=96, encoder_hidden=128
)


class StrokeEncoder(nn.Module):
    """Bidirectional LSTM over stroke-5 rows -> mean and log-variance of the code."""

    def __init__(self, hidden: int, latent: int, dropout: float) -> None:
        super().__init__()
        self.forth = Lstm(5, hidden, "magenta", dropout)
        self.back = Lstm(5, hidden, "magenta", dropout)
        self.mean = small_linear(2 * hidden, latent, "magenta")
        self.log_variance = small_linear(2 * hidden, latent, "magenta")

    def forward(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, L, 5) without a start, of which the first lengths (B,) >= 1 are points."""
        rows = rows[:, : int(lengths.max())]
        at = torch.arange(rows.shape[1], device=rows.device)
        back = (lengths[:, None] - 1 - at).clamp(min=0)
        reverse = rows.gather(1, back[..., None].expand_as(rows))
        batch = torch.arange(len(rows), device=rows.device)
        last = [
            lstm(x)[0][batch, lengths - 1] for lstm, x in ((self.forth, rows), (self.back, reverse))
        ]
        both = torch.cat(last, dim=-1)
        return self.mean(both), self.log_variance(both)


def build(sizes: SketchRNNSizes, classes: int) -> StrokeModel:
    """A fresh network."""
    encoder = None
    if not sizes.decoder_only:
        encoder = StrokeEncoder(sizes.encoder_hidden, sizes.latent, sizes.dropout)
    return StrokeModel(encoder, sizes, classes)


@dataclass(frozen=True)
class SketchRNN(StrokeSystem):
    """The system.

    Attributes:
        net: sizes other than those of ``size``.
        divergence: the KL term.
    """

    net: SketchRNNSizes | None = None
    divergence: Divergence = field(default_factory=Divergence)

    def design(self) -> Design[SketchRNNSizes]:
        small = self.size == "cpu"
        sizes = self.net or (CPU if small else PUBLISHED)
        return Design(
            name="sketchrnn",
            sizes=sizes,
            build=build,
            view=stroke_view,
            prior="none" if sizes.decoder_only else "normal",
            tasks=("draw", "complete") if sizes.decoder_only else ("draw", "complete", "heal"),
            divergence=self.divergence,
            augment=Stretch() if self.augmented else None,
            batch_size=64 if small else 100,
            trimmed=small,
            squeezed=small,
        )

    def least(self) -> SketchRNNSizes:
        """The sizes of the least network."""
        return replace(self.design().sizes, hidden=16, latent=8, mixtures=3, encoder_hidden=8)
