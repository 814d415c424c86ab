"""A training run in a folder: log, state, what the system itself saves, loss plot, exact resume.

===================== =========================================================================
``log.jsonl``         one line every ``log_interval`` updates, one for each save
``state.safetensors`` what an exact resume needs
``loss.png``          the losses of the log
``run.lock``          while it trains: who does
…                     what the system's :class:`Products` write: models, previews
===================== =========================================================================
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import torch

from sketchknitter.errors import SettingError, UserError
from sketchknitter.files import LOG, STATE, atomic
from sketchknitter.plot import Series, lines
from sketchknitter.training.trainer import Trainer, Update

try:
    import fcntl
except ImportError:  # no such locks
    fcntl = None  # type: ignore[assignment]

PLOT, LOCK = "loss.png", "run.lock"
MINUTE = 60.0  # seconds between two saves at most: what a kill can lose


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

    def clear(self) -> None:
        """Begin anew."""
        self.records = []
        self.path.unlink(missing_ok=True)

    def back_to(self, iteration: int) -> None:
        """Read what is there and drop what came after ``iteration`` (a killed run's last lines)."""
        self.read()
        last = iteration + 1
        self.records = [r for r in self.records if r.get("iteration", last) <= iteration]
        if self.path.exists():
            with atomic(self.path) as f:
                f.write("".join(json.dumps(r) + "\n" for r in self.records).encode())

    def read(self) -> Log:
        """Take the records of the file, if there is one; returns the log itself."""
        self.records = []
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError):  # torn by a kill
                self.records.append(json.loads(line))
        return self

    def curve(self, key: str) -> tuple[tuple[float, float], ...]:
        """(updates, value) of every record that has one."""
        found = ((r["iteration"], r[key]) for r in self.records if r.get(key) is not None)
        return tuple((float(a), float(b)) for a, b in found)

    def series(self, key: str, name: str) -> Series:
        curve = self.curve(key)
        return Series(name, [a for a, _ in curve], [b for _, b in curve])


