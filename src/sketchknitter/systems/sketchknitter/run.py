"""A training run in a folder: log, checkpoints, previews, loss plot, exact resume.

========================== ====================================================================
``log.jsonl``              one line every ``log_interval`` updates, one for each save
``state.safetensors``      what an exact resume needs
``model.safetensors``      the model with averaged weights, ready to draw
``model-ema0.9999.…``      the same for further averages
``previews/00001000.png``  sixteen sketches after 1000 updates
``loss.png``               training loss, and the loss on training and on held-out drawings
========================== ====================================================================
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sketchknitter import io
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.errors import UserError
from sketchknitter.files import atomic, read_tensors
from sketchknitter.plot import Series, lines
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.model import DrawingModel
from sketchknitter.systems.sketchknitter.pens import PenCalibration, calibrate_pens
from sketchknitter.systems.sketchknitter.trainer import Record, Trainer, ema_rates

STATE, MODEL, LOG, PLOT = "state.safetensors", "model.safetensors", "log.jsonl", "loss.png"
PREVIEW, PREVIEW_STEPS = 16, 12
JUDGED = 256  # drawings of each split that a save measures the loss on


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
        short = np.asarray(split.lengths) <= rows
        if short.all():
            return split
        return dataclasses.replace(
            split, starts=split.starts[short], ends=split.ends[short], labels=split.labels[short]
        )

    out = dataclasses.replace(
        data, train=kept(data.train), valid=kept(data.valid), test=kept(data.test)
    )
    return out, len(data) - len(out)


def adapted(checkpoint: Checkpoint, classes: tuple[str, ...]) -> tuple[ModelConfig, dict[str, Any]]:
    """Configuration and weights to go on from ``checkpoint`` with other ``classes``.

    A class that the checkpoint knows keeps what was learned of it; a new one starts as "no label".
    """
    old = checkpoint.config
    config = dataclasses.replace(old, classes=classes)
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
    wrong = [k for k in fresh if k not in weights or fresh[k].shape != weights[k].shape]
    if wrong or len(fresh) != len(weights):
        raise UserError(
            f"the weights to go on from do not fit their own configuration ({len(wrong)} tensors,"
            f" such as {next(iter(wrong), 'one too many')})"
        )
    return config, weights


# -- the log -------------------------------------------------------------------------------------
class Log:
    """JSON lines in a file, and in memory for the plot."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record; a number that is not finite is written as null."""
        kept = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in record.items()
        }
        self.records.append(kept)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(kept) + "\n")

    def back_to(self, iteration: int) -> None:
        """Read what is there and drop what came after ``iteration`` (a killed run's last lines)."""
        self.records = []
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # torn by the kill
            if record.get("iteration", iteration + 1) <= iteration:
                self.records.append(record)
        with atomic(self.path) as f:
            f.write("".join(json.dumps(r) + "\n" for r in self.records).encode())

    def series(self, key: str, name: str) -> Series:
        found = [(r["iteration"], r[key]) for r in self.records if r.get(key) is not None]
        return Series(name, [a for a, _ in found], [b for _, b in found])


