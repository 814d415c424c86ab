"""A training run of the denoiser: what it keeps in the run's folder, and how it starts.

========================== ====================================================================
``model.safetensors``      the model with averaged weights, ready to draw
``model-ema0.9999.…``      the same for further averages
``previews/00001000.png``  sixteen sketches after 1000 updates
========================== ====================================================================

The rest of the folder is :mod:`sketchknitter.training.run`'s.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sketchknitter.data.conditions import CHANNELS
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.errors import UserError
from sketchknitter.files import MODEL, STATE, read_tensors
from sketchknitter.nn.layers import PLACES
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.model import DrawingModel
from sketchknitter.systems.sketchknitter.pens import PenCalibration, calibrate_pens
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer
from sketchknitter.training.ema import ema_rates
from sketchknitter.training.run import Run, Saved
from sketchknitter.training.saving import finite, loss_words, preview

FIRST = "backbone.first.linear.weight"
PREVIEW, PREVIEW_STEPS = 16, 12
JUDGED = 256  # drawings of each split that a save measures the loss on
PLOTTED = {
    "loss": "training, every update, augmented",
    "train_loss": "training drawings, averaged weights",
    "valid_loss": "held-out drawings, averaged weights",
}


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256, hex, over names, types, shapes and bits of tensors: equal runs have equal digests."""
    out = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        out.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        out.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return out.hexdigest()


# -- preparing -----------------------------------------------------------------------------------
def within(data: PreparedSet, rows: int) -> tuple[PreparedSet, int]:
    """The drawings of at most ``rows`` stroke-3 rows (the paper's filter); how many fell out."""

    def kept(split: Split) -> Split:
        if not split.by_length[:, rows + 1 :].any():
            return split
        return split.where(split.lengths <= rows)

    out = dataclasses.replace(
        data, train=kept(data.train), valid=kept(data.valid), test=kept(data.test)
    )
    return out, len(data) - len(out)


