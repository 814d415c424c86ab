"""The guide: a small convolutional network that says what a drawing shows, for generation to use.

It is not the judge of :mod:`sketchknitter.metrics.features`: other architecture, seed and
augmentation, so that a model steered by the guide is still measured by another network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.files import WEIGHTS
from sketchknitter.nn.stored import read_network, restore, save_network
from sketchknitter.raster import render
from sketchknitter.sketch import Sketch

GUIDE_FORMAT = "sketchknitter-guide/1"
GUIDE_WEIGHTS = WEIGHTS / "guide.safetensors"
RECOGNIZED = 0.3  # a drawing that shows its class with this probability is not drawn again


class ResidualBlock(nn.Module):
    """x + f(x) with two 3 × 3 convolutions under group normalization (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(8, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(x + self.body(x))


class Recognizer(nn.Module):
    """Pictures of drawings, (B, 1, size, size) in [0, 1] with ink = 1, to class logits (B, C).

    It is smooth in its input (SiLU, strided convolutions, no max-pooling), so that gradients of a
    soft rendering make sense; it has seen lines of many widths and blurs. Nothing in it depends on
    the rest of the batch.

    Args:
        classes: class names in the order of the logits.
        size: side of the pictures, px.
        width: middle of the stroke widths seen in training, as a share of ``size``.
        channels: widths of the four stages, at size / 2, / 4, / 8 and / 16; multiples of 8.
    """

    def __init__(
        self,
        classes: Sequence[str],
        size: int = 48,
        width: float = 0.03,
        channels: Sequence[int] = (24, 48, 96, 160),
    ) -> None:
        super().__init__()
        self.classes, self.size, self.width = tuple(classes), size, width
        self.channels = tuple(channels)
        self.record: dict[str, Any] = {}  # how it was trained
        stages: list[nn.Module] = [
            nn.Conv2d(1, self.channels[0], 5, stride=2, padding=2, bias=False),
            nn.GroupNorm(8, self.channels[0]),
            nn.SiLU(),
        ]
        for inner, outer in pairwise(self.channels):
            stages += [
                nn.Conv2d(inner, outer, 4, stride=2, padding=1, bias=False),
                nn.GroupNorm(8, outer),
                nn.SiLU(),
                ResidualBlock(outer),
            ]
        self.trunk = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.channels[-1], len(self.classes)))

    def forward(self, ink: Tensor) -> Tensor:
        """(B, 1, size, size) in [0, 1], ink = 1, to logits (B, C)."""
        return self.head(self.trunk(ink).mean(dim=(2, 3)))

    def probabilities(self, ink: Tensor) -> Tensor:
        """(B, 1, size, size) in [0, 1], ink = 1, to class probabilities (B, C)."""
        return self(ink).softmax(dim=-1)

    @torch.inference_mode()
    def log_probabilities(self, sketches: Sequence[Sketch]) -> NDArray[np.float64]:
        """What each drawing shows: log-probabilities of the classes, (n, C)."""
        pictures = np.stack([render(s, self.size, self.width) for s in sketches])
        ink = 1 - torch.from_numpy(pictures).float()[:, None] / 255
        return np.asarray(self(ink).log_softmax(dim=-1).double().numpy())

    def save(self, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None) -> None:
        """Write weights (fp16) and a JSON header that rebuilds the network; ``record`` says how it
        was made."""
        header = {
            "classes": self.classes,
            "size": self.size,
            "width": self.width,
            "channels": self.channels,
            "record": dict(record or {}),
        }
        save_network(self, path, GUIDE_FORMAT, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Recognizer:
        """The shipped guide, or one from ``path``; in evaluation mode, float32, frozen.

        Raises:
            UserError: the file is missing, or is no guide.
        """
        file = GUIDE_WEIGHTS if path is None else path
        header, weights, _ = read_network(file, GUIDE_FORMAT, "guide")
        out = restore(
            lambda: cls(header["classes"], header["size"], header["width"], header["channels"]),
            weights,
            file,
        )
        out.record = header.get("record", {})
        return out


@lru_cache(maxsize=4)
def guide(device: torch.device | str = "cpu") -> Recognizer | None:
    """The shipped recognizer on a device, or None where there is none."""
    return Recognizer.load().to(device) if GUIDE_WEIGHTS.exists() else None


def clearness(sketches: Sequence[Sketch]) -> NDArray[np.float64]:
    """How clearly each drawing shows the class of its label: the guide's probability, (n,); NaN
    where it does not know that class."""
    out = np.full(len(sketches), np.nan)
    network = guide()
    place = {} if network is None else {name: i for i, name in enumerate(network.classes)}
    known = [i for i, s in enumerate(sketches) if s.label in place]
    if network is not None and known:
        log_p = network.log_probabilities([sketches[i] for i in known])
        out[known] = np.exp(
            [row[place[sketches[i].label or ""]] for i, row in zip(known, log_p, strict=True)]
        )
    return out


def until_recognized(
    sketches: Sequence[Sketch],
    draw: Callable[[np.ndarray, list[np.random.Generator]], list[Sketch]],
    streams: Sequence[np.random.Generator],
    tries: int,
) -> list[Sketch]:
    """``sketches``, those drawn again whose class the guide does not recognize: of up to ``tries``
    drawings of each, the first that it recognizes, or the one that shows its class most clearly.

    Args:
        draw: draws those of some numbers anew, from streams of their own.
        streams: of the sketches; further ones are their children.
    """
    if tries == 1:
        return list(sketches)
    out, clear = list(sketches), clearness(sketches)
    children: dict[int, list[np.random.Generator]] = {}
    for k in range(tries - 1):
        rows = np.flatnonzero(clear < RECOGNIZED)  # NaN is not: nobody could tell
        if not len(rows):
            break
        for i in rows.tolist():
            children.setdefault(i, streams[i].spawn(tries - 1))
        new = draw(rows, [children[i][k] for i in rows.tolist()])
        for i, sketch, p in zip(rows.tolist(), new, clearness(new), strict=True):
            if p > clear[i]:
                out[i], clear[i] = sketch, p
    return out
