"""Training of one network by the common trainer and run, for systems that bring just the network.

A system says what drawings become, what the loss is, how its authors learned (:class:`Habits`), and
how it draws; batches, budgets, averaged weights, held-out losses, saving, resuming bit for bit and
the record for reports are the same for all.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.data.augment import Augment
from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.loader import Loader
from sketchknitter.data.order import some
from sketchknitter.errors import UserError
from sketchknitter.files import LOG, MODEL
from sketchknitter.processes import place
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import AugmentConfig, TrainingConfig
from sketchknitter.systems.contract import Budget, Generator, Size, TrainRecord
from sketchknitter.systems.stored import Stored
from sketchknitter.systems.trainable import BETWEEN, PLOTTED, Trainable
from sketchknitter.training.objective import Loss, Streams
from sketchknitter.training.optimizers import Clip, Course, cosine_over_share
from sketchknitter.training.run import Log, Run, Saved
from sketchknitter.training.saving import finite, loss_words
from sketchknitter.training.trainer import Trainer

JUDGED = 256  # drawings of each split that a save measures the loss on

Rows = Sequence[NDArray[Any]]  # stroke-3 drawings, (n, 3) each, px


@dataclass(frozen=True)
class Habits:
    """How a network learns.

    Attributes:
        updates: where no budget is given.
        batch_size: drawings of an update.
        lr: learning rate of the default course (warm-up and a cosine to zero over the budget).
        weight_decay: AdamW's, decoupled.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights; 0 draws with the last ones.
        label_dropout: share of drawings learned from without their class.
        optimizer: made of the network, in place of AdamW.
        course: of the learning rate, in place of the default's.
        clipping: in place of that by the norm of all gradients together.
    """

    updates: int
    batch_size: int
    lr: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    label_dropout: float = 0.1
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None
    course: Course | None = None
    clipping: Clip | None = None

    def rate(self) -> Course:
        """The course of the learning rate; the default's is stretched over the budget."""
        return self.course or cosine_over_share(self.lr, warmup=100)


@dataclass(frozen=True)
class Encoded:
    """Drawings as a network takes them.

    Attributes:
        x: (B, N, C) float32, 0 or the system's own padding where padded.
        mask: points of the drawing, (B, N) bool.
        label: class indices, (B,); the number of classes means "no label".
    """

    x: Tensor
    mask: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> Encoded:
        return Encoded(self.x[part], self.mask[part], self.label[part])

    def to(self, device: Any) -> Encoded:
        return Encoded(self.x.to(device), self.mask.to(device), self.label.to(device))


class Learner(ABC):
    """A network, what drawings become for it, and its loss: the objective of one training.

    Attributes:
        network: what is trained.
        facts: JSON that drawing needs: px of a model unit, …
        extras: tensors that drawing needs: counts of lengths, …
    """

    network: nn.Module

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.extras: dict[str, Tensor] = {}

    @abstractmethod
    def encode(self, rows: Rows, labels: NDArray[np.int64]) -> Encoded:
        """Stroke-3 drawings in px, labels (B,) -> a batch."""

    @abstractmethod
    def loss(self, batch: Encoded, streams: Streams) -> Loss:
        """The loss of every drawing."""

    def finish(self, data: PreparedSet, over: bool) -> dict[str, Any]:
        """Learn what needs trained weights, such as where codes lie.

        The network has its averaged weights and is in evaluation mode.

        Args:
            over: whether the training is; before, something quick will do.

        Returns:
            Remarks for the report.
        """
        del data, over
        return {}


@dataclass(frozen=True)
class Source:
    """The batch of an update: a pure function of its number."""

    learner: Learner
    loader: Loader
    label_dropout: float

    def __call__(self, update: int) -> Encoded:
        loader = self.loader
        mine = np.arange(loader.rank, loader.batch_size, loader.world)
        chosen = loader.indices(update)[mine]
        rows: Rows = loader.data.take(chosen)
        if loader.augment is not None:
            streams = [stream(loader.seed, Stream.AUGMENTATION, update, int(j)) for j in mine]
            rows = [loader.augment(r, s) for r, s in zip(rows, streams, strict=True)]
        labels = np.asarray(loader.data.labels)[chosen].astype(np.int64)
        chances = stream(loader.seed, Stream.LABEL_DROP, update).random(loader.batch_size)[mine]
        labels[(labels < 0) | (chances < self.label_dropout)] = loader.classes
        return self.learner.encode(rows, labels)

    def plain(self, split: Split, limit: int = JUDGED, size: int = 64) -> Iterator[Encoded]:
        """Up to ``limit`` drawings of a split as they are, always the same ones."""
        chosen = some(stream(0, Stream.VALIDATION), len(split), limit)
        chosen = chosen[np.argsort(split.lengths_of(chosen), kind="stable")]
        for first in range(0, len(chosen), size):
            part = chosen[first : first + size]
            labels = np.asarray(split.labels)[part].astype(np.int64)
            labels[labels < 0] = self.loader.classes
            yield self.learner.encode(split.take(part), labels)


