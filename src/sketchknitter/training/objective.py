"""What a trainer needs of a network: the loss of a batch, as sums and counts for each sketch.

:class:`~sketchknitter.training.trainer.Trainer` and :class:`~sketchknitter.training.run.Run` do the
rest for any objective: optimizer, averaged weights, gradient accumulation, mixed precision, many
processes, exact resume, log and previews. An objective in ten lines::

    class NextPoint:
        def __init__(self) -> None:
            self.network = nn.Linear(2, 2)

        def loss(self, batch: Batch, streams: Streams) -> Loss:
            rngs = streams.each(Stream.NOISE)
            noise = torch.stack([torch.tensor(rng.normal(size=2)) for rng in rngs])
            shifted = batch.xy[:, :-1] + noise[:, None].to(batch.xy)
            error = (self.network(shifted) - batch.xy[:, 1:]) ** 2
            each = error.sum(dim=-1) * batch.mask[:, 1:]
            return Loss(each.sum(dim=1), batch.mask[:, 1:].sum(dim=1))

    trainer = Trainer(NextPoint(), loader, TrainingConfig(iterations=1000), device="cpu")
    for update in trainer.run():
        print(update.iteration, update.loss)

``loader(iteration)`` is this process's share of the batch of that update: anything with ``len``,
``.to(device)`` and, for microbatches, slices. It must be a pure function of the iteration, so that
a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.seeds import Stream, stream


@dataclass(frozen=True)
class Loss:
    """Sums and counts, so that any split of a batch adds up to the same mean.

    Attributes:
        total: summed loss of every sketch, (B,).
        count: what it was summed over, (B,), such as points; the mean over all of a batch's is what
            is minimized. Ones for a mean over sketches.
        weight: how much each sketch counts in the gradient, (B,), for importance sampling; the loss
            that is reported stays unweighted. None weighs all alike.
    """

    total: Tensor
    count: Tensor
    weight: Tensor | None = None

    @property
    def per_sketch(self) -> Tensor:
        """Mean loss of every sketch, (B,)."""
        return self.total / self.count.clamp(min=1)


@dataclass(frozen=True)
class Streams:
    """The randomness of one update: keyed, so that it depends on neither process nor microbatch.

    Attributes:
        seed: of the run.
        update: updates done before this one.
        rows: which drawings of the whole batch these are, (b,).
        size: drawings of the whole batch, over all processes.
    """

    seed: int
    update: int
    rows: NDArray[np.int64]
    size: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Streams:
        return Streams(self.seed, self.update, self.rows[part], self.size)

    def each(self, purpose: Stream) -> list[np.random.Generator]:
        """One stream for each of these drawings."""
        return [stream(self.seed, purpose, self.update, int(j)) for j in self.rows]

    def whole(self, purpose: Stream) -> np.random.Generator:
        """One stream for the whole batch: draw ``size`` numbers and take those of ``rows``."""
        return stream(self.seed, purpose, self.update)


class Batch(Protocol):
    """This process's share of an update's drawings."""

    def __len__(self) -> int: ...

    def to(self, device: Any) -> Any: ...


class Objective(Protocol):
    """A network and the loss that it is trained for."""

    @property
    def network(self) -> nn.Module:
        """What is trained, averaged, saved and resumed."""
        ...

    def loss(self, batch: Any, streams: Streams) -> Loss:
        """The loss of each sketch of ``batch``, on the network's device.

        ``streams`` are those of the batch's drawings, in the same order; ``streams.update`` counts
        the updates done before, for weights that change in the course of training.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """An objective that learns something of its own on the way, such as which levels cost most."""

    def observe(self, streams: Streams, losses: NDArray[np.float64]) -> None:
        """Learn from the mean loss of every sketch of the whole batch, in its order, (size,)."""
        ...

    def state(self) -> Mapping[str, NDArray[Any]]:
        """What a resumed run needs, by names of its own."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None: ...
