"""Inception features, for those who have the weights; figures comparable with the literature's.

The network is the TensorFlow one of 2015 that FIDs are published on, as the TorchScript file
``inception-2015-12-05.pt`` of StyleGAN's metrics. We cannot ship it.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sketchknitter.errors import UserError
from sketchknitter.metrics.features import Features
from sketchknitter.raster import render_batch
from sketchknitter.sketch import Sketch

WEIGHTS = "inception-2015-12-05.pt"
VARIABLE = "SKETCHKNITTER_INCEPTION"
SIZE = 256  # the paper's rendering: 256 px, lines of int(0.025 * 256) = 6 px
WIDTH = 6 / 256
_BATCH = 32


def weights_path() -> Path:
    """Where the weights are looked for: ``$SKETCHKNITTER_INCEPTION``, else the user's cache."""
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "sketchknitter" / WEIGHTS


class Inception:
    """2048 pool features and 1008 class probabilities of drawings rendered as the paper did.

    Raises:
        UserError: the weights are absent, or are no such TorchScript file.
    """

    name = "fid_inception"
    classes: tuple[str, ...] = ()

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        file = Path(path) if path is not None else weights_path()
        if not file.is_file():
            raise UserError(
                f"{file}: no Inception weights; get {WEIGHTS} (StyleGAN's metrics, TorchScript) "
                f"and put it there or name it in ${VARIABLE}, or use --features judge"
            )
        try:
            with warnings.catch_warnings():  # the weights exist in this form only
                warnings.simplefilter("ignore", DeprecationWarning)
                self.network: Any = torch.jit.load(str(file), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{file}: not the TorchScript file {WEIGHTS} ({reason})") from None
        self.identity = hashlib.sha256(file.read_bytes()).hexdigest()[:12]

    def embed(self, sketches: Sequence[Sketch], progress: bool = False) -> Features:
        """Features (n, 2048) and probabilities (n, 1008)."""
        vectors, logits = [], []
        with torch.inference_mode():
            for start in tqdm(range(0, len(sketches), _BATCH), "Inception", disable=not progress):
                gray = render_batch(sketches[start : start + _BATCH], SIZE, width=WIDTH)
                pictures = torch.from_numpy(gray).unsqueeze(1).expand(-1, 3, -1, -1)
                vectors.append(self.network(pictures, return_features=True).double().numpy())
                logits.append(self.network(pictures).double().numpy())
        probabilities = np.concatenate(logits)
        probabilities /= probabilities.sum(axis=1, keepdims=True)  # softmax in float32
        return Features(np.concatenate(vectors), probabilities, ())
