"""Any mix of drawing files -> one prepared set, written aside and renamed when it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sketchknitter.data.chunks import AS_IT_IS, Chunk, Recipe
from sketchknitter.data.dataset import (
    FORMAT,
    HEADER,
    AnyPath,
    PreparedSet,
    fingerprint,
    is_prepared,
)
from sketchknitter.data.sources import UNREADABLE, Source, find_sources, read_tasks, tasks_for
from sketchknitter.data.tally import Tally
from sketchknitter.data.writer import SetWriter
from sketchknitter.errors import SettingError, UserError
from sketchknitter.files import atomic, atomic_folder

_DONE = "done.json"  # what of a set on its way is in its files
_NOTE = 1.0  # seconds of work between notes of it
_MAX_LISTED = 1000  # sources named in prepared.json


def prepare(
    sources: Sequence[AnyPath],
    out: AnyPath,
    recipe: Recipe | None = None,
    *,
    processes: int = 0,
    progress: bool = True,
) -> PreparedSet:
    """Read drawing files, filter, simplify and split them, and write one prepared set.

    The result is the same for any number of processes. A prepared set in the way is replaced;
    after a failure or Ctrl-C everything is as before. When the process was killed, the same call
    goes on where it was, a second of work back at most.

    Args:
        sources: files and folders (see ``sources.find_sources``).
        out: the folder to make; its parent must exist.
        recipe: filters, simplification, splits.
        processes: how many work at once; 0 takes all cores.
        progress: show a bar on stderr.

    Raises:
        UserError: a file that cannot be read, an ``out`` in the way, no drawing left.
    """
    recipe = _checked(recipe or Recipe())
    target = Path(out)
    _check_target(target)
    return _prepare(find_sources(sources), target, recipe, processes, progress)


def _prepare(
    files: Sequence[Source], target: Path, recipe: Recipe, processes: int, progress: bool
) -> PreparedSet:
    with atomic_folder(target, _key(files, recipe)) as folder:
        work = _Work.begun(folder)
        try:
            _read(files, recipe, processes, progress, work.tally, work)
            if not work.tally.kept:
                raise UserError(f"no drawing was kept: {work.tally.why()}")
            classes = work.writer.finish()
        finally:
            work.writer.close()
        (folder / _DONE).unlink(missing_ok=True)
        info = _info(folder, classes, files, recipe, work.tally)
        (folder / HEADER).write_text(header_text(info, work.tally.lengths()), encoding="utf-8")
    return PreparedSet.open(target)


@dataclass
class _Work:
    """A set that grows in a folder, and goes on there after its process was killed.

    Attributes:
        folder: where it grows.
        tally: of what was read.
        writer: of the files.
        tasks: how many tasks are done.
    """

    folder: Path
    tally: Tally
    writer: SetWriter
    tasks: int = 0
    _noted: float = field(default_factory=time.monotonic)

    @classmethod
    def begun(cls, folder: Path) -> _Work:
        """What is in the folder, if it can be gone on with, else nothing."""
        try:
            state = json.loads((folder / _DONE).read_bytes())
            writer = SetWriter(folder, state["writer"])
            return cls(folder, Tally.of(state["tally"]), writer, state["tasks"])
        except (OSError, ValueError, TypeError, LookupError):
            for stray in folder.glob("*.n*"):
                stray.unlink()
            return cls(folder, Tally(), SetWriter(folder))

    def add(self, chunk: Chunk) -> None:
        """Append what was read."""
        self.writer.add(chunk)

    def end(self) -> None:
        """A task is over; every now and then this is noted, for who goes on."""
        self.tasks += 1
        if time.monotonic() < self._noted + _NOTE:
            return
        state = {"tasks": self.tasks, "writer": self.writer.state(), "tally": self.tally.state()}
        with atomic(self.folder / _DONE) as f:
            f.write(json.dumps(state).encode())
        self._noted = time.monotonic()


def survey(
    sources: Sequence[AnyPath], *, processes: int = 0, progress: bool = True
) -> tuple[list[Path], Tally]:
    """Read drawing files as they are and count what is in them.

    Raises:
        UserError: a file that cannot be read.
    """
    files = find_sources(sources)
    tally = Tally()
    _read(files, AS_IT_IS, processes, progress, tally, None)
    if not tally.kept and UNREADABLE in tally.rejects:
        raise UserError(f"nothing could be read: {tally.why()}")
    return [f.path for f in files], tally


def _read(
    files: Sequence[Source],
    recipe: Recipe,
    processes: int,
    progress: bool,
    tally: Tally,
    work: _Work | None,
) -> None:
    tasks = list(tasks_for(files, recipe))
    done = work.tasks if work is not None else 0
    with tqdm(
        total=sum(t.size for t in tasks),
        initial=sum(t.size for t in tasks[:done]),
        unit="B",
        unit_scale=True,
        desc="reading",
        disable=not progress,
        delay=1.0,
    ) as bar:
        for task, chunk in read_tasks(tasks[done:], recipe, processes):
            if chunk is None:
                bar.update(task.size)
                if work is not None:
                    work.end()
                continue
            tally.add(chunk, task.source, str(files[task.source].path))
            if work is not None:
                work.add(chunk)


def _checked(recipe: Recipe) -> Recipe:
    if recipe.max_points < 0:
        raise SettingError("max_points", f"must not be negative, not {recipe.max_points}")
    if not 0 <= recipe.clamp < 2**15:
        raise SettingError("clamp", f"must lie in 0 … {2**15 - 1}, not {recipe.clamp}")
    if min(recipe.split) < 0 or not 0 < sum(recipe.split) < float("inf"):
        raise SettingError("split", f"takes three shares such as 90 5 5, not {recipe.split}")
    return recipe


def header_text(info: Mapping[str, Any], lengths: Mapping[str, Any]) -> str:
    """``prepared.json``, to be read by people; the long table of ``lengths`` takes one line."""
    table = json.dumps(lengths, ensure_ascii=False, separators=(",", ":"))
    return f'{json.dumps(info, indent=1, ensure_ascii=False)[:-2]},\n "lengths": {table}\n}}\n'


# -- writing aside -----------------------------------------------------------------------------
def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise UserError(f"{target}: no such folder: {target.parent}; make it first")
    if target.is_dir():
        if not is_prepared(target) and any(target.iterdir()):
            raise UserError(f"{target} holds something else; name another folder for the set")
    elif target.exists():
        raise UserError(f"{target} is a file; name a folder for the set")


def _info(
    folder: Path, classes: Sequence[str], files: Sequence[Source], recipe: Recipe, tally: Tally
) -> dict[str, Any]:
    return {
        "kind": "sketchknitter prepared set",
        "format": FORMAT,
        "fingerprint": fingerprint(folder, classes),
        "classes": list(classes),
        **tally.report(),
        "filters": asdict(recipe),
        "sources": [
            {
                "path": str(source.path),
                "bytes": _size(source.path),
                "kept": tally.by_source.get(i, (0, 0))[0],
                "rejected": tally.by_source.get(i, (0, 0))[1],
            }
            for i, source in enumerate(files[:_MAX_LISTED])
        ],
        "source_files": len(files),
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# -- the user's cache --------------------------------------------------------------------------
def cache_folder() -> Path:
    """Where sets prepared on the fly are kept: ``$XDG_CACHE_HOME/sketchknitter/prepared``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "sketchknitter" / "prepared"