def fitting_batch(asked: int, drawings: int, processes: int = 1) -> int:
    """The batch size asked for, or the largest that so many drawings fill; every process has the
    same share."""
    if asked <= drawings:
        return asked
    return max(1, drawings // processes) * processes


def adapted(
    checkpoint: Checkpoint, classes: tuple[str, ...], conditions: bool = False
) -> tuple[ModelConfig, dict[str, Any]]:
    """Configuration and weights to go on from ``checkpoint`` with other ``classes``.

    A class that the checkpoint knows keeps what was learned of it; a new one starts as "no label".

    Args:
        conditions: teach it to see what is known of drawings, if it does not yet: its first layer
            gets inputs for that, which start at zero.
    """
    old = checkpoint.config
    seeing = dataclasses.replace(old.diffusion, conditions=conditions or old.diffusion.conditions)
    config = dataclasses.replace(old, classes=classes, diffusion=seeing)
    weights = {
        k: v.to(torch.float32) if v.is_floating_point() else v
        for k, v in checkpoint.weights.items()
    }
    source = [old.classes.index(c) if c in old.classes else len(old.classes) for c in classes]
    source.append(len(old.classes))
    for name, table in weights.items():
        if name.endswith("label.weight"):
            weights[name] = table[torch.tensor(source)]
    fresh = build_denoiser(config).state_dict()
    if seeing != old.diffusion and FIRST in weights:
        weights[FIRST] = _widened(weights[FIRST], CHANNELS)
    wrong = [k for k in fresh if k not in weights or fresh[k].shape != weights[k].shape]
    if wrong or len(fresh) != len(weights):
        raise UserError(
            f"the weights to go on from do not fit their own configuration ({len(wrong)} tensors,"
            f" such as {next(iter(wrong), 'one too many')})"
        )
    return config, weights


def _widened(first: Tensor, channels: int) -> Tensor:
    """A first layer's weights (out, 3 (inputs + places)) with inputs more, all zero at first.

    The layer takes three shifted copies of inputs and places (see ``nn.layers.Conv3``).
    """
    shifted = first.view(len(first), 3, -1)
    inputs = shifted.shape[-1] - PLACES
    new = first.new_zeros(len(first), 3, channels)
    parts = (shifted[..., :inputs], new, shifted[..., inputs:])
    return torch.cat(parts, dim=-1).reshape(len(first), -1)


# -- what is kept --------------------------------------------------------------------------------
class Models:
    """Models with averaged weights, their losses and pen threshold, and previews.

    Args:
        trainer: whose weights are kept.
        record: goes into the checkpoints' record (command, data, commit, …).
    """

    def __init__(self, trainer: DenoiserTrainer, record: Mapping[str, Any] | None = None) -> None:
        self.trainer, self.record = trainer, dict(record or {})
        self.pens: PenCalibration | None = None
        self.losses: dict[str, float] = {}

    def resume(self, folder: Path) -> None:
        path = folder / MODEL
        if not path.exists():
            return
        earlier = Checkpoint.load(path).record
        self.losses = dict(earlier.get("losses", {}))
        if "pens" in earlier:
            self.pens = PenCalibration(**earlier["pens"])

    def save(self, folder: Path, brief: bool) -> Saved:
        trainer = self.trainer
        if not brief:
            self._measure()
        for k, rate in enumerate(ema_rates(trainer.config.ema_rate)):
            name = MODEL if k == 0 else f"model-ema{rate:g}.safetensors"
            self.checkpoint(k).save(folder / name)
        if brief or self.pens is None:
            return Saved()
        words = loss_words(self.losses) + self._preview(folder)
        return Saved({**self.losses, **self.pens.to_dict()}, words)

    def checkpoint(self, ema: int = 0) -> Checkpoint:
        """The model as it would be saved now."""
        record = self.record | {"losses": self.losses}
        if self.pens is not None:
            record["pens"] = self.pens.to_dict()
        out = self.trainer.checkpoint(ema, record)
        if self.pens is not None:
            codec = dataclasses.replace(out.config.codec, pen_break=self.pens.pen_break)
            out.config = dataclasses.replace(out.config, codec=codec)
        out.record["sha256"] = digest(out.weights)
        return out

    def _measure(self) -> None:
        trainer = self.trainer
        valid = trainer.data.valid
        losses = {
            "train_loss": trainer.evaluate(trainer.data.train, JUDGED),
            "valid_loss": trainer.evaluate(valid, JUDGED),
        }
        self.losses = finite(losses)
        with trainer.emas[0].applied(trainer.denoiser):
            self.pens = calibrate_pens(
                trainer.denoiser,
                trainer.model.codec,
                valid if len(valid) else trainer.data.train,
                str(trainer.device),
                JUDGED,
            )

    def _preview(self, folder: Path) -> str:
        """Writes the preview; returns what to say of it."""
        model = DrawingModel(self.checkpoint(), str(self.trainer.device))
        steps = min(PREVIEW_STEPS, self.trainer.model.diffusion.diffusion_steps)
        return preview(
            folder,
            self.trainer.iteration,
            lambda: model.sample(None, PREVIEW, batch_size=PREVIEW, steps=steps),
            captions=bool(model.classes),
        )


class DenoiserRun(Run):
    """A run that keeps :class:`Models`.

    Args:
        trainer: what to train.
        folder: where everything goes; made if it is not there.
        save_interval: updates between saves; each save leaves state, models, preview and plot.
        log_interval: updates between lines of the log.
        record: goes into the checkpoints' record.
        say: called with one line for each save.
    """

    trainer: DenoiserTrainer

    def __init__(
        self,
        trainer: DenoiserTrainer,
        folder: str | os.PathLike[str],
        *,
        save_interval: int = 1000,
        log_interval: int = 10,
        record: Mapping[str, Any] | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.models = Models(trainer, record)
        super().__init__(
            trainer,
            folder,
            self.models,
            save_interval=save_interval,
            log_interval=log_interval,
            plotted=PLOTTED,
            say=say,
        )

    def digests(self) -> tuple[str, str]:
        """sha256 of the saved model's weights, and of the whole saved state."""
        model = Checkpoint.load(self.folder / MODEL)
        return digest(model.weights), digest(read_tensors(self.folder / STATE)[0])
