"""This library's own rows of the results table: trained, with recognizability, or given as a file.

They stand in this package because they complete and heal as well as draw.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sketchknitter.data.augment import Augment
from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.shuffle import SHUFFLES, Chain, RowChange
from sketchknitter.diffusion.sampler import Frame
from sketchknitter.editing.complete import complete
from sketchknitter.editing.heal import heal_all
from sketchknitter.errors import UserError
from sketchknitter.files import LOG, MODEL
from sketchknitter.progress import Progress, silent
from sketchknitter.recognizers.picture import GUIDE_WEIGHTS
from sketchknitter.seeds import Stream, stream, taken_turn
from sketchknitter.settings import (
    AugmentConfig,
    BackboneConfig,
    DiffusionConfig,
    OptimConfig,
    Settings,
    StageConfig,
)
from sketchknitter.sketch import Sketch
from sketchknitter.systems.contract import Budget, System, TrainRecord, check_task
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig
from sketchknitter.systems.sketchknitter.hub import locate
from sketchknitter.systems.sketchknitter.model import DrawingModel, SamplingProgress, make_settings
from sketchknitter.systems.sketchknitter.recognizability import run_stage
from sketchknitter.systems.sketchknitter.run import DenoiserRun, adapted, within
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer
from sketchknitter.systems.trainable import BETWEEN, Trainable
from sketchknitter.training.optimizers import cosine_over_share
from sketchknitter.training.run import Log

TINY = BackboneConfig(widths=(16, 24), num_res_blocks=1, attention_levels=(1,), num_heads=2)


# -- drawing ---------------------------------------------------------------------------------------
class Drawer:
    """A :class:`contract.Generator` over a model; completes and heals by the modules beside.

    Attributes:
        evaluations: of the network for single drawings, so far; edits are not counted.
    """

    def __init__(self, model: DrawingModel) -> None:
        self.model = model
        self.evaluations = 0

    def generate(
        self,
        n: int,
        *,
        labels: Sequence[str] | None = None,
        source: Sequence[Sketch] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        progress: Progress | None = None,
        task: str = "draw",
        **settings: Any,
    ) -> Iterator[Sketch]:
        """See :class:`contract.Generator`.

        Args:
            task: "draw", "complete" or "heal".
            **settings: fields of :class:`settings.Settings`; of an edit, arguments of
                :func:`editing.complete.complete` (``where``) or :func:`editing.heal.heal_all`
                (``strength``, ``anchor``, ``label``); with ``anew`` a healed drawing is replaced
                by a new one of the class that was guessed.
        """
        check_task(task, ("draw", "complete", "heal"), "sketchknitter", source is not None)
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        if source is None:
            return self._drawn(n, labels, seed, batch_size, progress, make_settings(settings))
        if len(source) != n:
            raise UserError(f"{len(source)} drawings to {task}, and {n} asked for")
        tell = progress or silent
        if task == "heal":
            return self._healed(source, labels, seed, tell, settings)
        return self._completed(source, labels, seed, tell, settings)

    def _drawn(
        self,
        n: int,
        labels: Sequence[str] | None,
        seed: int,
        batch_size: int,
        progress: Progress | None,
        settings: Settings,
    ) -> Iterator[Sketch]:
        def tell(at: SamplingProgress) -> None:
            if progress is not None:
                under_way = at.evaluations * min(batch_size, n - at.done)
                progress("drawings", min(n, at.done + under_way), n)

        def watch(numbers: Any, frame: Frame) -> None:
            self.evaluations += len(frame.rows)

        label: Any = None if labels is None or self._as_usual(labels, seed) else list(labels)
        return self.model.stream(
            label,
            n,
            seed=seed,
            batch_size=batch_size,
            settings=settings,
            progress=tell,
            watch=watch,
        )

    def _as_usual(self, labels: Sequence[str], seed: int) -> bool:
        """Whether these are the labels that the model draws when it is asked for no class."""
        usual, names = mixed(self.model.usual_classes, len(labels), seed), list(labels)
        return names == usual

    def _healed(
        self,
        source: Sequence[Sketch],
        labels: Sequence[str] | None,
        seed: int,
        tell: Progress,
        settings: dict[str, Any],
    ) -> Iterator[Sketch]:
        meant = [None] * len(source) if labels is None else list(labels)
        bad = [s.with_label(label) for s, label in zip(source, meant, strict=True)]
        own = dict(settings)
        anew = own.pop("anew", False)
        for i, healed in enumerate(heal_all(self.model, bad, seed=seed, **own)):
            if anew:
                (healed,) = self.model.sample(healed.label, 1, seed=seed * len(bad) + i)
            yield healed
        tell("drawings", len(source), len(source))

    def _completed(
        self,
        source: Sequence[Sketch],
        labels: Sequence[str] | None,
        seed: int,
        tell: Progress,
        settings: dict[str, Any],
    ) -> Iterator[Sketch]:
        first = 0
        while first < len(source):
            # several endings of one drawing are made together: they are planned to differ
            last = first + 1
            while last < len(source) and source[last] is source[first]:
                last += 1
            label = "guess" if labels is None else labels[first]
            options: dict[str, Any] = {"label": label, "seed": seed * len(source) + first}
            options |= settings
            yield from complete(self.model, source[first], last - first, **options)
            tell("drawings", last, len(source))
            first = last


def mixed(classes: Sequence[str], n: int, seed: int) -> list[str]:
    """Labels of ``n`` drawings that share all classes evenly: each once in random order, again."""
    return [classes[taken_turn(seed, i, len(classes))] for i in range(n)]


class _Loads:
    """What all three have in common."""

    def load(self, folder: Path, device: str = "cpu") -> Drawer:
        """The model of ``folder`` (:meth:`contract.System.load`)."""
        return Drawer(DrawingModel.from_pretrained(folder / MODEL, device))


# -- trained here ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Trained(_Loads, Trainable):
    """``kind = "sketchknitter"``: a denoiser trained for the table.

    Attributes:
        shuffle: a change of training and validation drawings, one of ``data.shuffle.SHUFFLES``.
        budget: in place of ``optim``'s number of updates.
    """

    network: BackboneConfig = field(default_factory=BackboneConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    codec: Codec = field(default_factory=Codec)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    shuffle: str = ""
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if self.shuffle and self.shuffle not in SHUFFLES:
            raise UserError(f"no shuffle {self.shuffle!r}; one of: {', '.join(SHUFFLES)}")
        if self.optim.precision == "auto":  # a table comes out alike whatever is faster today
            optim = dataclasses.replace(self.optim, precision="float32")
            object.__setattr__(self, "optim", optim)

    @property
    def usual(self) -> int:
        """Updates where no budget is given."""
        return self.optim.iterations

    def small(self) -> Trained:
        """The same recipe with a tiny network, for two updates."""
        kept = self.network.use_scale_shift_norm
        tiny = dataclasses.replace(TINY, backbone=self.network.backbone, use_scale_shift_norm=kept)
        network = self.network if self.network.backbone == "official" else tiny
        optim = dataclasses.replace(self.optim, microbatch=-1)
        budget = Budget(updates=2, batch_size=4)
        return dataclasses.replace(self, network=network, optim=optim, budget=budget)

    def run(
        self,
        data: PreparedSet,
        folder: Path,
        *,
        start: Path | None = None,
        seed: int = 0,
        device: str = "cpu",
        save_interval: int = 0,
        log_interval: int = 0,
    ) -> DenoiserRun:
        """A training in ``folder``, which has not begun (:meth:`Trainable.run`)."""
        trainer, budget = self._trainer(data, start, seed, device), self.spent
        seldom = budget.updates >= BETWEEN or budget.seconds
        return DenoiserRun(
            trainer,
            folder,
            save_interval=save_interval or self.save_interval,
            log_interval=log_interval or (BETWEEN if seldom else 1),
            record={"parameters": sum(p.numel() for p in trainer.denoiser.parameters())},
        )

    def over(self, folder: Path) -> bool:
        """Never: the last save is made again, as a kill may have come in the midst of it."""
        return False

    def record(self, folder: Path) -> TrainRecord:
        """What a report says of the training in ``folder``."""
        made, log = Checkpoint.load(folder / MODEL).record, Log(folder / LOG).read()
        return TrainRecord(
            made["parameters"],
            made["updates"],
            made["batch_size"],
            made["seconds"],
            made.get("cpu", 0.0),
            made["threads"],
            log.curve("loss"),
            log.curve("valid_loss"),
        )

    def _trainer(
        self, data: PreparedSet, start: Path | None, seed: int, device: str
    ) -> DenoiserTrainer:
        budget = self.spent
        data, _ = within(data, self.codec.max_rows)
        change: AugmentConfig | RowChange = self.augment
        if self.shuffle:  # held-out loss and pens are those of shuffled drawings
            shuffle = SHUFFLES[self.shuffle]
            data = dataclasses.replace(data, valid=shuffled(data.valid, shuffle))
            after = Augment.of(self.augment)
            change = Chain((shuffle, after)) if after is not None else shuffle
        optim = dataclasses.replace(
            self.optim,
            iterations=budget.updates or 10**9,
            batch_size=budget.batch_size or self.optim.batch_size,
            seed=self.optim.seed + seed,
        )
        model, weights = ModelConfig(self.network, self.diffusion, self.codec), None
        if start is not None:
            model, weights = adapted(Checkpoint.load(start / MODEL), data.classes)
        trainer = DenoiserTrainer(data, model, optim, change, device, weights)
        trainer.share = budget.share
        if budget.seconds:
            trainer.course = cosine_over_share(optim.lr, optim.warmup)
        return trainer


def shuffled(split: Split, change: RowChange) -> Split:
    """A split whose drawings were changed, once and for all."""
    rows = [change(split.rows(i), stream(0, Stream.SHUFFLE, i)) for i in range(len(split))]
    ends = np.cumsum([len(r) for r in rows], dtype=np.int64)
    starts = ends - np.array([len(r) for r in rows], dtype=np.int64)
    flat = np.concatenate(rows) if rows else np.zeros((0, 3))
    return Split(
        split.name, flat.astype(np.float32), starts, ends, np.asarray(split.labels), split.classes
    )


# -- with recognizability --------------------------------------------------------------------------
@dataclass(frozen=True)
class Staged(StageConfig, _Loads):
    """``kind = "recognizability"``: a model given the recognizability stage; ``of`` names it."""

    budget: Budget = field(default_factory=Budget)

    def small(self) -> Staged:
        """The same recipe on a handful of drawings."""
        return dataclasses.replace(
            self, drawings=16, trajectories=8, levels=4, updates=2, stage_batch=8, hidden=8
        )

    def reads(self) -> list[Path]:
        """The guide, which says how recognizable a drawing is."""
        return [GUIDE_WEIGHTS]

    def train(
        self,
        data: PreparedSet,
        folder: Path,
        *,
        start: Path | None = None,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> TrainRecord:
        """Run the stage on a copy of the model in ``start``."""
        if start is None:
            raise UserError('kind = "recognizability" starts from a model: say which with of')
        begun, cpu = time.perf_counter(), time.process_time()
        path = folder / MODEL
        shutil.copyfile(start / MODEL, path)
        known = {f.name for f in dataclasses.fields(StageConfig)}
        options = {k: v for k, v in dataclasses.asdict(self).items() if k in known}
        text = run_stage(
            path,
            data,
            config=StageConfig(**options),
            seed=seed,
            report=lambda what, share: progress(what, share, 1.0),
        )
        (folder / "stage.txt").write_text(text + "\n", encoding="utf-8")
        made = Checkpoint.load(path)
        return TrainRecord(
            sum(w.numel() for w in made.weights.values()),
            made.record.get("updates", 0),
            made.record.get("batch_size", 0),
            round(time.perf_counter() - begun, 1),
            round(time.process_time() - cpu, 1),
            made.record.get("threads", 0),
        )


# -- given as a file -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Pretrained(_Loads):
    """``kind = "pretrained"``: a model file, a folder, or (nothing) the shipped weights."""

    source: str = ""
    budget: Budget = field(default_factory=Budget)

    def small(self) -> System:
        """A tiny model with everything that draws, made by the code as it is."""
        return _Everything()

    def reads(self) -> list[Path]:
        """The file itself."""
        return [locate(self.source or None)]

    def train(
        self,
        data: PreparedSet,
        folder: Path,
        *,
        start: Path | None = None,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> TrainRecord:
        """Copy the file."""
        shutil.copyfile(locate(self.source or None), folder / MODEL)
        made = Checkpoint.load(folder / MODEL)
        return TrainRecord(
            sum(w.numel() for w in made.weights.values()),
            made.record.get("updates", 0),
            made.record.get("batch_size", 0),
            made.record.get("seconds", 0.0),
            threads=made.record.get("threads", 0),
        )


@dataclass(frozen=True)
class _Everything(_Loads):
    """A tiny model and its recognizability: what a given file stands for in a probe."""

    budget: Budget = field(default_factory=lambda: Budget(updates=2))

    def train(self, data: PreparedSet, folder: Path, **options: Any) -> TrainRecord:
        base = folder / "base"
        base.mkdir(exist_ok=True)
        Trained().small().train(data, base)
        return Staged().small().train(data, folder, start=base)