def kept(data: PreparedSet, fits: Callable[[NDArray[Any]], bool]) -> PreparedSet:
    """Training and validation drawings that ``fits`` says a system can take.

    Raises:
        UserError: no training drawing is left.
    """

    def of(split: Split) -> Split:
        good = np.array([fits(split.rows(i)) for i in range(len(split))], dtype=bool)
        if good.all():
            return split
        return split.where(good)

    out = dataclasses.replace(data, train=of(data.train), valid=of(data.valid))
    if not len(out.train):
        raise UserError(f"{data.path}: no training drawing that this system can take")
    return out


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse an option's value that is none of the known ones.

    Raises:
        UserError: says which there are.
    """
    if value not in known:
        raise UserError(f"no {name} {value!r}; one of: {', '.join(known)}")


def length_counts(lengths: NDArray[Any], labels: NDArray[Any], classes: int, most: int) -> Tensor:
    """How many drawings of each class have each number of rows, (classes + 1, most + 1).

    The last class counts all of them.
    """
    counts = np.zeros((classes + 1, most + 1), dtype=np.int32)
    known = np.asarray(labels) >= 0
    np.add.at(counts, (np.asarray(labels)[known].astype(int), np.asarray(lengths)[known]), 1)
    np.add.at(counts[classes], np.asarray(lengths), 1)
    return torch.from_numpy(counts)


# -- what is kept --------------------------------------------------------------------------------
class Products:
    """The model's file; losses at each full save, and what is learned last when all is done."""

    def __init__(
        self,
        system: LearnedSystem,
        trainer: Trainer[Learner],
        source: Source,
        data: PreparedSet,
    ) -> None:
        self.system, self.trainer, self.source, self.data = system, trainer, source, data
        self.losses: dict[str, float] = {}
        self.remarks: dict[str, Any] = {}

    def resume(self, folder: Path) -> None:
        """Nothing that a save would not find out again."""

    def save(self, folder: Path, brief: bool) -> Saved:
        """Write ``model.safetensors``; unless ``brief`` measure losses, and finish when done."""
        trainer, learner = self.trainer, self.trainer.objective
        if not brief:
            sets = {"train_loss": self.data.train, "valid_loss": self.data.valid}
            found = {k: trainer.held_out(self.source.plain(v)) for k, v in sets.items()}
            self.losses = finite(found)
        finished = trainer.done and not brief
        with trainer.emas[0].applied(trainer.network):
            trainer.network.eval()
            self.remarks = learner.finish(self.data, finished)
        self.stored(folder, self.losses, finished).save(folder / MODEL)
        if brief:
            return Saved()
        return Saved(self.losses, loss_words(self.losses))

    def stored(self, folder: Path, losses: Mapping[str, float], finished: bool) -> Stored:
        """The model as it stands."""
        trainer, learner = self.trainer, self.trainer.objective
        log = Log(folder / LOG)
        log.back_to(trainer.iteration)
        held_out = dict(log.curve("valid_loss"))
        if "valid_loss" in losses:
            held_out[float(trainer.iteration)] = losses["valid_loss"]
        record = TrainRecord(
            parameters=sum(p.numel() for p in trainer.network.parameters()),
            updates=trainer.iteration,
            batch_size=trainer.config.batch_size,
            seconds=round(trainer.seconds, 1),
            cpu=round(trainer.cpu, 1),
            threads=torch.get_num_threads(),
            losses=log.curve("loss"),
            held_out=tuple(sorted(held_out.items())),
            remarks=dict(self.remarks),
        )
        training = {
            "finished": finished,
            "drawings": len(self.data.train),
            "data": self.data.fingerprint,
            "seed": trainer.config.seed,
            "device": trainer.device.type,
            "torch": torch.__version__,
        }
        return Stored.of(
            self.system,
            self.data.classes,
            weights=trainer.weights(),
            extras=dict(learner.extras),
            facts={**learner.facts, "training": training},
            record=record,
        )


