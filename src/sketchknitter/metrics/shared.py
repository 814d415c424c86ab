"""A feature network that the processes of a ``torchrun`` evaluate together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch.distributed as dist

from sketchknitter.metrics.features import FeatureNetwork, Features
from sketchknitter.sketch import Sketch

BLOCK = 256  # drawings; whole batches of every network, so that all digits are those of one process


class SharedNetwork:
    """Drawings shared out by number: each process embeds its blocks, all get all features.

    Every process must ask for the same drawings in the same order.

    Args:
        network: the one that is shared; the same in every process.
    """

    def __init__(self, network: FeatureNetwork) -> None:
        self.network = network
        self.name, self.identity, self.classes = network.name, network.identity, network.classes

    def embed(self, sketches: Sequence[Sketch], progress: bool = False) -> Features:
        """As the network's own."""
        starts = range(0, len(sketches), BLOCK)
        if len(starts) < 2:
            return self.network.embed(sketches, progress)
        rank, world = dist.get_rank(), dist.get_world_size()
        mine = [self.network.embed(sketches[a : a + BLOCK]) for a in starts[rank::world]]
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
