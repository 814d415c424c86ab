"""Training batches as a pure function of (seed, iteration): nothing to store, nothing to resume."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from sketchknitter.data import order
from sketchknitter.data.batch import Batch
from sketchknitter.data.codec import Codec
from sketchknitter.data.shuffle import RowChange
from sketchknitter.errors import SettingError
from sketchknitter.seeds import Stream, stream


class Drawings(Protocol):
    """What the loader needs of a prepared split."""

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def take(self, indices: ArrayLike) -> list[np.ndarray]: ...

    def lengths_of(self, indices: ArrayLike) -> np.ndarray: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class Loader:
    """Batches of similar length, in an order that depends on the seed and the epoch alone.

    Each epoch is a fresh permutation; pools of ``pool`` batches are sorted by length before they
    are cut, which removes most padding, and the batches are then shuffled. Of more than
    ``order.WHOLE`` drawings one pool after the other is made, so that neither time nor memory
    depends on how many there are; batches are then shuffled within their pool.

    Args:
        data: drawings as stroke-3 rows.
        codec: to encode them.
        batch_size: of the whole run; every rank takes its share.
        classes: label index of "no label".
        seed: of order and augmentation.
        augment: changes each drawing's rows, with a random stream of its own; None leaves them.
        points: pad every batch to so many model points; 0 pads to its longest drawing.
        rank, world: this process's place; rank r takes drawings r, r + world, … of each batch.

    Raises:
        UserError: fewer drawings than one batch, or a batch that ranks cannot share evenly.
    """

    data: Drawings
    codec: Codec
    batch_size: int
    classes: int
    seed: int = 0
    augment: RowChange | None = None
    pool: int = 24
    points: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if len(self.data) < self.batch_size:
            raise SettingError(
                "batch_size",
                f"must be lower, or drawings be added: {len(self.data)} training drawings are fewer"
                f" than one batch of {self.batch_size}",
            )
        if self.batch_size % self.world:
            raise SettingError(
                "batch_size", f"{self.batch_size} is not a multiple of {self.world} processes"
            )

    @property
    def batches_per_epoch(self) -> int:
        return len(self.data) // self.batch_size

    def indices(self, iteration: int) -> np.ndarray:
        """Which drawings the whole run sees at ``iteration``, (batch_size,)."""
        epoch, place = divmod(iteration, self.batches_per_epoch)
        if len(self.data) <= order.WHOLE:
            return self._epoch(epoch)[place]
        number, place = divmod(place, self.pool)
        return self._pool(epoch, number)[place]

    @lru_cache(maxsize=2)  # noqa: B019 - loaders live as long as the process
    def _epoch(self, epoch: int) -> np.ndarray:
        rng = stream(self.seed, Stream.ORDER, epoch)
        count = self.batches_per_epoch
        shuffled = rng.permutation(len(self.data))[: count * self.batch_size]
        pools = np.arange(len(shuffled)) // (self.pool * self.batch_size)
        by_length = np.lexsort((self.data.lengths_of(shuffled), pools))
        batches = shuffled[by_length].reshape(count, self.batch_size)
        return batches[rng.permutation(count)]

    @lru_cache(maxsize=2)  # noqa: B019
    def _pool(self, epoch: int, number: int) -> np.ndarray:
        self.data.release()  # what the pools before have read
        shuffle = order.Permutation.random(len(self.data), stream(self.seed, Stream.ORDER, epoch))
        first = number * self.pool
        last = min(first + self.pool, self.batches_per_epoch)
        drawings = shuffle(np.arange(first * self.batch_size, last * self.batch_size))
        by_length = np.argsort(self.data.lengths_of(drawings), kind="stable")
        batches = drawings[by_length].reshape(last - first, self.batch_size)
        return batches[stream(self.seed, Stream.ORDER, epoch, number).permutation(last - first)]

    def drawings(self, iteration: int) -> tuple[list[np.ndarray], np.ndarray]:
        """This rank's augmented stroke-3 rows at ``iteration``, and their labels (b,) int64."""
        mine = range(self.rank, self.batch_size, self.world)
        chosen = self.indices(iteration)[self.rank :: self.world]
        rows = self.data.take(chosen)
        if self.augment is not None:
            rows = [
                self.augment(r, stream(self.seed, Stream.AUGMENTATION, iteration, j))
                for r, j in zip(rows, mine, strict=True)
            ]
        labels = self.data.labels[chosen].astype(np.int64)
        labels[labels < 0] = self.classes
        return rows, labels

    def __call__(self, iteration: int) -> Batch:
        """This rank's batch at ``iteration``."""
        rows, labels = self.drawings(iteration)
        return self.codec.encode(rows, labels, self.points)
