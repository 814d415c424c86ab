"""Train a model, or go on with one, and hold what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from sketchknitter import io
from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.prepare import open_data
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.files import STATE
from sketchknitter.settings import AugmentConfig, BackboneConfig, DiffusionConfig, OptimConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.config import ModelConfig
from sketchknitter.systems.sketchknitter.run import DenoiserRun, adapted, fitting_batch, within
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer

Path_ = str | PathLike[str]
Drawings = Path_ | Sequence[Path_] | Sequence[Sketch] | PreparedSet
TUNING = OptimConfig(iterations=1000, batch_size=16, lr=2e-4, warmup=50)  # of small sets


def train(
    drawings: Drawings,
    folder: Path_,
    *,
    classes: Sequence[str] | None = None,
    optim: OptimConfig | None = None,
    network: BackboneConfig | None = None,
    diffusion: DiffusionConfig | None = None,
    codec: Codec | None = None,
    augment: AugmentConfig | None = None,
    resume: bool = False,
    device: str = "cpu",
    save_interval: int = 1000,
    say: Callable[[str], object] = lambda line: None,
) -> SketchKnitter:
    """Train a model from drawings; what ``sketchknitter train`` does.

    Args:
        drawings: a prepared set, a folder of drawing files, drawing files, or sketches with labels.
        folder: of the run; see ``docs/training.md`` for what it gets.
        classes: only these.
        optim, network, diffusion, codec, augment: how; None takes the defaults.
        resume: go on with the run in ``folder``.
        device: where to train.
        save_interval: updates between saves.
        say: called with one line for each save.

    Returns:
        The model with averaged weights, as saved in ``folder/model.safetensors``.

    Raises:
        UserError: nothing to train on, ``folder`` holds a run and ``resume`` is False, or settings
            that cannot be.
    """
    data = _opened(drawings, folder, classes)
    config = ModelConfig(
        network or BackboneConfig(),
        diffusion or DiffusionConfig(),
        codec or Codec(),
        tuple(data.classes),
    )
    return _run(data, folder, config, None, optim, augment, resume, device, save_interval, say)


def finetune(
    drawings: Drawings,
    folder: Path_,
    start: Path_ | SketchKnitter | None = None,
    *,
    classes: Sequence[str] | None = None,
    optim: OptimConfig | None = None,
    augment: AugmentConfig | None = None,
    resume: bool = False,
    device: str = "cpu",
    save_interval: int = 1000,
    say: Callable[[str], object] = lambda line: None,
) -> SketchKnitter:
    """Go on with a model on other drawings: fifty are enough to learn a class of their own.

    Args:
        start: a model, or what :meth:`SketchKnitter.from_pretrained` takes; None (or "shipped") is
            the shipped one. It brings its network; its classes are those of the new drawings.
        optim: how; None takes 1000 updates of 16 drawings at a fifth of the usual learning rate.
        drawings, folder, classes, augment, resume, device, save_interval, say: as :func:`train`.

    Returns:
        The model with averaged weights.

    Raises:
        UserError: as :func:`train`, or no model where ``start`` says.
    """
    model = start if isinstance(start, SketchKnitter) else SketchKnitter.from_pretrained(start)
    data = _opened(drawings, folder, classes)
    config, weights = adapted(model.checkpoint, tuple(data.classes))
    how = optim or TUNING
    return _run(data, folder, config, weights, how, augment, resume, device, save_interval, say)


def _opened(drawings: Drawings, folder: Path_, classes: Sequence[str] | None) -> PreparedSet:
    if isinstance(drawings, PreparedSet):
        return drawings if classes is None else drawings.select(classes)
    if isinstance(drawings, str | PathLike):
        return open_data([drawings], classes, progress=False)
    several = list(drawings)
    sketches = [d for d in several if isinstance(d, Sketch)]
    if not sketches:
        return open_data(several, classes, progress=False)  # type: ignore[arg-type]
    if len(sketches) < len(several):
        raise UserError("drawings are sketches or files, not some of each")
    path = Path(folder) / "drawings.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    io.write(sketches, path)
    return open_data([path], classes, progress=False)


def _run(
    data: PreparedSet,
    folder: Path_,
    config: ModelConfig,
    weights: dict[str, object] | None,
    optim: OptimConfig | None,
    augment: AugmentConfig | None,
    resume: bool,
    device: str,
    save_interval: int,
    say: Callable[[str], object],
) -> SketchKnitter:
    state = Path(folder) / STATE
    if state.exists() and not resume:
        raise UserError(f"{folder} holds a run; resume it, or name another folder")
    data, _ = within(data, config.codec.max_rows)
    if not len(data.train):
        raise UserError("there are no training drawings")
    optim = optim or OptimConfig()
    size = fitting_batch(optim.batch_size, len(data.train))
    if size < optim.batch_size:
        say(f"{len(data.train)} drawings: batches of {size} instead of {optim.batch_size}")
        optim = replace(optim, batch_size=size)
    trainer = DenoiserTrainer(
        data,
        config,
        optim,
        augment or AugmentConfig(),
        device,
        weights,  # type: ignore[arg-type]
    )
    trainer.settle(state)
    run = DenoiserRun(trainer, folder, save_interval=save_interval, say=say)
    if state.exists():
        run.resume()
    if trainer.iteration < optim.iterations:
        run.go()
    return SketchKnitter.from_pretrained(folder, device)
