"""A feature network that the processes of a ``torchrun`` evaluate together."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch.distributed as dist

from sketchknitter.errors import UserError
from sketchknitter.files import atomic
from sketchknitter.metrics.features import FeatureNetwork, Features
from sketchknitter.sketch import Sketch

BLOCK = 256  # drawings; whole batches of every network, so that all digits are those of one process


class SharedNetwork:
    """Drawings shared out by number: each process embeds its blocks, all get all features.

    Every process must ask for the same drawings in the same order.

    Args:
        network: the one that is shared; the same in every process.
        folder: that all processes see: finished blocks stand there until somebody removes it, and
            after a lost process they are not embedded again. None keeps nothing.
    """

    def __init__(self, network: FeatureNetwork, folder: Path | None = None) -> None:
        self.network, self.folder = network, folder
        self.name, self.identity, self.classes = network.name, network.identity, network.classes
        if folder is not None:
            folder.mkdir(exist_ok=True)

    def embed(self, sketches: Sequence[Sketch], progress: bool = False) -> Features:
        """As the network's own.

        Raises:
            UserError: a kept block is damaged.
        """
        starts = range(0, len(sketches), BLOCK)
        if len(starts) < 2:
            return self.network.embed(sketches, progress)
        rank, world = dist.get_rank(), dist.get_world_size()
        mine = [self._block(sketches[a : a + BLOCK]) for a in starts[rank::world]]
        shares: list[list[Features]] = [[] for _ in range(world)]
        dist.all_gather_object(shares, mine)
        parts = [shares[i % world][i // world] for i in range(len(starts))]
        scribbles = [part.scribble for part in parts if part.scribble is not None]
        return replace(
            parts[0],
            vectors=np.concatenate([part.vectors for part in parts]),
            probabilities=np.concatenate([part.probabilities for part in parts]),
            scribble=np.concatenate(scribbles) if scribbles else None,
        )

    def _block(self, sketches: Sequence[Sketch]) -> Features:
        if self.folder is None:
            return self.network.embed(sketches)
        path = self.folder / f"{self._key(sketches)}.npz"
        if path.exists():
            return _read(path)
        found = self.network.embed(sketches)
        arrays = {
            "vectors": found.vectors,
            "probabilities": found.probabilities,
            "classes": np.array(found.classes, str),
            "scribble": found.scribble,
            "whitening": found.whitening,
        }
        with atomic(path) as f:
            np.savez(f, allow_pickle=False, **{k: v for k, v in arrays.items() if v is not None})
        return found

    def _key(self, sketches: Sequence[Sketch]) -> str:
        digest = hashlib.sha256(self.identity.encode())
        for sketch in sketches:
            digest.update(f"{len(sketch.strokes)} ".encode())
            for stroke in sketch.strokes:
                digest.update(f"{len(stroke)} ".encode())
                digest.update(np.ascontiguousarray(stroke, np.float64).tobytes())
        return digest.hexdigest()[:32]


def _read(path: Path) -> Features:
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in file.files}
        return Features(
            kept["vectors"],
            kept["probabilities"],
            tuple(kept["classes"].tolist()),
            kept.get("scribble"),
            kept.get("whitening"),
        )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: a damaged share ({error}); remove it and go on") from None