def _board(folder: Path) -> Any:
    """A TensorBoard writer if TensorBoard is installed, else None."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(os.fspath(folder / "tensorboard"))


# -- one training for each folder ----------------------------------------------------------------
class Lock:
    """A folder held by one training; the system lets go of it when the process ends.

    Raises:
        UserError: another training holds it; says which.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._file: IO[str] | None = None
        if fcntl is None:
            return
        file = self._held(folder)
        # whoever held it may have removed the file while we opened it: another would lock a new one
        while not self._there(file):
            file.close()
            file = self._held(folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._file = file

    def _held(self, folder: Path) -> IO[str]:
        file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - held while it trains
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UserError(
                f"{folder}: {holder} is training there; wait for it, stop it, or name another"
                " folder"
            ) from None
        except OSError:  # a file system without locks
            pass
        return file

    def _there(self, file: IO[str]) -> bool:
        """Whether the open file is still the one of that name."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Let go of the folder."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self._file.close()
            self._file = None


# -- the run -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Saved:
    """What a save found out.

    Attributes:
        figures: numbers for the log, such as held-out losses.
        words: of them, for the terminal; empty says nothing.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    words: str = ""


class Products(Protocol):
    """What a system keeps of its training beside the state. Only rank 0 asks for it."""

    def save(self, folder: Path, brief: bool) -> Saved:
        """Write models (and, unless ``brief``, whatever takes time: measures, previews)."""
        ...

    def resume(self, folder: Path) -> None:
        """Take up what an earlier run of this folder found out."""
        ...


class Run:
    """Trains in a folder. Only the process of rank 0 writes, every minute at least.

    Args:
        trainer: what to train.
        folder: where everything goes; made if it is not there.
        products: what is kept beside the state.
        save_interval: updates between full saves.
        log_interval: updates between lines of the log.
        plotted: lines of the plot, (key of the log, name).
        say: called with one line for each save.

    Raises:
        UserError: another training holds the folder.
    """

    def __init__(
        self,
        trainer: Trainer[Any],
        folder: str | os.PathLike[str],
        products: Products,
        *,
        save_interval: int = 1000,
        log_interval: int = 10,
        plotted: Mapping[str, str] | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        if save_interval < 1 or log_interval < 1:
            raise SettingError(
                "save_interval" if save_interval < 1 else "log_interval",
                f"must be at least 1, not {min(save_interval, log_interval)}",
            )
        self.trainer, self.folder, self.products = trainer, Path(folder), products
        self.save_interval, self.log_interval = save_interval, log_interval
        self.plotted = dict(plotted or {"loss": "training, every update"})
        self.say = say
        self.lead = trainer.rank == 0
        self.log = Log(self.folder / LOG)
        self._window: list[Update] = []
        self._tensorboard: Any = None
        self._lock: Lock | None = None
        self._saved = time.monotonic()
        if self.lead:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.folder)
            self._tensorboard = _board(self.folder)

    def resume(self, state: str | os.PathLike[str] | None = None) -> None:
        """Continue from ``state`` (default: the folder's own).

        Raises:
            UserError: not a training state, or one of another model or other data.
        """
        path = Path(state or self.folder / STATE)
        self.trainer.load_state(path)
        if self.lead:
            self.log.back_to(self.trainer.iteration)
            self.products.resume(path.parent)

    def go(
        self,
        until: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        report: Callable[[Update], object] = lambda record: None,
    ) -> bool:
        """Train to the end, or up to iteration ``until``, and save.

        Args:
            until: stop there; the learning rate's course is that of the whole run all the same.
            stop: asked after each update; True saves and ends.
            report: called with each update.

        Returns:
            True when it went through, False when ``stop`` ended it.
        """
        if self.lead and self._lock is None:  # it was let go of after an earlier part
            self._lock = Lock(self.folder)
        try:
            if self.lead and not self.trainer.iteration:
                self.log.clear()  # of a run that was killed before its first save
            return self._go(until, stop, report)
        finally:
            self.close()

    def _go(
        self, until: int | None, stop: Callable[[], bool], report: Callable[[Update], object]
    ) -> bool:
        saved, self._saved = -1, time.monotonic()
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
            elif self.lead and time.monotonic() > self._saved + MINUTE:
                self.save(brief=True)
        if self.lead and saved != self.trainer.iteration:
            self.save()
        return True

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

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
        rate = self.trainer.config.batch_size * (count - 1) / spent if spent > 0 else math.nan
        record = {
            "iteration": last.iteration,
            "loss": sum(r.loss for r in window) / count,
            "grad_norm": max(r.grad_norm for r in window),
            "lr": last.lr,
            "seconds": round(last.seconds, 3),
            "sketches_per_second": round(rate, 2),
        }
        self._add(record)

    def _add(self, record: Mapping[str, Any]) -> None:
        self.log.add(record)
        if self._tensorboard is not None:
            for key, value in record.items():
                if key != "iteration" and isinstance(value, float) and math.isfinite(value):
                    self._tensorboard.add_scalar(key, value, record["iteration"])
            self._tensorboard.flush()

    # -- saving ----------------------------------------------------------------------------------
    def save(self, brief: bool = False) -> None:
        """State and products; unless ``brief`` also what takes time, and the plot."""
        trainer = self.trainer
        trainer.save_state(self.folder / STATE)
        saved = self.products.save(self.folder, brief)
        self._saved = time.monotonic()
        if saved.figures:
            self._add({"iteration": trainer.iteration, **saved.figures})
        if brief:
            return
        self._plot()
        self.say(f"update {trainer.iteration:,}: {saved.words or 'saved'}")

    def _plot(self) -> None:
        picture = lines(
            [self.log.series(key, name) for key, name in self.plotted.items()],
            title=f"Loss: {self.folder.name}",
            x_name="updates",
            log_y=True,
        )
        with atomic(self.folder / PLOT) as f:
            picture.save(f, format="PNG")
