"""The outlook of a drawing: what it may be, how much is missing, where the whole will lie.

The denoiser needs to know how many points a drawing has and where its box lies before it starts.
Of an unfinished drawing nobody knows either; this network has learned the distribution of both,
given the points that are there and, where it is known, the class. It has seen rough drawings, too:
of one whose points are off it says what was meant.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from sketchknitter.files import WEIGHTS
from sketchknitter.nn.layers import PLACES, Attention, Conv3, progress
from sketchknitter.nn.stored import read_network, restore, save_network

OUTLOOK_FORMAT = "sketchknitter-outlook/2"
OUTLOOK_WEIGHTS = WEIGHTS / "outlook.safetensors"
WHERE = ("end", "start", "anywhere", "nothing")  # what of a drawing may be missing
INPUTS = 6 + len(WHERE)  # x, y, dx, dy, stroke end, whether points may be off, what may be missing
LONGEST = 97  # points of a drawing
FRAME = 3  # log(whole size / seen size), and the whole's center off the seen one's, in whole sizes
LEAST_SPREAD = 0.02  # standard deviation of a frame's component


def as_seen(
    points: NDArray[np.float64], ends: NDArray[np.bool_], where: str, rough: bool = False
) -> NDArray[np.float32]:
    """The network's input (n, INPUTS) for a drawing's points (n, 2) and stroke ends (n,).

    The box of the points is centered and its longer side becomes 2; (dx, dy) leads to each point
    from the one before, over lifts too.

    Args:
        where: what may be missing, one of WHERE.
        rough: whether points may be off.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    place = (points - (low + high) / 2) * (2 / max(float((high - low).max()), 1e-300))
    step = np.diff(place, axis=0, prepend=place[:1])
    flags = np.zeros((len(points), 2 + len(WHERE)))
    flags[:, 0], flags[:, 1] = ends, rough
    flags[:, 2 + WHERE.index(where)] = 1
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
class OutlookShape:
    """Size of an :class:`Outlook`.

    Attributes:
        widths: channels at full, half, … of the points.
        heads: of the attention at all levels but the finest.
        frames: components of the mixture over frames.
    """

    widths: tuple[int, ...] = (64, 128, 192)
    heads: int = 4
    frames: int = 6