def _board(folder: Path) -> Any:
    """A TensorBoard writer if TensorBoard is installed, else None."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(os.fspath(folder / "tensorboard"))


# -- the run -------------------------------------------------------------------------------------
class Run:
    """Trains in a folder. Only the process of rank 0 writes.

    Args:
        trainer: what to train.
        folder: where everything goes; made if it is not there.
        save_interval: updates between saves; each save leaves state, models, preview and plot.
        log_interval: updates between lines of the log.
        record: goes into the checkpoints' record (command, data, commit, …).
        say: told one line for each save.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: str | os.PathLike[str],
        *,
        save_interval: int = 1000,
        log_interval: int = 10,
        record: Mapping[str, Any] | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        if save_interval < 1 or log_interval < 1:
            raise UserError("--save-interval and --log-interval must be at least 1")
        self.trainer, self.folder = trainer, Path(folder)
        self.save_interval, self.log_interval = save_interval, log_interval
        self.record, self.say = dict(record or {}), say
        self.lead = trainer.rank == 0
        self.log = Log(self.folder / LOG)
        self.pens: PenCalibration | None = None
        self.losses: dict[str, float] = {}
        self._window: list[Record] = []
        self._tensorboard: Any = None
        if self.lead:
            (self.folder / "previews").mkdir(parents=True, exist_ok=True)
            self._tensorboard = _board(self.folder)

    def resume(self, state: str | os.PathLike[str] | None = None) -> None:
        """Continue from ``state`` (default: the folder's own).

        Raises:
            UserError: not a training state, or one of another model or other data.
        """
        self.trainer.load_state(Path(state or self.folder / STATE))
        if self.lead:
            self.log.back_to(self.trainer.iteration)

    def go(
        self,
        until: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        report: Callable[[Record], object] = lambda record: None,
    ) -> bool:
        """Train up to iteration ``until`` (default: all) and save.

        Args:
            until: stop there; the learning rate's course is that of the whole run all the same.
            stop: asked after each update; True saves and ends.
            report: told of each update.

        Returns:
            True when it went through, False when ``stop`` ended it.
        """
        saved = -1
        for update in self.trainer.run(until):
            self._window.append(update)
            report(update)
            if update.iteration % self.log_interval == 0:
                self._note()
            if self._stopping(stop):
                if self.lead:
                    self.save(brief=True)
                return False
            if update.iteration % self.save_interval == 0:
                saved = update.iteration
                if self.lead:
                    self.save()
        if self.lead and saved != self.trainer.iteration:
            self.save()
        return True

    def _stopping(self, stop: Callable[[], bool]) -> bool:
        if self.trainer.world == 1:
            return stop()
        # a signal reaches the processes at different updates; all must stop at the same one
        flag = torch.tensor(float(stop()), device=self.trainer.device)
        torch.distributed.all_reduce(flag)
        return bool(flag > 0)

    def _note(self) -> None:
        window, self._window = self._window, []
        if not self.lead:
            return
        last, count = window[-1], len(window)
        spent = last.seconds - window[0].seconds
        rate = self.trainer.optim.batch_size * (count - 1) / spent if spent > 0 else math.nan
        record = {
            "iteration": last.iteration,
            "loss": sum(r.loss for r in window) / count,
            "grad_norm": max(r.grad_norm for r in window),
            "lr": last.lr,
            "seconds": round(last.seconds, 3),
            "sketches_per_second": round(rate, 2),
        }
        self.log.add(record)
        self._to_board(record)

    def _to_board(self, record: Mapping[str, Any]) -> None:
        if self._tensorboard is not None:
            for key, value in record.items():
                if key != "iteration" and isinstance(value, float) and math.isfinite(value):
                    self._tensorboard.add_scalar(key, value, record["iteration"])
            self._tensorboard.flush()

    # -- saving ----------------------------------------------------------------------------------
    def save(self, brief: bool = False) -> None:
        """State and models; unless ``brief`` also losses, pen threshold, preview and plot."""
        trainer = self.trainer
        trainer.save_state(self.folder / STATE)
        if not brief:
            self._judge()
        for k, rate in enumerate(ema_rates(trainer.optim.ema_rate)):
            name = MODEL if k == 0 else f"model-ema{rate:g}.safetensors"
            self.checkpoint(k).save(self.folder / name)
        if brief:
            return
        picture = self._preview()
        self._plot()
        shown = ", ".join(
            f"{self.losses[k]:.4f} on {what}"
            for k, what in (("train_loss", "training drawings"), ("valid_loss", "held-out ones"))
            if math.isfinite(self.losses.get(k, math.nan))
        )
        self.say(f"update {trainer.iteration:,}: loss {shown}{picture}")

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

    def _judge(self) -> None:
        trainer = self.trainer
        valid = trainer.data.valid
        self.losses = {
            "train_loss": trainer.evaluate(trainer.data.train, JUDGED),
            "valid_loss": trainer.evaluate(valid, JUDGED),
        }
        self.losses = {k: round(v, 6) for k, v in self.losses.items() if math.isfinite(v)}
        with trainer.emas[0].applied(trainer.denoiser):
            self.pens = calibrate_pens(
                trainer.denoiser,
                trainer.model.codec,
                valid if len(valid) else trainer.data.train,
                str(trainer.device),
                JUDGED,
            )
        record = {"iteration": trainer.iteration, **self.losses, **self.pens.to_dict()}
        self.log.add(record)
        self._to_board(record)

    def _preview(self) -> str:
        """Writes the preview; returns what to say of it."""
        model = DrawingModel(self.checkpoint(), str(self.trainer.device))
        path = self.folder / "previews" / f"{self.trainer.iteration:08d}.png"
        steps = min(PREVIEW_STEPS, self.trainer.model.diffusion.diffusion_steps)
        try:
            sketches = model.sample(None, PREVIEW, batch_size=PREVIEW, steps=steps)
            io.write(sketches, path, captions=bool(model.classes))
        except UserError as error:  # a picture is no reason to lose a run
            return f"; no preview ({error})"
        return f"; {path}"

    def _plot(self) -> None:
        picture = lines(
            [
                self.log.series("loss", "training, every update, augmented"),
                self.log.series("train_loss", "training drawings, averaged weights"),
                self.log.series("valid_loss", "held-out drawings, averaged weights"),
            ],
            title=f"Loss: {self.folder.name}",
            x_name="updates",
            log_y=True,
        )
        with atomic(self.folder / PLOT) as f:
            picture.save(f, format="PNG")

    def digests(self) -> tuple[str, str]:
        """sha256 of the saved model's weights, and of the whole saved state."""
        model = Checkpoint.load(self.folder / MODEL)
        return digest(model.weights), digest(read_tensors(self.folder / STATE)[0])
