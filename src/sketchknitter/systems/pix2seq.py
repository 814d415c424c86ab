"""SketchPix2seq: a convolutional encoder of the drawing's picture, SketchRNN's decoder.

Paper: Y. Chen, S. Tu, Y. Yi, L. Xu, Sketch-pix2seq: a Model to Generate Sketches of Multiple
Categories, 2017, arXiv 1709.04121. The authors' code was not found; this follows the
re-implementation github.com/MarkMoHR/sketch-pix2seq.

What that code does, and so does this:

- picture: 48 x 48, raw values 0 … 255, black on white; the drawing in normalized offsets x 5 is
  drawn with a line of 1 unit and a margin of 5 units on each side, its longer side is scaled to 48
  and its shorter one centered: the line's width varies with the drawing's size;
- a fixed 3 x 3 high-pass filter (8 in the middle, -1 around), zero-padded, which makes a bright
  frame around the white paper (765 at edges, 1,275 in corners);
- six 2 x 2 convolutions without bias (4 stride 2, 4, 8 stride 2, 8, 8 stride 2, 8), ReLU after five
  of them, tanh after the last: 288 numbers -> mean and log-variance of a code of 128; weights from
  N(0, 2 / (4 x output channels)); TensorFlow's padding (stride 1: one row and column of zeros at
  the bottom and right);
- decoder, losses, learning rate, clipping, augmentation as SketchRNN's, but no KL term at all, and
  only the rows are augmented: the picture is that of the drawing as it is;
- the code is drawn from its Gaussian in training and in sampling;
- 1,593,163 numbers with an LSTM decoder, counting one bias.

Where this differs, and why:

- that code's default decoder is a HyperLSTM; an option makes it an LSTM, and this always does:
  five rivals are compared on one decoder;
- pictures are drawn by this library's renderer, not by Inkscape or Cairo: line joins and
  anti-aliasing differ by fractions of a gray level;
- ``frame=False`` pads the filter's input with white, so that there is no bright frame;
- class vectors, log space, permutations, the cosine and size ``cpu`` (decoder 256, z 64,
  10 Gaussians, 96 rows, batches of 64, no recurrent dropout) as in SketchRNN's page.

There is no prior: N(0, I) was never seen by the decoder. Whole drawings come from a Gaussian
mixture for each class, fitted to codes of training drawings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.stretch import Stretch
from sketchknitter.raster import render
from sketchknitter.systems.autoregressive.decoder import small_linear
from sketchknitter.systems.autoregressive.design import Design
from sketchknitter.systems.autoregressive.model import Sizes, StrokeModel
from sketchknitter.systems.autoregressive.system import StrokeSystem
from sketchknitter.systems.autoregressive.tokens import to_sketch

PICTURE = 48  # px
UNITS = 5.0  # of the picture's drawing for one model unit
MARGIN, LINE = 5.0, 1.0  # units
LAYERS = ((4, 2), (4, 1), (8, 2), (8, 1), (8, 2), (8, 1))  # channels and stride
FEATURES = 8 * (PICTURE // 8) ** 2


@dataclass(frozen=True)
class Pix2seqSizes(Sizes):
    """Sizes of SketchPix2seq.

    Attributes:
        frame: zero-pad the high-pass filter, as released; else pad with white.
    """

    frame: bool = True


PUBLISHED = Pix2seqSizes()
CPU = Pix2seqSizes(hidden=256, latent=64, mixtures=10, dropout=0.0, max_rows=96)


def pictures(rows: Sequence[NDArray[Any]], scale: float) -> Tensor:
    """Pictures (B, 1, 48, 48) uint8 of stroke-3 drawings in px; ``scale`` is px of a model unit."""
    out = np.empty((len(rows), 1, PICTURE, PICTURE), dtype=np.uint8)
    for picture, drawing in zip(out, rows, strict=True):
        sketch = to_sketch(drawing)
        side = UNITS * sketch.extent / scale + 2 * MARGIN
        margin = min(MARGIN / side, 0.49)
        picture[0] = render(sketch, PICTURE, width=LINE / side, margin=margin)
    return torch.from_numpy(out)


class PictureEncoder(nn.Module):
    """Pictures -> mean and log-variance of the code."""

    def __init__(self, latent: int, frame: bool = True) -> None:
        super().__init__()
        self.frame = frame
        high_pass = -torch.ones(1, 1, 3, 3)
        high_pass[0, 0, 1, 1] = 8
        self.register_buffer("high_pass", high_pass, persistent=False)
        channels, layers = 1, []
        for out, stride in LAYERS:
            layer = nn.Conv2d(channels, out, 2, stride, bias=False)
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (4 * out)))
            layers.append(layer)
            channels = out
        self.layers = nn.ModuleList(layers)
        self.mean = small_linear(FEATURES, latent, "magenta")
        self.log_variance = small_linear(FEATURES, latent, "magenta")

    def edges(self, picture: Tensor) -> Tensor:
        """The high-pass filtered pictures, (B, 1, 48, 48)."""
        x = F.pad(picture.float(), (1, 1, 1, 1), value=0.0 if self.frame else 255.0)
        return F.conv2d(x, self.get_buffer("high_pass"))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 1, 48, 48), 0 … 255."""
        x = self.edges(picture)
        for layer, (_, stride) in zip(self.layers, LAYERS, strict=True):
            x = layer(x if stride == 2 else F.pad(x, (0, 1, 0, 1)))
            x = torch.tanh(x) if layer is self.layers[-1] else F.relu(x)
        features = x.permute(0, 2, 3, 1).flatten(1)  # TensorFlow flattens with channels last
        return self.mean(features), self.log_variance(features)


def build(sizes: Pix2seqSizes, classes: int) -> StrokeModel:
    """A fresh network."""
    return StrokeModel(PictureEncoder(sizes.latent, sizes.frame), sizes, classes)


def picture_view(
    rows: Sequence[NDArray[Any]], tokens: Tensor, scale: float, mask: NDArray[Any] | None
) -> tuple[Tensor, ...]:
    """Pictures of the drawings."""
    del tokens, mask
    return (pictures(rows, scale),)


@dataclass(frozen=True)
class SketchPix2seq(StrokeSystem):
    """The system.

    Attributes:
        net: sizes other than those of ``size``.
    """

    net: Pix2seqSizes | None = None

    def design(self) -> Design[Pix2seqSizes]:
        small = self.size == "cpu"
        return Design(
            name="pix2seq",
            sizes=self.net or (CPU if small else PUBLISHED),
            build=build,
            view=picture_view,
            prior="mixture",
            tasks=("draw", "heal"),
            temperatures=(0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
            augment=Stretch() if self.augmented else None,
            augment_view=False,
            batch_size=64 if small else 100,
            trimmed=small,
            squeezed=small,
        )

    def least(self) -> Pix2seqSizes:
        """The sizes of the least network."""
        return replace(self.design().sizes, hidden=16, latent=8, mixtures=3)