class Outlook(nn.Module):
    """Seen points (B, N, INPUTS) -> what the drawing may be; with a label, what is missing of it.

    The label enters after the points have been read, so what is said of the class cannot depend
    on it.

    Args:
        classes: class names in the order of the logits.
        shape: its size.
    """

    def __init__(self, classes: Sequence[str], shape: OutlookShape | None = None) -> None:
        super().__init__()
        self.classes, self.shape = tuple(classes), shape or OutlookShape()
        self.record: dict[str, Any] = {}  # how it was trained
        widths = self.shape.widths
        size, hidden = 2 * widths[-1], 256
        self.inward = nn.Linear(INPUTS + PLACES, widths[0])
        self.blocks = nn.ModuleList(
            nn.ModuleList(PointBlock(width) for _ in range(2)) for width in widths
        )
        self.attention = nn.ModuleList(Attention(width, self.shape.heads) for width in widths[1:])
        self.halves = nn.ModuleList(Halved(a, b) for a, b in pairwise(widths))
        self.norm = nn.LayerNorm(size)
        self.named = nn.Sequential(
            nn.Linear(size, hidden), nn.SiLU(), nn.Dropout(0.2), nn.Linear(hidden, len(classes))
        )
        self.label = nn.Embedding(len(classes) + 1, hidden)  # the last row is "no label"
        self.planned = nn.Linear(size, hidden)
        self.plan = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Dropout(0.1))
        self.missing = nn.Linear(hidden, LONGEST)
        self.frame = nn.Sequential(
            nn.Linear(hidden + 1, 128),
            nn.SiLU(),
            nn.Linear(128, self.shape.frames * (1 + 2 * FRAME)),
        )

    @property
    def outer(self) -> tuple[nn.Module, ...]:
        """First and last layers."""
        return self.inward, self.named[-1], self.missing, self.frame[-1]

    def read(self, points: Tensor, mask: Tensor) -> Tensor:
        """points (B, N, INPUTS), mask (B, N) bool, valid points first -> what it saw, (B, P)."""
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
        return self.norm(torch.cat([mean, peak], dim=-1))

    def features(self, read: Tensor, label: Tensor) -> Tensor:
        """What :meth:`read` returned (B, P) and a label (B,) -> what is missing, (B, 256)."""
        return self.plan(self.planned(read) + self.label(label))

    def frames(self, features: Tensor, missing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture over frames given how many points are missing (B,): log-weights (B, K),
        means (B, K, FRAME) and standard deviations (B, K, FRAME)."""
        count = torch.log1p(missing.to(features))[:, None]
        out = self.frame(torch.cat([features, count], dim=-1)).float()
        out = out.view(len(out), self.shape.frames, 1 + 2 * FRAME)
        spread = F.softplus(out[..., 1 + FRAME :] - 2) + LEAST_SPREAD
        return out[..., 0].log_softmax(dim=-1), out[..., 1 : 1 + FRAME], spread

    @torch.inference_mode()
    def class_probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """What a drawing with points ``rows`` (see :func:`as_seen`) is or may become, (C,)."""
        logits = self.named(self.read(*_one(rows)))
        return np.asarray(logits.double().softmax(dim=-1)[0].numpy())

    @torch.inference_mode()
    def missing_probabilities(
        self, rows: NDArray[np.float32], labels: Sequence[int]
    ) -> tuple[NDArray[np.float64], Tensor]:
        """How many points are missing under each of ``labels``, (L, LONGEST), and the features
        (L, 256) that :meth:`draw_frame` takes."""
        read = self.read(*_one(rows)).expand(len(labels), -1)
        h = self.features(read, torch.tensor(list(labels)))
        return np.asarray(self.missing(h).double().softmax(dim=-1).numpy()), h

    @torch.inference_mode()
    def finished(self, drawings: Sequence[NDArray[np.float32]], label: int) -> NDArray[np.float64]:
        """How probable it is that nothing is missing of drawings with points (n, INPUTS) each,
        under one label, (B,)."""
        rows = pad_sequence([torch.from_numpy(rows) for rows in drawings], batch_first=True)
        lengths = torch.tensor([len(rows) for rows in drawings])
        mask = torch.arange(rows.shape[1]) < lengths[:, None]
        h = self.features(self.read(rows, mask), torch.full((len(rows),), label))
        return np.asarray(self.missing(h).double().softmax(dim=-1)[:, 0].numpy())

    @torch.inference_mode()
    def draw_frame(
        self, features: Tensor, missing: int, rng: np.random.Generator, temperature: float = 1.0
    ) -> NDArray[np.float64]:
        """A frame (FRAME,) of the whole drawing, given features (256,) and ``missing`` points;
        below a ``temperature`` of 1, above 0, one that is likelier than most."""
        weight, mean, spread = (
            v[0].double().numpy() for v in self.frames(features[None], torch.tensor([missing]))
        )
        p = np.exp((weight - weight.max()) / temperature)
        k = int(rng.choice(len(p), p=p / p.sum()))
        return np.asarray(mean[k] + temperature * spread[k] * rng.standard_normal(FRAME))

    def save(self, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None) -> None:
        """Write weights and what rebuilds the network; ``record`` says how it was made."""
        shape = {
            "widths": self.shape.widths,
            "heads": self.shape.heads,
            "frames": self.shape.frames,
        }
        header = {"classes": self.classes, **shape, "record": dict(record or {})}
        save_network(self, path, OUTLOOK_FORMAT, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Outlook:
        """The shipped outlook, or one from ``path``; in evaluation mode, float32, frozen.

        Raises:
            UserError: the file is missing, or is no outlook.
        """
        file = OUTLOOK_WEIGHTS if path is None else path
        header, weights, _ = read_network(file, OUTLOOK_FORMAT, "outlook")

        def make() -> Outlook:
            shape = OutlookShape(tuple(header["widths"]), header["heads"], header["frames"])
            return cls(header["classes"], shape)

        out = restore(make, weights, file)
        out.record = header.get("record", {})
        return out


def _one(rows: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """A batch of one drawing: points (1, n, INPUTS) and mask (1, n)."""
    return torch.from_numpy(rows)[None], torch.ones((1, len(rows)), dtype=torch.bool)


def frame_log_density(mixture: tuple[Tensor, Tensor, Tensor], frame: Tensor) -> Tensor:
    """log p(frame) (B,) of frames (B, FRAME) under :meth:`Outlook.frames`."""
    weight, mean, spread = mixture
    each = torch.distributions.Normal(mean, spread).log_prob(frame[:, None]).sum(dim=-1)
    return torch.logsumexp(weight + each, dim=-1)
