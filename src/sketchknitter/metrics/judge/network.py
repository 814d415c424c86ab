"""The judge: the metrics' own feature network, trained on drawings; nothing that generates uses it.

Its Fréchet distance is called ``fid_sketch`` and must never be compared with a published one:
those are on Inception's features (see :mod:`sketchknitter.metrics.inception`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from sketchknitter.files import WEIGHTS
from sketchknitter.metrics.features import Features
from sketchknitter.nn.stored import read_network, restore, save_network
from sketchknitter.raster import render_batch
from sketchknitter.sketch import Sketch

JUDGE_FORMAT = "sketchknitter-judge/2"
JUDGE_WEIGHTS = WEIGHTS / "judge.safetensors"
BATCH = 256
SCRIBBLE_KINDS = 5  # of drawings that show nothing, each a class of its own beside the classes

Array = NDArray[np.float64]


def _stage(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class Judge(nn.Module):
    """A plain CNN of about 0.5 M parameters on 64 px pictures by the one renderer.

    A mere classifier makes a poor judge: it grows blind to ragged lines, and places noise in the
    middle of all classes, where precision takes it for real. So this one learned two things more:
    five kinds of scribbles that show nothing, and how far the points of its training drawings had
    been jittered and how many pen lifts added.

    Args:
        classes: class names in the order of the logits.
        size: side of the pictures, px.
        width: of the strokes, as a share of ``size``.
        features: D, the length of the feature vector.
    """

    name = "fid_sketch"

    def __init__(
        self,
        classes: Sequence[str],
        size: int = 64,
        width: float = 0.025,
        features: int = 128,
    ) -> None:
        super().__init__()
        self.classes, self.size, self.width = tuple(classes), size, width
        self.features = features
        self.identity, self.record = "untrained", dict[str, Any]()
        self.trunk = nn.Sequential(
            *_stage(1, 16, stride=2),
            *_stage(16, 32),
            nn.MaxPool2d(2),
            *_stage(32, 64),
            nn.MaxPool2d(2),
            *_stage(64, 128),
            *_stage(128, 128),
            nn.MaxPool2d(2),
            *_stage(128, 192),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(192, features),
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Dropout(0.2), nn.Linear(features, len(classes) + SCRIBBLE_KINDS)
        )
        self.damage = nn.Sequential(nn.ReLU(), nn.Linear(features, 2))
        self.whitening: Tensor
        self.register_buffer("whitening", torch.eye(features))

    def forward(self, ink: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, size, size) in [0, 1], ink = 1, to raw features (B, D) and logits (B, C + 5).

        The last five are of the kinds of scribbles.
        """
        vectors = self.trunk(ink)
        return vectors, self.head(vectors)

    def embed_pictures(self, pictures: NDArray[np.uint8], progress: bool = False) -> Features:
        """Features of (n, size, size) uint8 pictures, 255 = paper."""
        vectors, probabilities, scribble = [], [], []
        starts = range(0, len(pictures), BATCH)
        with torch.inference_mode():
            for start in tqdm(starts, "judge", disable=not progress or len(starts) < 8):
                ink = as_ink(pictures[start : start + BATCH])
                vector, logits = self(ink)
                vectors.append(vector.relu().double().numpy())
                known = len(self.classes)
                probabilities.append(logits[:, :known].double().softmax(-1).numpy())
                scribble.append(logits.double().softmax(-1)[:, known:].sum(-1).numpy())
        return Features(
            np.concatenate(vectors or [np.zeros((0, self.features))]),
            np.concatenate(probabilities or [np.zeros((0, len(self.classes)))]),
            self.classes,
            np.concatenate(scribble or [np.zeros(0)]),
            self.whitening.double().numpy(),
        )

    def whiten(self, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        """Learn the whitening from (n, size, size) pictures and their class numbers (n,).

        Directions of hardly any spread count as having a tenth of the mean variance.
        """
        vectors = self.embed_pictures(pictures).vectors
        for label in np.unique(labels):
            vectors[labels == label] -= vectors[labels == label].mean(axis=0)
        variance, axes = np.linalg.eigh(vectors.T @ vectors / len(vectors))
        root = axes / np.sqrt(variance + 0.1 * variance.mean()) @ axes.T
        self.whitening.copy_(torch.from_numpy(root))

    def embed(self, sketches: Sequence[Sketch], progress: bool = False) -> Features:
        """Features of sketches, drawn by the one renderer at the judge's size and line width."""

        return self.embed_pictures(render_batch(sketches, self.size, width=self.width), progress)

    def save(self, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None) -> None:
        """Write weights (fp16) and a JSON header that rebuilds the network; ``record`` says how it
        was made."""
        header = {
            "classes": self.classes,
            "size": self.size,
            "width": self.width,
            "features": self.features,
            "record": dict(record or {}),
        }
        save_network(self, path, JUDGE_FORMAT, header)


def as_ink(pictures: NDArray[np.uint8]) -> Tensor:
    """(n, s, s) uint8 with 255 = paper to (n, 1, s, s) float32 with 1 = ink, channels last."""
    ink = 1.0 - torch.from_numpy(np.ascontiguousarray(pictures)).float().unsqueeze(1) / 255.0
    return ink.contiguous(memory_format=torch.channels_last)


def in_channels_last(judge: Judge) -> Judge:
    """The same network with the memory layout that convolutions are fastest in on a CPU."""
    return judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_judge(path: str | os.PathLike[str] | None = None) -> Judge:
    """The shipped judge, or one from ``path``; in evaluation mode, float32, frozen.

    Its ``identity`` is the SHA-256 of the file (first 12 digits): figures of two judges never mix.
    Its ``record`` says how it was trained.

    Raises:
        UserError: the file is missing, or is no judge.
    """
    file = JUDGE_WEIGHTS if path is None else path
    header, weights, identity = read_network(file, JUDGE_FORMAT, "judge")
    judge = restore(
        lambda: Judge(header["classes"], header["size"], header["width"], header["features"]),
        weights,
        file,
    )
    judge.identity, judge.record = identity, header.get("record", {})
    return in_channels_last(judge)
