"""The kinds of model that this library itself is: trained here, scored, or given as a file."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion.sampler import Frame
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.diffusion.shortcut import Calibration, static
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.experiments.declare import record
from sketchknitter.experiments.kinds import Drawn, Facts, Tick
from sketchknitter.experiments.probe import Probe, file_hash
from sketchknitter.experiments.recipes import drawing_settings, recipe, shuffled
from sketchknitter.recognizers import picture as recognizer
from sketchknitter.settings import StageConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.model import Generator, Progress, _locate
from sketchknitter.systems.sketchknitter.recognizability import run_stage
from sketchknitter.systems.sketchknitter.run import MODEL, DenoiserRun, within
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer
from sketchknitter.training.run import LOG, STATE
from sketchknitter.training.trainer import Update

BACKWARD = 3.0  # an update costs about three evaluations of each of its drawings
SAVES, BETWEEN = 8, 25  # full saves of each training, and updates between two at least
MINUTE = 60.0  # between brief saves: what a kill can lose


class Knitter:
    """``kind = "sketchknitter"``: a model trained for the table."""

    def __init__(self) -> None:
        self.probe = Probe()

    def check(self, options: dict[str, Any], where: str) -> None:
        recipe(options, where)

    def training_work(self, options: dict[str, Any]) -> float:
        optim = recipe(options).optim
        return BACKWARD * optim.iterations * optim.batch_size

    def drawing_work(self, settings: dict[str, Any]) -> float:
        made = drawing_settings(settings)
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
        trainer = DenoiserTrainer(data, made.model, made.optim, made.change, device)
        size = sum(p.numel() for p in trainer.denoiser.parameters())
        run = DenoiserRun(
            trainer,
            folder,
            save_interval=max(BETWEEN, made.optim.iterations // SAVES),
            log_interval=BETWEEN,
            record={"parameters": size},
        )
        each = BACKWARD * made.optim.batch_size
        clock = _Clock()
        if (folder / STATE).exists():
            run.resume()
            tick(each * trainer.iteration)
        else:
            (folder / LOG).unlink(missing_ok=True)

        saved = time.monotonic()

        def report(update: Update) -> None:
            nonlocal saved
            tick(each)
            run.models.record["processor_seconds"] = clock.lap() * update.iteration
            if time.monotonic() > saved + MINUTE:
                run.save(brief=True)
                saved = time.monotonic()

        run.go(report=report)

    def facts(self, folder: Path) -> Facts:
        made = Checkpoint.load(folder / MODEL).record
        return Facts(
            made.get("parameters", 0),
            made.get("updates", 0),
            made.get("batch_size", 0),
            made.get("seconds", 0.0),
            made.get("processor_seconds", 0.0),
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

        made = drawing_settings(settings)
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
        """What a tiny model of this recipe learns in two updates, or what it then draws."""
        if settings is None:
            return self.probe.training(options)
        return self.probe.drawing(options, settings)


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

        if start is None:
            raise UserError('kind = "recognizability" starts from a model: say which with of')
        path = folder / MODEL
        shutil.copyfile(start / MODEL, path)
        text = run_stage(path, data, config=record(StageConfig, options, "options"))
        (folder / "stage.txt").write_text(text + "\n", encoding="utf-8")
        tick(self.training_work(options))

    def behavior(self, options: dict[str, Any], settings: dict[str, Any] | None) -> Any:
        if settings is None:
            return [1, file_hash(recognizer.GUIDE_WEIGHTS)]
        plain = {k: v for k, v in settings.items() if k not in ("timesteps", "encourage")}
        return [self.probe.drawing({}, plain), _shortcut_levels()]


class Pretrained(Scored):
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
            return file_hash(_locate(options.get("source") or None))
        return super().behavior({}, settings)


def _shortcut_levels() -> list[int]:
    """Levels of the static shortcut for a made-up calibration."""
    made_up = Calibration((0, 300, 999), (0.9, 0.5, 0.1), (0.05, 0.4, 0.8))
    return list(static(8, Schedule("linear", 1000), made_up).levels)


class _Clock:
    """Processor time of a typical lap, whatever some laps did besides (saving, say)."""

    def __init__(self) -> None:
        self._last, self._typical = time.process_time(), 0.0
        self._laps: list[float] = []

    def lap(self) -> float:
        """Ends a lap; the median of all, brought up to date now and then."""
        now = time.process_time()
        self._laps.append(now - self._last)
        self._last = now
        if len(self._laps) % BETWEEN in (0, 1):
            self._typical = float(np.median(self._laps))
        return round(self._typical, 5)


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