# -- systems -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LearnedSystem(Trainable):
    """A system whose network learns by the common trainer.

    Attributes:
        size: "published" or "cpu".
        budget: of training; nothing means the system's usual number of updates.
        augment: random changes of training drawings, the same as for every row of the table.
    """

    size: Size = "cpu"
    budget: Budget = field(default_factory=Budget)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    # -- what makes a system itself --------------------------------------------------------------
    @abstractmethod
    def habits(self, drawings: int = 1) -> Habits:
        """How it learns at its size, with so many training drawings."""

    @abstractmethod
    def fitting(self, data: PreparedSet) -> Callable[[NDArray[Any]], bool]:
        """Says of a drawing, stroke-3 in px, whether the system can take it."""

    @abstractmethod
    def learner(self, data: PreparedSet) -> Learner:
        """A fresh network for drawings that all fit."""

    @abstractmethod
    def generator(self, stored: Stored, device: str) -> Generator:
        """What draws with a trained network of this system's options."""

    # -- training --------------------------------------------------------------------------------
    @property
    def usual(self) -> int:
        """Updates where no budget is given."""
        return self.habits().updates

    def over(self, folder: Path) -> bool:
        """Whether the model in ``folder`` is the last one."""
        made = (folder / MODEL).exists()
        return made and bool(Stored.read(folder).facts.get("training", {}).get("finished"))

    def small(self) -> LearnedSystem:
        """The same recipe at its least size."""
        return dataclasses.replace(self, size="cpu", budget=Budget(updates=2, batch_size=4))

    def run(
        self,
        data: PreparedSet,
        folder: Path,
        *,
        start: Path | None = None,
        seed: int = 0,
        device: str = "cpu",
        save_interval: int = 0,
        log_interval: int = BETWEEN,
    ) -> Run:
        """A training in ``folder``, which has not begun (:meth:`Trainable.run`)."""
        if not len(data.train):
            raise UserError(f"{data.path}: no training drawings")
        data = kept(data, self.fitting(data))
        habits, budget = self.habits(len(data.train)), self.spent
        torch.manual_seed(seed)
        learner = self.learner(data)
        if start is not None:
            self.begin(learner.network, start, data)
        rank, world = place()
        size = min(budget.batch_size or habits.batch_size, len(data.train))
        size -= size % world
        config = TrainingConfig(
            iterations=budget.updates or 10**9,
            batch_size=size,
            lr=habits.lr,
            weight_decay=habits.weight_decay,
            clip=habits.clip,
            ema_rate=f"{habits.ema:g}",
            seed=seed,
        )
        loader = Loader(
            data.train,
            Codec("offset"),  # says nothing here: the learner encodes
            size,
            len(data.classes),
            seed=seed,
            augment=Augment.of(self.augment),
            rank=rank,
            world=world,
        )
        source = Source(learner, loader, habits.label_dropout)
        options = dataclasses.asdict(self)
        del options["budget"]
        trainer = Trainer(
            learner,
            source,
            config,
            device=device,
            identity={
                "system": f"{type(self).__module__}:{type(self).__qualname__}",
                "options": options,
                "data": data.fingerprint,
            },
            optimizer=habits.optimizer,
            course=habits.rate(),
            clip=habits.clipping,
            share=budget.share,
        )
        products = Products(self, trainer, source, data)
        return Run(
            trainer,
            folder,
            products,
            save_interval=save_interval or self.save_interval,
            log_interval=min(log_interval, max(1, (budget.updates or 8_000) // 2)),
            plotted=PLOTTED,
        )

    def record(self, folder: Path) -> TrainRecord:
        """What a report says of the training in ``folder``."""
        return Stored.read(folder).record

    # -- drawing ---------------------------------------------------------------------------------
    def load(self, folder: Path, device: str = "cpu") -> Generator:
        """What was trained in ``folder``, a folder or its file; its own options count.

        Raises:
            UserError: nothing there, damaged, or of another system.
        """
        stored = Stored.read(folder).check(type(self), folder)
        system = stored.rebuild()
        assert isinstance(system, LearnedSystem)
        return system.generator(stored, device)
