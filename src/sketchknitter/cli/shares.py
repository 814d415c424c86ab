"""Long drawing on many processes: shares by number, kept until the file is written.

Started by ``torchrun``, the processes take turns at shares; a finished share stands in a hidden
folder beside the output, which all machines must see. When a process is lost torchrun stops the
others, and the same command, with any number of processes, draws only what is missing. Drawings
depend on their number alone, and shares are cut where a single process cuts its batches, so the
result is that of one process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sketchknitter.errors import UserError
from sketchknitter.files import atomic
from sketchknitter.processes import end_with_launcher
from sketchknitter.sketch import Sketch

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = timedelta(days=30)  # that a process waits for the slowest one


@contextmanager
def processes() -> Iterator[tuple[int, int]]:
    """This process's number and how many there are, as torchrun started them; (0, 1) without."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, 1
        return
    import torch.distributed as dist

    end_with_launcher()
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def begun(output: str | Path) -> bool:
    """Whether shares of a file are there: a process was lost before it was written."""
    return folder_of(output).is_dir()


def folder_of(output: str | Path) -> Path:
    """The hidden folder beside an output, for what is finished of it."""
    path = Path(output)
    return path.with_name(f".{path.name}.shares")


def sweep(output: str | Path) -> None:
    """Remove what stands beside an output: it is written."""
    shutil.rmtree(folder_of(output), ignore_errors=True)


def fingerprint(options: Any, weights: dict[str, Tensor]) -> str:
    """Of everything that decides what is drawn.

    Args:
        options: as JSON may hold it.
        weights: of the network.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Shares:
    """Finished shares of one drawing, each a file of its own.

    Attributes:
        output: the file that they shall become.
        of: fingerprint of what is drawn; shares of anything else are not looked at.
        count: how many there are in all.
    """

    output: Path
    of: str
    count: int

    @property
    def folder(self) -> Path:
        return folder_of(self.output)

    def path(self, k: int) -> Path:
        return self.folder / f"{self.of}-{k:06d}.npz"

    def draw(self, draw: Callable[[int], Iterable[Sketch]], rank: int, world: int) -> None:
        """Draw this process's shares that are missing, and wait for the other processes."""
        self.folder.mkdir(exist_ok=True)
        for k in range(rank, self.count, world):
            if not self.path(k).exists():
                self._write(k, list(draw(k)))
        if world > 1:
            import torch.distributed as dist

            dist.barrier()

    def sketches(self) -> Iterator[Sketch]:
        """All drawings by number, once all shares are there."""
        for k in range(self.count):
            yield from self._read(k)

    def sweep(self) -> None:
        """Remove the shares: the file is written."""
        sweep(self.output)

    def _write(self, k: int, drawn: list[Sketch]) -> None:
        strokes = [stroke for sketch in drawn for stroke in sketch.strokes]
        with atomic(self.path(k)) as f:
            np.savez(
                f,
                points=np.concatenate([np.zeros((0, 2)), *strokes]),
                lengths=np.array([len(s) for s in strokes], np.int64),
                counts=np.array([len(s) for s in drawn], np.int64),
                named=np.array([s.label is not None for s in drawn], bool),
                labels=np.array([s.label or "" for s in drawn], str),
            )

    def _read(self, k: int) -> Iterator[Sketch]:
        path = self.path(k)
        try:
            with np.load(path, allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
            strokes = iter(np.split(parts["points"], np.cumsum(parts["lengths"])[:-1]))
            rows = zip(parts["counts"], parts["named"], parts["labels"], strict=True)
            for count, named, label in rows:
                yield Sketch([next(strokes) for _ in range(count)], str(label) if named else None)
        except (OSError, ValueError, KeyError, StopIteration, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: a damaged share ({error}); remove it and go on") from None
