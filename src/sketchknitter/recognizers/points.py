"""The reader: says what a drawing shows from the order of its points, however rough or unfinished.

The guide (:mod:`sketchknitter.nn.recognizer`) looks at the picture. Of a drawing whose points are
far off, or of which half is still to come, a picture tells little; how many strokes there are, how
long they are and roughly where they go tells more. The reader has seen such drawings in training.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.files import WEIGHTS
from sketchknitter.nn.layers import Attention, Conv3, progress
from sketchknitter.nn.stored import read_network, restore, save_network

READER_FORMAT = "sketchknitter-reader/1"
READER_WEIGHTS = WEIGHTS / "reader.safetensors"
INPUTS = 6  # x, y, dx, dy, stroke end, finished
LONGEST = 97  # points of a drawing that are read


def as_read(
    points: NDArray[np.float64], ends: NDArray[np.bool_], finished: bool
) -> NDArray[np.float32]:
    """The reader's input (n, 6) for points (n, 2) and stroke ends (n,) of one drawing.

    The drawing's box is centered and its longer side becomes 2; (dx, dy) leads to each point from
    the one before, over lifts too.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    place = (points - (low + high) / 2) * (2 / max(float((high - low).max()), 1e-300))
    step = np.diff(place, axis=0, prepend=place[:1])
    flags = np.column_stack([ends, np.full(len(points), finished)])
    return np.concatenate([place, step, flags], axis=1).astype(np.float32)


class PointBlock(nn.Module):
    """x + f(x) with two convolutions over the points."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_in, self.conv_in = nn.LayerNorm(channels), Conv3(channels, channels)
        self.norm_out, self.conv_out = nn.LayerNorm(channels), Conv3(channels, channels, zero=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)) * mask)
        return x + self.conv_out(F.silu(self.norm_out(h)) * mask)


class Halved(nn.Module):
    """Pairs of points become one, of more channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * channels, out)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        b, n, c = x.shape
        x = F.pad(x * mask, (0, 0, 0, n % 2)).reshape(b, -1, 2 * c)
        mask = F.pad(mask, (0, 0, 0, n % 2)).view(b, -1, 2).amax(dim=2)[..., None]
        return self.linear(x), mask


@dataclass(frozen=True)
class ReaderShape:
    """Size of a :class:`Reader`.

    Attributes:
        widths: channels at full, half, … of the points.
        heads: of the attention at the two coarsest levels.
    """

    widths: tuple[int, ...] = (64, 96, 128)
    heads: int = 4


class Reader(nn.Module):
    """Sequences of points (B, N, 6), see :func:`as_read`, to class logits (B, C).

    Args:
        classes: class names in the order of the logits.
        shape: its size.
    """

    def __init__(self, classes: Sequence[str], shape: ReaderShape | None = None) -> None:
        super().__init__()
        self.classes, self.shape = tuple(classes), shape or ReaderShape()
        self.record: dict[str, Any] = {}  # how it was trained
        widths = self.shape.widths
        self.inward = nn.Linear(INPUTS + 10, widths[0])
        self.blocks = nn.ModuleList(
            nn.ModuleList(PointBlock(width) for _ in range(2)) for width in widths
        )
        self.attention = nn.ModuleList(Attention(width, self.shape.heads) for width in widths[1:])
        self.halves = nn.ModuleList(map(Halved, widths[:-1], widths[1:]))
        self.head = nn.Sequential(
            nn.LayerNorm(2 * widths[-1]),
            nn.Linear(2 * widths[-1], 256),
            nn.SiLU(),
            nn.Dropout(0.2),
            nn.Linear(256, len(self.classes)),
        )

    def forward(self, points: Tensor, mask: Tensor) -> Tensor:
        """points (B, N, 6), mask (B, N) bool, valid points first -> logits (B, C)."""
        there = mask[..., None].to(points)
        x = self.inward(torch.cat([points, progress(mask)], dim=-1)) * there
        for level, blocks in enumerate(self.blocks):
            if level:
                x, there = self.halves[level - 1](x, there)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, there)
            if level:
                x = self.attention[level - 1](x, there)
        mean = (x * there).sum(dim=1) / there.sum(dim=1)
        peak = x.masked_fill(there == 0, -torch.inf).amax(dim=1)
        return self.head(torch.cat([mean, peak], dim=-1))

    @torch.inference_mode()
    def log_probabilities(
        self, points: NDArray[np.float64], ends: NDArray[np.bool_], finished: bool
    ) -> NDArray[np.float64]:
        """Class log-probabilities (C,) of one drawing: points (n, 2), stroke ends (n,)."""
        rows = torch.from_numpy(as_read(points, ends, finished))[None]
        out = self(rows, torch.ones(rows.shape[:2], dtype=torch.bool))
        return out.log_softmax(dim=-1)[0].double().numpy()

    def save(self, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None) -> None:
        """Write weights and what rebuilds the network; ``record`` says how it was made."""
        header = {
            "classes": self.classes,
            "widths": self.shape.widths,
            "heads": self.shape.heads,
            "record": dict(record or {}),
        }
        save_network(self, path, READER_FORMAT, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Reader:
        """The shipped reader, or one from ``path``; in evaluation mode, float32, frozen.

        Raises:
            UserError: the file is missing, or is no reader.
        """
        file = READER_WEIGHTS if path is None else path
        header, weights, _ = read_network(file, READER_FORMAT, "reader")

        def make() -> Reader:
            return cls(header["classes"], ReaderShape(tuple(header["widths"]), header["heads"]))

        out = restore(make, weights, file)
        out.record = header.get("record", {})
        return out