def _identity(source: Source) -> tuple[str, int, int, str | None]:
    try:
        state = source.path.stat()
    except OSError:  # it is gone, or cannot be looked at: reading it will say so
        return str(source.path), 0, 0, source.label
    return os.path.realpath(source.path), state.st_size, state.st_mtime_ns, source.label


def _key(files: Sequence[Source], recipe: Recipe) -> str:
    """24 hex digits of a hash of which files are prepared, and how."""
    stats = [_identity(f) for f in files]
    text = json.dumps([FORMAT, asdict(recipe), stats])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def prepare_cached(
    paths: Sequence[AnyPath], classes: Sequence[str] | None = None, *, progress: bool = True
) -> PreparedSet:
    """The prepared set of some drawing files, made in the user's cache unless it is there.

    Args:
        paths: files and folders.
        classes: where every one of them is the stem of a file, only those files are read; the
            caller still has to select.
        progress: show a bar on stderr.

    Raises:
        UserError: as :func:`prepare`.
    """
    files = find_sources(paths)
    stems = {f.path.stem for f in files}
    if classes and stems.issuperset(classes):
        files = [f for f in files if f.path.stem in classes]
    recipe = Recipe()
    target = cache_folder() / _key(files, recipe)
    if not is_prepared(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{target.parent} cannot be made ({error.strerror}); set XDG_CACHE_HOME, or"
                " prepare the files yourself: `sketchknitter data prepare`"
            ) from None
        return _prepare(files, target, recipe, 0, progress)
    return PreparedSet.open(target)


# -- anything that holds drawings ----------------------------------------------------------------
def open_data(
    paths: AnyPath | Sequence[AnyPath],
    classes: Sequence[str] | None = None,
    *,
    progress: bool = True,
) -> PreparedSet:
    """Open a prepared folder, or prepare drawing files into the user's cache and open that.

    The cache is ``$XDG_CACHE_HOME/sketchknitter/prepared`` (``~/.cache`` by default); its key is
    made of the files' names, sizes and times and of how they are prepared, so that a second call
    opens at once and a changed file is prepared anew.

    Args:
        paths: a prepared folder, a folder of drawing files, a drawing file, or several of these.
        classes: only these; in a folder with one file for each class, only those are read.
        progress: show a bar on stderr while preparing.

    Raises:
        UserError: nothing readable there, a damaged set, an unknown class.
    """
    many = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if len(many) == 1 and is_prepared(many[0]):
        data = PreparedSet.open(many[0])
    else:
        data = prepare_cached(many, classes, progress=progress)
    return data if classes is None else data.select(classes)
