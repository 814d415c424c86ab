"""The kinds of model that this library itself is: trained here, scored, or given as a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sketchknitter.checkpoint import Checkpoint
from sketchknitter.config import (
    AugmentConfig,
    BackboneConfig,
    DiffusionConfig,
    ModelConfig,
    OptimConfig,
    Settings,
    StageConfig,
)
from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import SPLITS, PreparedSet, Split
from sketchknitter.data.shuffle import SHUFFLES, Chain, RowChange
from sketchknitter.diffusion.sampler import Frame
from sketchknitter.errors import UserError
from sketchknitter.experiments.declare import record
from sketchknitter.experiments.kinds import Drawn, Facts, Tick
from sketchknitter.model import Generator, Progress, SketchKnitter, _locate, make_settings
from sketchknitter.run import LOG, MODEL, STATE, Run, within
from sketchknitter.seeds import stream
from sketchknitter.train import Trainer

BACKWARD = 3.0  # an update costs about three evaluations of each of its drawings
SAVES, BETWEEN = 8, 25  # saves of each training, and updates between two at least
SHUFFLE, PROBE = 61, 62  # what a random stream is for
SHORT = 12  # evaluations that a behavior probe takes at most


@dataclass(frozen=True)
class Recipe:
    """The options of ``kind = "sketchknitter"``."""

    model: ModelConfig
    optim: OptimConfig
    change: AugmentConfig | RowChange
    shuffle: RowChange | None


def recipe(options: dict[str, Any], where: str = "options") -> Recipe:
    """Tables network, diffusion, codec, optim, augment and the name of a shuffle, as records.

    Raises:
        UserError: an unknown name.
    """
    groups: dict[str, type] = {
        "network": BackboneConfig,
        "diffusion": DiffusionConfig,
        "codec": Codec,
        "optim": OptimConfig,
        "augment": AugmentConfig,
    }
    if unknown := sorted(set(options) - {*groups, "shuffle"}):
        raise UserError(
            f"{where}: unknown name {unknown[0]!r}; one of: {', '.join(groups)}, shuffle"
        )
    made = {k: record(kind, options.get(k, {}), f"{where}.{k}") for k, kind in groups.items()}
    name = options.get("shuffle")
    if name is not None and name not in SHUFFLES:
        raise UserError(f"{where}: no shuffle {name!r}; one of: {', '.join(SHUFFLES)}")
    shuffle = SHUFFLES[name] if name is not None else None
    change: AugmentConfig | RowChange = made["augment"]
    if shuffle is not None:
        after = made["augment"].build()
        change = Chain((shuffle, after)) if after is not None else shuffle
    model = ModelConfig(made["network"], made["diffusion"], made["codec"])
    return Recipe(model, made["optim"], change, shuffle)


class Knitter:
    """``kind = "sketchknitter"``: a model trained for the table."""

    def check(self, options: dict[str, Any], where: str) -> None:
        recipe(options, where)

    def training_work(self, options: dict[str, Any]) -> float:
        optim = recipe(options).optim
        return BACKWARD * optim.iterations * optim.batch_size

    def drawing_work(self, settings: dict[str, Any]) -> float:
        made = make_settings(_values(settings))
        return made.steps * made.best_of * (1.0 if made.guidance == 1 else 1.8)

    def train(
        self,
        options: dict[str, Any],
        data: PreparedSet,
        folder: Path,
        start: Path | None,
        device: str,
        tick: Tick,
    ) -> None:
        made = recipe(options)
        data, _ = within(data, made.model.codec.max_rows)
        if made.shuffle is not None:  # held-out loss and pens are those of shuffled drawings
            data = dataclasses.replace(data, valid=shuffled(data.valid, made.shuffle))
        trainer = Trainer(data, made.model, made.optim, made.change, device)
        size = sum(p.numel() for p in trainer.denoiser.parameters())
        run = Run(
            trainer,
            folder,
            save_interval=max(BETWEEN, made.optim.iterations // SAVES),
            log_interval=BETWEEN,
            record={"parameters": size},
        )
        each = BACKWARD * made.optim.batch_size
        if (folder / STATE).exists():
            run.resume()
            tick(each * trainer.iteration)
        else:
            (folder / LOG).unlink(missing_ok=True)
        run.go(report=lambda record: tick(each))

    def facts(self, folder: Path) -> Facts:
        made = Checkpoint.load(folder / MODEL).record
        return Facts(
            made.get("parameters", 0),
            made.get("updates", 0),
            made.get("batch_size", 0),
            made.get("seconds", 0.0),
            made.get("threads", 0),
            curves(folder / LOG),
        )

    def load(self, folder: Path, device: str) -> Generator:
        return SketchKnitter.from_pretrained(folder / MODEL, device)

    def draw(
        self,
        generator: Generator,
        n: int,
        seed: int,
        settings: dict[str, Any],
        batch_size: int,
        tick: Tick,
    ) -> Drawn:
        assert isinstance(generator, SketchKnitter)
        told, evaluated = 0.0, 0

        def progress(at: Progress) -> None:
            nonlocal told
            # one batch more than what is finished is under way, as far as its evaluations are
            share = min(n, at.done + at.evaluations * min(batch_size, n - at.done))
            now = share * self.drawing_work(settings)
            tick(max(0.0, now - told))
            told = max(now, told)

        def watch(numbers: Any, frame: Frame) -> None:
            nonlocal evaluated
            evaluated += len(frame.rows)

        made = make_settings(_values(settings))
        drawn = generator.stream(
            None,
            n,
            seed=seed,
            batch_size=batch_size,
            settings=made,
            progress=progress,
            watch=watch,
        )
        return Drawn(list(drawn), evaluated / n)

    def behavior(self, options: dict[str, Any], settings: dict[str, Any] | None) -> Any:
        """Losses of two updates of a tiny model of this recipe, or what it then draws."""
        with _one_thread():
            trainer = _tiny(recipe(options))
            losses = [[r.loss, r.grad_norm, r.lr] for r in trainer.run(until=2)]
            if settings is None:
                rates = [trainer.learning_rate(i) for i in (0, 10, 1000)]
                return _rounded([*losses, rates])
            return _drawn(SketchKnitter(trainer.checkpoint()), settings)


class Scored(Knitter):
    """``kind = "recognizability"``: a model given the recognizability stage (``of`` names it)."""

    def check(self, options: dict[str, Any], where: str) -> None:
        record(StageConfig, options, where)

    def training_work(self, options: dict[str, Any]) -> float:
        made: StageConfig = record(StageConfig, options, "options")
        return made.drawings + made.trajectories * (made.levels + 32) * 1.8 + 40.0 * made.updates

    def train(
        self,
        options: dict[str, Any],
        data: PreparedSet,
        folder: Path,
        start: Path | None,
        device: str,
        tick: Tick,
    ) -> None:
        from sketchknitter.train_recognizability import run_stage

        if start is None:
            raise UserError('kind = "recognizability" starts from a model: say which with of')
        path = folder / MODEL
        shutil.copyfile(start / MODEL, path)
        text = run_stage(path, data, config=record(StageConfig, options, "options"))
        (folder / "stage.txt").write_text(text + "\n", encoding="utf-8")
        tick(self.training_work(options))

    def behavior(self, options: dict[str, Any], settings: dict[str, Any] | None) -> Any:
        if settings is None:
            from sketchknitter.nn import recognizer

            return [1, _hash(recognizer.GUIDE_WEIGHTS)]
        with _one_thread():
            plain = {k: v for k, v in settings.items() if k not in ("timesteps", "encourage")}
            return _drawn(SketchKnitter(_tiny(recipe({})).checkpoint()), plain)


class Pretrained(Knitter):
    """``kind = "pretrained"``: a model file, or the shipped weights."""

    def check(self, options: dict[str, Any], where: str) -> None:
        if set(options) - {"source"}:
            raise UserError(f"{where}: a pretrained model has one option, source")

    def training_work(self, options: dict[str, Any]) -> float:
        return 0.0

    def train(
        self,
        options: dict[str, Any],
        data: PreparedSet,
        folder: Path,
        start: Path | None,
        device: str,
        tick: Tick,
    ) -> None:
        shutil.copyfile(_locate(options.get("source") or None), folder / MODEL)

    def facts(self, folder: Path) -> Facts:
        checkpoint = Checkpoint.load(folder / MODEL)
        size = sum(w.numel() for w in checkpoint.weights.values())
        return dataclasses.replace(super().facts(folder), parameters=size, curves={})

    def behavior(self, options: dict[str, Any], settings: dict[str, Any] | None) -> Any:
        if settings is None:
            return _hash(_locate(options.get("source") or None))
        return Scored().behavior({}, settings)


# -- parts ---------------------------------------------------------------------------------------
def _values(settings: dict[str, Any]) -> dict[str, object]:
    """Settings as TOML has them: lists stand for tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def curves(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Loss curves from a run's log."""
    names = {"loss": "training", "valid_loss": "held out"}
    out: dict[str, tuple[list[float], list[float]]] = {n: ([], []) for n in names.values()}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            for key, name in names.items():
                if entry.get(key) is not None:
                    out[name][0].append(entry["iteration"])
                    out[name][1].append(entry[key])
    return out


def shuffled(split: Split, change: RowChange) -> Split:
    """A split whose drawings were changed, once and for all."""
    rows = [change(split.rows(i), stream(0, SHUFFLE, i)) for i in range(len(split))]
    ends = np.cumsum([len(r) for r in rows], dtype=np.int64)
    starts = ends - np.array([len(r) for r in rows], dtype=np.int64)
    flat = np.concatenate(rows) if rows else np.zeros((0, 3))
    return Split(
        split.name, flat.astype(np.float32), starts, ends, np.asarray(split.labels), split.classes
    )


# -- what the code does, in a few numbers --------------------------------------------------------
@contextmanager
def _one_thread() -> Any:
    """One torch thread, for sums that come out alike however many there are otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _tiny(made: Recipe) -> Trainer:
    """A trainer of the same recipe with a small network, on eight random drawings."""
    network = made.model.network
    if network.backbone != "official":
        network = dataclasses.replace(network, widths=(16, 24), attention_levels=(1,), num_heads=2)
    optim = dataclasses.replace(made.optim, batch_size=4, microbatch=-1)
    model = dataclasses.replace(made.model, network=network)
    return Trainer(_toys(), model, optim, made.change)


def _toys() -> PreparedSet:
    rows = []
    for i in range(8):
        rng = stream(0, PROBE, i)
        n = int(rng.integers(5, 20))
        rows.append(np.column_stack([rng.normal(0, 9, (n, 2)).round(), rng.random(n) < 0.2]))
    ends = np.cumsum([len(r) for r in rows], dtype=np.int64)
    starts = ends - np.array([len(r) for r in rows], dtype=np.int64)
    flat, labels = np.concatenate(rows).astype(np.float32), np.array([0, 1] * 4, dtype=np.int16)
    names = ("a", "b")
    parts = {s: Split(s, flat, starts, ends, labels, names) for s in SPLITS}
    return PreparedSet(Path(), **parts, classes=names, fingerprint="toys", info={})


def _drawn(model: SketchKnitter, settings: dict[str, Any]) -> Any:
    """Sizes of three drawings, at few steps."""
    made = make_settings(_values(settings))
    if made.steps > SHORT and made.timesteps == "uniform":
        made = dataclasses.replace(made, steps=SHORT)
    if made.steps > 3 * SHORT or made.timesteps.startswith("shortcut"):
        made = dataclasses.replace(made, steps=SHORT, timesteps="uniform")
    sketches = list(model.stream(None, 3, seed=0, batch_size=2, settings=made))
    return [[len(s), s.num_points, *_rounded([s.ink_length, s.extent])] for s in sketches]


def _rounded(values: Any) -> Any:
    if isinstance(values, list):
        return [_rounded(v) for v in values]
    return float(f"{values:.5g}")


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f"no {path.name} here ({error.strerror})") from None


__all__ = ["Knitter", "Pretrained", "Scored", "Settings", "curves", "recipe", "shuffled"]
