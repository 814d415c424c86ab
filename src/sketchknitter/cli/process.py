"""What commands share about the process they are: signals, device, provenance, time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sketchknitter.errors import SettingError, UserError
from sketchknitter.processes import end_with_launcher

if TYPE_CHECKING:
    from sketchknitter.data.dataset import PreparedSet


class Signals:
    """Ctrl-C and SIGTERM ask to stop; a second Ctrl-C does not ask."""

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._catch)
        return self

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.caught == signal.SIGINT == number:
            raise KeyboardInterrupt
        if self.caught is None:
            print("\nsaving before the end (Ctrl-C again: at once) …", file=sys.stderr, flush=True)
        self.caught = self.caught or number

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def pick_device(name: str, workers: int = 1) -> str:
    """``auto`` resolved, and the device tried.

    Raises:
        UserError: this machine has no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and workers > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"--device {name} cannot be used here: {first}") from None
    return name


def use_threads(count: int | None) -> None:
    """Let torch use so many processor threads; 0 or None is its own choice.

    Raises:
        UserError: a negative number.
    """
    import torch

    if count is not None and count < 0:
        raise SettingError("threads", f"must be 0 (torch's choice) or more, not {count}")
    if count:
        torch.set_num_threads(count)


def wait_asleep() -> None:
    """Let threads that wait for one another soon fall asleep; before torch is imported.

    GNU OpenMP has them spin instead, some 300,000 times. That gains nothing here, and makes drawing
    twice as slow, and more, where other programs keep a processor busy (``bench/busy.py``). Who has
    set how threads wait has decided.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def workers() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def process_group(device: str) -> Iterator[None]:
    """The processes that torchrun started, joined for a with block; nothing where there is one."""
    import torch

    if workers() == 1:
        yield
        return
    end_with_launcher()
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def open_together(paths: Sequence[str], classes: Sequence[str] | None) -> PreparedSet:
    """The drawings for every process of a group: the first may have to prepare the set, and the
    others wait for it."""
    import torch

    from sketchknitter.data.prepare import open_data

    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    if alone or torch.distributed.get_rank() == 0:
        data = open_data(paths, classes, progress=True)
    if alone:
        return data
    torch.distributed.barrier()
    return data if torch.distributed.get_rank() == 0 else open_data(paths, classes, progress=False)


def span(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def commit() -> str | None:
    """The source's git commit, marked if changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    # `describe --dirty` would write to the checkout: its lock stays behind where git is killed
    command = ["git", "--no-optional-locks", "-C", str(root)]
    questions = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    try:
        head, changes = (
            subprocess.run([*command, *q], capture_output=True, text=True, timeout=10, check=True)
            for q in questions
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")
