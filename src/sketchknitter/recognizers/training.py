"""How the small classifiers learn: judge, guide and outlook differ in what they see, not in this.

Each is a :class:`Lesson`; :func:`teach` runs it through the one trainer, keeps the averaged weights
that do best on the validation split, and writes them. The same recipe and seed give the same file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.data.dataset import is_prepared
from sketchknitter.data.prepare import open_data
from sketchknitter.data.sides import drawings_of, read_splits
from sketchknitter.errors import UserError
from sketchknitter.files import STATE, described_by, read_tensors, write_tensors
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.sketch import Sketch
from sketchknitter.training.objective import Batch, Loss, Streams
from sketchknitter.training.optimizers import one_cycle
from sketchknitter.training.run import Run, Saved
from sketchknitter.training.trainer import Trainer, Update

BEST = "best.safetensors"


@dataclass(frozen=True)
class Examples:
    """A batch: what the network sees (pictures or point sequences), labels and damage.

    Attributes:
        seen: (B, …).
        label: class numbers, (B,).
        damage: (B, k); k may be 0.
    """

    seen: Tensor
    label: Tensor
    damage: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, part: slice) -> Examples:
        return Examples(self.seen[part], self.label[part], self.damage[part])

    def to(self, device: torch.device | str) -> Examples:
        return Examples(self.seen.to(device), self.label.to(device), self.damage.to(device))


class Lesson(Protocol):
    """What one of the networks learns, and from what."""

    classes: tuple[str, ...]
    count: int  # examples of an epoch

    @property
    def network(self) -> nn.Module: ...

    def examples(self, chosen: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> Batch:
        """Examples ``chosen`` (b,) of 0 … count - 1, each varied by a random stream of its own."""
        ...

    def loss(self, batch: Any, streams: Streams) -> Loss: ...

    def score(self) -> float:
        """On the validation split; higher is better. The network is in evaluation mode."""
        ...

    def finish(self) -> Mapping[str, Any]:
        """What remains to be done with the best weights; figures on the test split."""
        ...

    def save(self, path: Path, record: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Epochs:
    """Batches as a pure function of the update: every example once, shuffled, then again."""

    lesson: Lesson
    config: TrainingConfig

    @property
    def length(self) -> int:
        """Updates of an epoch."""
        return self.lesson.count // self.config.batch_size

    def __call__(self, iteration: int) -> Batch:
        epoch, k = divmod(iteration, self.length)
        size, seed = self.config.batch_size, self.config.seed
        order = stream(seed, Stream.ORDER, epoch).permutation(self.lesson.count)
        chosen = order[k * size : (k + 1) * size]
        rngs = [stream(seed, Stream.EXAMPLE, iteration, j) for j in range(size)]
        return self.lesson.examples(chosen, rngs)


class BestWeights:
    """Keeps the averaged weights of the save that scored best."""

    def __init__(self, trainer: Trainer[Any], lesson: Lesson) -> None:
        self.trainer, self.lesson = trainer, lesson
        self.scores: list[float] = []
        self.weights: dict[str, Tensor] = {}

    def save(self, folder: Path, brief: bool) -> Saved:
        if brief and self.weights:
            return Saved()
        with self.trainer.emas[0].applied(self.trainer.network):
            self.trainer.network.eval()
            self.scores.append(round(self.lesson.score(), 4))
        if self.scores[-1] >= max(self.scores):
            self.weights = self.trainer.weights()
        header = {"format": 1, "kind": "best weights", "scores": self.scores}
        write_tensors(folder / BEST, self.weights, header)
        return Saved({"valid_score": self.scores[-1]}, f"{self.scores[-1]} on held-out drawings")

    def resume(self, folder: Path) -> None:
        self.weights, header = read_tensors(folder / BEST)
        with described_by(folder / BEST):
            self.scores = [float(score) for score in header["scores"]]


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    """AdamW that decays matrices and leaves biases and norms alone."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    )


