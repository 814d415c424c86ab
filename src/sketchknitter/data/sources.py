"""Drawing files as an ordered stream of chunks, on as many cores as there are."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import FrameType

from sketchknitter import io
from sketchknitter.data.chunks import (
    Chunk,
    Recipe,
    empty_chunk,
    from_items,
    from_lines,
    is_foreign,
    items_foreign,
    timed_drawings,
)
from sketchknitter.data.dataset import AnyPath, is_prepared
from sketchknitter.data.flat import of_block
from sketchknitter.data.simplified import parse_simplified
from sketchknitter.errors import SettingError, UserError
from sketchknitter.io import ndjson, npz
from sketchknitter.io.lines import iter_line_blocks
from sketchknitter.io.npz import Rows
from sketchknitter.io.records import MIB, Reject, as_label
from sketchknitter.sketch import Sketch

SUFFIXES = (".ndjson", ".bin", ".npz", ".npy", ".svg")
RANGE = 4 * MIB  # bytes of ndjson in one task; fixed, so that the result does not depend on cores
MAX_TASK = 16 * MIB  # a larger file of another kind is streamed by the parent
PARALLEL_FROM = 8 * MIB  # bytes in all, or this many files, from which on more cores pay off
PARALLEL_FILES = 64
BATCH = 2048  # drawings in a chunk from readers that yield one by one
UNREADABLE = "a file that cannot be read"
VOTERS = 1000  # drawings that decide the form of a file


@dataclass(frozen=True)
class Source:
    """A drawing file and the class that the folder it was found in gives to its drawings.

    Attributes:
        path: the file.
        label: of drawings that name none; None leaves them without.
    """

    path: Path
    label: str | None = None


@dataclass(frozen=True)
class Task:
    """A file, or a byte range of an ndjson file.

    Attributes:
        source: index of the file among the sources.
        path: the file.
        start, end: the lines that begin in this byte range; other formats are read whole.
        foreign: an ndjson file that is not in QuickDraw's simplified form (``chunks.is_foreign``).
        label: class from the folder: of pictures, and of drawings that name none.
        fault: why the file cannot be read at all; its task yields nothing else.
    """

    source: int
    path: Path
    start: int
    end: int
    foreign: bool = False
    label: str | None = None
    fault: str | None = None

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def portable(self) -> bool:
        """Whether the result is small enough to come from another process at once."""
        return self.path.suffix.lower() == ".ndjson" or self.size <= MAX_TASK


# -- what there is to read -----------------------------------------------------------------------
def find_sources(paths: Sequence[AnyPath]) -> list[Source]:
    """Drawing files named, or found in the folders named, sorted within each; no file twice.

    Hidden files and prepared sets inside a folder are passed over. Where two folders or more are
    named, or one holds all its drawings in subfolders, a folder is the class of what it holds.

    Raises:
        UserError: a file of a kind we do not read, nothing there, a folder without drawing files.
    """
    found: dict[str, Source] = {}
    folders = [Path(p) for p in paths if Path(p).is_dir()]
    for path in map(Path, paths):
        if is_prepared(path):
            raise UserError(f"{path} is a prepared set already; name drawing files")
        if path.is_dir():
            files = sorted(_inside(path))
            if not files:
                raise UserError(f"{path} holds no drawing files ({' '.join(SUFFIXES)})")
            nested = all(file.parent != path for file in files)
            inside = [
                Source(file, _folder_label(file, path, nested, len(folders) > 1)) for file in files
            ]
        elif not path.exists():
            raise UserError(f"{path}: no such file or folder")
        elif path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path}: no reader for it; we read {' '.join(SUFFIXES)}")
        else:
            inside = [Source(path)]
        for source in inside:
            found.setdefault(os.path.realpath(source.path), source)
    if not found:
        raise UserError("no drawing files were named")
    return _named_by_folders(list(found.values()), bool(folders))


def _folder_label(file: Path, folder: Path, nested: bool, several: bool) -> str | None:
    if nested:
        return as_label(file.relative_to(folder).parts[0])
    return as_label(folder.resolve().name) if several else None


def _named_by_folders(sources: list[Source], folders: bool) -> list[Source]:
    """Pictures named one by one from several folders: ``star/*.svg house/*.svg``."""
    pictures = [s for s in sources if s.path.suffix.lower() == ".svg"]
    parents = {s.path.parent for s in pictures}
    if folders or len(pictures) < len(sources) or len(parents) < 2:
        return sources
    return [Source(s.path, as_label(s.path.parent.resolve().name)) for s in sources]


def _inside(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f[0] != "." and not is_prepared(Path(root, f))]
        for name in files:
            if name[0] != "." and Path(name).suffix.lower() in SUFFIXES:
                yield Path(root, name)


def tasks_for(sources: Sequence[Source], recipe: Recipe) -> Iterator[Task]:
    """The files cut into tasks, in order; looks at the head of each ndjson file.

    A file that cannot be read becomes a task with a fault.
    """
    for i, source in enumerate(sources):
        path, label = source.path, source.label
        try:
            size = path.stat().st_size
            if path.suffix.lower() != ".ndjson":
                yield Task(i, path, 0, size, label=label)
                continue
            ndjson.check(path)
            foreign = recipe.simplify == "auto" and _foreign_ndjson(path)
        except (UserError, OSError) as error:
            yield Task(i, path, 0, 0, fault=_fault(path, error))
            continue
        for start in range(0, size, RANGE):
            yield Task(i, path, start, min(start + RANGE, size), foreign, label)


def _fault(path: Path, error: Exception) -> str:
    """Why a file cannot be read, without its name, which stands beside it."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error).removeprefix(str(path)).lstrip(":, ")


def _foreign_ndjson(path: Path) -> bool:
    """Whether the untimed drawings at the head of a file are in a form of their own."""
    for _, lines in _blocks(path, 0, RANGE):
        if parse_simplified(lines[:VOTERS]) is not None:
            return False
        block = ndjson.parse_block(lines[:VOTERS])
        if not block.words:
            continue
        return is_foreign(of_block(block).pick(~timed_drawings(block, lines)))
    return False


def _blocks(path: Path, start: int, end: int) -> Iterator[tuple[int, list[bytes | None]]]:
    if not _line_begins(path, start, end):
        return
    for at, lines in iter_line_blocks(path, start, end):
        if at == 0 and lines[0] is not None:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        yield at, lines


def _line_begins(path: Path, start: int, end: int) -> bool:
    """Whether a line begins in ``[start, end)``; else, inside a huge one, there is nothing to do.

    Without this every range would look for the end of that line, in quadratic time.
    """
    if start == 0:
        return True
    with open(path, "rb") as f:
        f.seek(start - 1)
        left = end - start  # the newline stands before the line: in [start - 1, end - 1)
        while left > 0 and (piece := f.read(min(left, 1 << 16))):
            if b"\n" in piece:
                return True
            left -= len(piece)
    return False


# -- reading -------------------------------------------------------------------------------------
def read_task(task: Task, recipe: Recipe) -> Iterator[Chunk]:
    """The chunks of one task, in order; a file that turns out unreadable is one reject."""
    recipe = replace(recipe, label=recipe.label or task.label)
    if task.fault is not None:
        yield _unreadable(task.fault)
        return
    try:
        yield from _read_task(task, recipe)
    except (UserError, OSError) as error:
        yield _unreadable(_fault(task.path, error))


def _unreadable(why: str) -> Chunk:
    chunk = empty_chunk()
    chunk.rejects[UNREADABLE] += 1
    chunk.examples.append((why, UNREADABLE))
    return chunk


def _read_task(task: Task, recipe: Recipe) -> Iterator[Chunk]:
    suffix = task.path.suffix.lower()
    if suffix == ".ndjson":
        for _, lines in _blocks(task.path, task.start, task.end):
            yield from_lines(lines, recipe, task.foreign)
        return
    items: Iterator[Rows | Sketch | Reject]
    items = npz.read_rows(task.path) if suffix == ".npz" else io.read_counted(task.path)
    if suffix == ".svg" and task.label is not None:  # a title is of one picture
        items = (s.with_label(task.label) if isinstance(s, Sketch) else s for s in items)
    first, foreign = 1, suffix == ".svg"
    while batch := list(islice(items, BATCH)):
        if first == 1 and not foreign and recipe.simplify == "auto":
            foreign = items_foreign(batch[:VOTERS])
        yield from_items(batch, first, recipe, foreign)
        first += len(batch)


def _work(task: Task, recipe: Recipe) -> list[Chunk]:
    return list(read_task(task, recipe))


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def interrupted_later() -> Iterator[None]:
    """Ctrl-C waits for the end of a with block.

    While a process forks, Python runs callbacks whose exceptions are dropped: a KeyboardInterrupt
    raised there would be lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught and callable(before):
        before(*caught[0])


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_tasks(
    tasks: Sequence[Task], recipe: Recipe, processes: int = 0
) -> Iterator[tuple[Task, Chunk | None]]:
    """Every task's chunks in the order of the tasks, then None for its end.

    Args:
        processes: how many work at once; 0 takes all cores where there is enough to do. The
            result is the same for any number.

    Raises:
        UserError: a file that cannot be read, a worker that died, or fewer than 0 processes.
    """
    if processes < 0:
        raise SettingError("processes", f"must be 0 (all cores) or more, not {processes}")
    enough = sum(t.size for t in tasks) >= PARALLEL_FROM or len(tasks) >= PARALLEL_FILES
    count = min(processes or (cores() if enough else 1), len(tasks))
    if count <= 1:
        for task in tasks:
            for chunk in read_task(task, recipe):
                yield task, chunk
            yield task, None
        return
    # forked workers start at once and use no threads; elsewhere fork is not safe
    method = "fork" if sys.platform == "linux" else "spawn"
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context(method), initializer=_begin_worker
    )
    try:
        yield from _ordered(pool, tasks, recipe, ahead=2 * count)
    except BrokenProcessPool:
        raise SettingError(
            "processes", "may have to be 1: a worker process died, perhaps for want of memory"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ordered(
    pool: ProcessPoolExecutor, tasks: Sequence[Task], recipe: Recipe, ahead: int
) -> Iterator[tuple[Task, Chunk | None]]:
    """As :func:`read_tasks`; at most ``ahead`` results wait in memory."""
    waiting: deque[tuple[Task, Future[list[Chunk]] | None]] = deque()
    rest = iter(tasks)
    while True:
        with interrupted_later():  # the first task forks the workers
            for task in islice(rest, ahead - len(waiting)):
                waiting.append((task, pool.submit(_work, task, recipe) if task.portable else None))
        if not waiting:
            return
        task, future = waiting.popleft()
        for chunk in read_task(task, recipe) if future is None else future.result():
            yield task, chunk
        yield task, None
