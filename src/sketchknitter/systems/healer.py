"""SketchHealer: a graph of picture patches along the strokes, encoded; SketchRNN's decoder.

Paper: G. Su, Y. Qi, K. Pang, J. Yang, Y.-Z. Song, SketchHealer: A Graph-to-Sequence Network for
Recreating Partial Human Sketches, BMVC 2020. Released code: github.com/sgybupt/SketchHealer.

What the released code does, and so does this:

- the drawing, its longer side scaled to 512, white on black with lines of 12 px; around it black;
- 21 nodes of 128 x 128 px: node 0 is the whole canvas made smaller; the others are cut out around
  the pen, before every fourth segment of a stroke, counted anew in each stroke, 20 at most; nodes
  that are not used stay black;
- masking (``mask``; 0 in training, 0.1 and 0.3 in tests): a patch is dropped with this probability;
  its node stays black, its square of the canvas turns black, for later patches and for node 0,
  which is made last;
- adjacency A: a kept patch counts 0.5 of itself and 0.5 of node 0; two kept patches whose centers
  are no further apart than 0.2 of the largest such distance count 0.3 of each other; node 0 counts
  0.5 of itself;
- one convolutional network for all nodes (2 x 2, stride 2; 8, 32, 64, 128, 256, 512 channels; ReLU;
  maximum of the last 2 x 2), batch normalization, one graph convolution A X W (W starts at
  N(0, 1)), the sum over nodes, batch normalization, tanh -> mean and log-variance of a code of 128;
- decoder: torch's LSTM of 512 units, started and fed as SketchRNN's, without recurrent dropout;
- the last point itself says "end" (its lift flag is cleared), and a sample keeps that point;
- loss: -log(density + 1e-3) of the offsets + -sum pen log(p + 1e-3) of all rows, both divided by
  the padded length. The KL term is written down but left out of the sum;
- 2,624,920 numbers, 10,773 of them in a bias and a merging row that nothing uses;
- Adam, learning rate 1e-3 x 0.99999^step down to 1e-5, gradient norms of encoder and decoder
  clipped to 1 each, batches of 500, drawings of at most 200 rows, no augmentation;
- offsets divided by the standard deviation of all numbers of the rows, pen flags among them, which
  is too small (``pens_in_scale``);
- sampling: temperature 0.01, log-probabilities divided by T, sigmas times sqrt(T); the code is
  drawn from its Gaussian even then.

Where this differs, and why:

- drawn by this library's renderer, cut at half gray (OpenCV's lines have no gray either), centered
  instead of at the top left; the box is that of all points, the released one forgets the origin;
  node 0 is made smaller by averaging;
- a stroke of one point moves the pen and nothing else; the released walk takes the segment that
  leads away from it for ink;
- class vectors, log space and, at size ``cpu``, the cosine as in SketchRNN's page; an epoch is a
  permutation;
- size ``cpu``: canvas 256, 8 patches of 64 px, channels 16 … 256 in five layers (a sixth would
  leave less than a pixel), graph convolution and decoder 256, z 64, 10 Gaussians, 96 rows, batches
  of 64. Canvases are kept, packed, after they are drawn once.

There is no prior: whole drawings come from a Gaussian mixture for each class, fitted to codes of
training drawings. A damaged drawing is repaired so: its graph is encoded, with a mask where one is
asked for, and a whole drawing is decoded in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.raster import fit, render
from sketchknitter.systems.autoregressive.design import Design
from sketchknitter.systems.autoregressive.model import Rate, Sizes, StrokeModel
from sketchknitter.systems.autoregressive.system import StrokeSystem
from sketchknitter.systems.autoregressive.tokens import to_sketch

LINE = 0.025  # of the canvas
EVERY = 4  # segments from one patch to the next
SELF, GLOBAL, NEAR = 0.5, 0.5, 0.3  # entries of the adjacency
NEARNESS = 0.2  # of the largest distance
KEPT_BYTES = 512 << 20  # of packed canvases

Bits = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class HealerSizes(Sizes):
    """Sizes of SketchHealer.

    Attributes:
        canvas: longer side of the drawing, px.
        patch: side of a node's picture, px.
        patches: nodes beside the global one.
        channels: of the convolutions; each halves the picture, the last leaves 2 x 2 px.
        graph: outputs of the graph convolution.
    """

    dropout: float = 0.0
    max_rows: int = 200
    canvas: int = 512
    patch: int = 128
    patches: int = 20
    channels: tuple[int, ...] = (8, 32, 64, 128, 256, 512)
    graph: int = 512


PUBLISHED = HealerSizes()
CPU = HealerSizes(
    hidden=256,
    latent=64,
    mixtures=10,
    max_rows=96,
    canvas=256,
    patch=64,
    patches=8,
    channels=(16, 32, 64, 128, 256),
    graph=256,
)


# -- the graph -----------------------------------------------------------------------------------
def patch_places(rows: NDArray[Any], most: int) -> list[int]:
    """Where patches are cut out: indices of points (0 is the origin) of stroke-3 rows (n, 3)."""
    out: list[int] = []
    moves, drawn = False, 0  # whether the next row only moves; segments of the stroke so far
    for i, lift in enumerate(rows[:, 2] > 0.5):
        if not moves:
            if drawn % EVERY == 0:
                out.append(i)
            drawn += 1
        moves = bool(lift)
        if lift:
            drawn = 0
    return out[:most]


def adjacency(nodes: int, slots: Sequence[int], centers: NDArray[Any]) -> NDArray[np.float32]:
    """A, (nodes, nodes), of patches in these slots (1 … nodes - 1) with centers (n, 2) px."""
    out = np.zeros((nodes, nodes), dtype=np.float32)
    out[0, 0] = SELF
    if not len(slots):
        return out
    at = np.asarray(slots)
    gaps = np.asarray(centers, dtype=np.float64)
    gaps = np.hypot(*np.moveaxis(gaps[:, None] - gaps[None], 2, 0))
    out[np.ix_(at, at)] = np.where(gaps <= NEARNESS * gaps.max(), NEAR, 0)
    out[at, at] = SELF
    out[at, 0] = GLOBAL
    return out


@dataclass
class Canvases:
    """Draws the canvases of drawings and remembers them, a bit for each pixel.

    Args:
        sizes: of canvas and patches.
    """

    sizes: HealerSizes
    _kept: dict[bytes, Bytes] = field(default_factory=dict, repr=False)

    @property
    def line(self) -> int:
        """Width of lines, px."""
        return max(1, int(self.sizes.canvas * LINE))

    @property
    def margin(self) -> int:
        """Black around the drawing that node 0 still shows, px."""
        return 2 * self.line + 1

    @property
    def side(self) -> int:
        """What node 0 shows, px."""
        return self.sizes.canvas + 2 * self.margin

    def ink(self, rows: NDArray[Any]) -> Bits:
        """Where there is ink, (side, side)."""
        key = np.ascontiguousarray(rows).tobytes()
        packed = self._kept.get(key)
        if packed is None:
            share = self.margin / self.side
            picture = render(to_sketch(rows), self.side, self.line / self.side, share)
            packed = np.packbits(picture < 128)
            if (len(self._kept) + 1) * packed.nbytes <= KEPT_BYTES:
                self._kept[key] = packed
        return np.unpackbits(packed, count=self.side**2).view(np.bool_).reshape(self.side, -1)

    def points(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Points of the drawing on the canvas, (n + 1, 2) px, x and y."""
        points = np.zeros((len(rows) + 1, 2))
        np.cumsum(rows[:, :2], axis=0, out=points[1:])
        scale, shift = fit(points, self.side, self.margin / self.side)
        return np.rint(points * scale + shift).astype(np.int64)

    def graph(
        self, rows: NDArray[Any], dropped: NDArray[Any] | None = None
    ) -> tuple[Bytes, NDArray[np.float32]]:
        """Nodes (1 + patches, patch, patch), 255 is ink, and adjacency of one drawing.

        Args:
            dropped: whether each patch is, (patches,) bool.
        """
        s = self.sizes
        half, border = s.patch // 2, s.patch  # of black, so that no patch leaves the canvas
        canvas = np.pad(self.ink(rows), border)
        places = patch_places(rows, s.patches)
        centers = self.points(rows)[places] + border
        nodes = np.zeros((1 + s.patches, s.patch, s.patch), dtype=np.uint8)
        slots = []
        for slot, (x, y) in enumerate(centers, start=1):
            square = canvas[y - half : y + half, x - half : x + half]
            if dropped is not None and dropped[slot - 1]:
                square[:] = False
            else:
                nodes[slot] = square
                slots.append(slot)
        whole = Image.fromarray(canvas[border:-border, border:-border].astype(np.uint8) * 255)
        nodes[0] = np.asarray(whole.resize((s.patch, s.patch), Image.Resampling.BOX))
        nodes[1:] *= 255
        return nodes, adjacency(len(nodes), slots, centers[[k - 1 for k in slots]])

    def graphs(
        self, rows: Sequence[NDArray[Any]], dropped: NDArray[Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Nodes (B, 1 + patches, patch, patch) uint8 and adjacencies of drawings.

        Args:
            dropped: (B, patches) bool.
        """
        made = [
            self.graph(drawing, None if dropped is None else dropped[i])
            for i, drawing in enumerate(rows)
        ]
        nodes, adjacencies = zip(*made, strict=True)
        return torch.from_numpy(np.stack(nodes)), torch.from_numpy(np.stack(adjacencies))


# -- the network ---------------------------------------------------------------------------------
class GraphEncoder(nn.Module):
    """Graphs of patches -> mean and log-variance of the code."""

    def __init__(self, sizes: HealerSizes) -> None:
        super().__init__()
        ends = [1, *sizes.channels]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(ends))
        features, nodes = ends[-1], 1 + sizes.patches
        self.node_norm = nn.BatchNorm1d(features)
        self.weight = nn.Parameter(torch.randn(features, sizes.graph))
        # in the released file, but read by nothing
        self.unused_bias = nn.Parameter(torch.randn(nodes, sizes.graph), requires_grad=False)
        self.unused_merge = nn.Parameter(torch.randn(1, nodes), requires_grad=False)
        self.graph_norm = nn.BatchNorm1d(sizes.graph)
        self.mean = nn.Linear(sizes.graph, sizes.latent)
        self.log_variance = nn.Linear(sizes.graph, sizes.latent)

    def features(self, nodes: Tensor) -> Tensor:
        """Normalized features (B, n, F) of nodes' pictures (B, n, P, P), 0 … 255."""
        b, n, p, _ = nodes.shape
        x = nodes.reshape(b * n, 1, p, p).float() / 127.5 - 1
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.node_norm(F.max_pool2d(x, 2).flatten(1)).view(b, n, -1)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (B, n, P, P), 0 … 255, and adjacencies (B, n, n)."""
        # the sum over nodes of (A X) W, in the order that multiplies least
        x = torch.einsum("bij,bjf->bf", adjacency, self.features(nodes)) @ self.weight
        x = torch.tanh(self.graph_norm(x))
        return self.mean(x), self.log_variance(x)


def build(sizes: HealerSizes, classes: int) -> StrokeModel:
    """A fresh network."""
    return StrokeModel(GraphEncoder(sizes), sizes, classes, "torch")


@dataclass(frozen=True)
class SketchHealer(StrokeSystem):
    """The system.

    Attributes:
        net: sizes other than those of ``size``.
        pens_in_scale: divide offsets by the deviation of all numbers of the rows, as released.
    """

    net: HealerSizes | None = None
    pens_in_scale: bool = True

    def design(self) -> Design[HealerSizes]:
        small = self.size == "cpu"
        sizes = self.net or (CPU if small else PUBLISHED)
        canvases = Canvases(sizes)

        def view(
            rows: Sequence[NDArray[Any]], tokens: Tensor, scale: float, mask: Bits | None
        ) -> tuple[Tensor, ...]:
            del tokens, scale
            return canvases.graphs(rows, mask)

        return Design(
            name="healer",
            sizes=sizes,
            build=build,
            view=view,
            prior="mixture",
            tasks=("draw", "heal"),
            end="point",
            floor=1e-3,
            pen_floor=1e-3,
            convention="healer",
            temperatures=(0.01, 0.2, 0.4, 0.6, 0.8, 1.0),
            rate=Rate(decay=0.99999, course="down"),
            updates=146_000,
            clip="norm",
            augment=None,
            pens_in_scale=self.pens_in_scale,
            batch_size=64 if small else 500,
            trimmed=small,
            squeezed=small,
        )

    def least(self) -> HealerSizes:
        """The sizes of the least network."""
        return replace(
            self.design().sizes,
            hidden=16,
            latent=8,
            mixtures=3,
            canvas=64,
            patch=16,
            patches=3,
            channels=(4, 8, 8),
            graph=8,
        )