def teach(
    make: Callable[[], Lesson],
    config: TrainingConfig,
    out: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    record: Mapping[str, Any] | None = None,
    report: Callable[[Update], object] = lambda update: None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], object] = lambda line: None,
) -> dict[str, Any] | None:
    """Train for ``config.iterations`` updates and write the best weights to ``out``.

    Args:
        make: the lesson with its untrained network; called under the seed.
        folder: of the run, so that it can be resumed; None keeps nothing but ``out``.
        resume: go on with the run in ``folder``.
        record: goes into the file's header.
        report, stop, say: as in :class:`~sketchknitter.training.run.Run`.

    Returns:
        The record that the file's header carries; None when ``stop`` ended it.

    Raises:
        UserError: fewer examples than a batch, a run in ``folder`` that is not resumed.
    """
    torch.manual_seed(config.seed)
    lesson = make()
    config = replace(config, batch_size=min(config.batch_size, lesson.count))
    source = Epochs(lesson, config)
    trainer = Trainer(
        lesson,
        source,
        config,
        identity={"classes": list(lesson.classes), "examples": lesson.count},
        optimizer=adamw if config.optimizer == "adamw" else None,
        course=one_cycle(config.lr),
    )
    best = BestWeights(trainer, lesson)
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        run = Run(trainer, Path(place), best, save_interval=source.length, say=say)
        if (run.folder / STATE).exists():
            if not resume:
                run.close()
                raise UserError(f"{place} holds a run; go on with it, or name another folder")
            run.resume()
        if not run.go(stop=stop, report=report):
            return None
    trainer.network.load_state_dict(best.weights)
    trainer.network.eval()
    made = {
        "updates": trainer.iteration,
        "batch": config.batch_size,
        "lr": config.lr,
        "optimizer": config.optimizer,
        "precision": config.precision,
        "seed": config.seed,
        "valid_score": max(best.scores),
        "valid_curve": best.scores,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    made |= {**lesson.finish(), **(record or {})}
    lesson.save(Path(out), made)
    return made


def go_on(network: nn.Module, earlier: nn.Module | None) -> dict[str, Any]:
    """Give ``network`` the weights of an ``earlier`` one, if there is one.

    Returns:
        What the record of the new run says of the earlier one.

    Raises:
        UserError: they know other classes.
    """
    if earlier is None:
        return {}
    if earlier.classes != network.classes:
        raise UserError("the weights to start from know other classes than the drawings show")
    network.load_state_dict(earlier.state_dict())
    return {"start": earlier.record}


@dataclass(frozen=True)
class Splits:
    """The three splits as sketches with class numbers.

    Attributes:
        fingerprint: of the prepared set that they come from; else empty.
    """

    classes: tuple[str, ...]
    train: list[Sketch]
    valid: list[Sketch]
    test: list[Sketch]
    fingerprint: str = ""

    @classmethod
    def open(cls, paths: Sequence[str | os.PathLike[str]]) -> Splits:
        """Read a folder or file with splits of its own, or split several files.

        Raises:
            UserError: nothing readable there, drawings without label, or an empty split.
        """
        path = ", ".join(map(str, paths))
        if len(paths) == 1:
            splits = read_splits(paths[0], progress=True)
        else:
            splits = drawings_of(open_data(paths))
        labels = {s.label for part in splits.values() for s in part}
        classes = tuple(sorted(label for label in labels if label is not None))
        if None in labels or len(classes) < 2 or not all(splits.values()):
            raise UserError(
                f"{path}: a recognizer needs labels on every drawing, two classes, and drawings in "
                "train, valid and test"
            )
        prepared = len(paths) == 1 and is_prepared(path)
        return cls(classes, **splits, fingerprint=open_data(path).fingerprint if prepared else "")

    def numbers(self, sketches: Sequence[Sketch]) -> NDArray[np.int64]:
        """Class numbers of labeled sketches."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[sketch.label or ""] for sketch in sketches])

    def record(self) -> dict[str, Any]:
        return {
            "drawings": len(self.train),
            "classes": len(self.classes),
            **({"data": self.fingerprint} if self.fingerprint else {}),
        }
