"""What ``evaluate FILE --against DATA`` names: drawings to measure, and real ones beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sketchknitter import io
from sketchknitter.data.dataset import SPLITS, PreparedSet, Split, is_prepared
from sketchknitter.data.prepare import open_data
from sketchknitter.errors import UserError
from sketchknitter.io.npz import splits_in
from sketchknitter.sketch import Sketch

READABLE = (".ndjson", ".bin", ".npz", ".npy", ".svg")


@dataclass(frozen=True)
class Sides:
    """The sets of one evaluation.

    Args:
        drawings: what is measured, with labels only where they mean something.
        reference: the real drawings of the split asked for, of the same classes.
        heldout: valid + test, for the floors; train: for the copy check.
        names: of drawings and reference, for the report.
        notes: what was decided on the way.
    """

    drawings: list[Sketch]
    reference: list[Sketch]
    heldout: list[Sketch]
    train: list[Sketch]
    names: tuple[str, str]
    notes: tuple[str, ...]


def read_sides(
    file: str,
    against: str,
    split: str = "test",
    classes: Sequence[str] = (),
    progress: bool = False,
) -> Sides:
    """Read both sides and match their classes.

    Args:
        file: a file or folder we read, or ``PATH:SPLIT`` for one split of it.
        against: real drawings with splits: a prepared folder, drawing files, or an archive.
        split: the split of ``against`` that is the reference, and of ``file`` if it has several.
        classes: only these on both sides; by default those that ``file`` is labeled with.

    Raises:
        UserError: nothing readable, an empty split, or labels that ``against`` does not have.
    """
    drawings, drawings_name = read_drawings(file, split, progress)
    splits = read_splits(against, progress)
    known = {s.label for part in splits.values() for s in part if s.label is not None}
    wanted = _asked_for(classes, known, against)
    notes: list[str] = []
    if classes and any(s.label in known - wanted for s in drawings):
        drawings = [s for s in drawings if s.label not in known - wanted]
        notes.append(f"{len(drawings)} drawings of {drawings_name} are of the classes asked for")
    labels = {s.label for s in drawings if s.label is not None}
    strangers = sorted(labels - wanted)
    if strangers and len(labels) == 1:
        notes.append(
            f"{strangers[0]!r} is none of the reference's classes: {drawings_name} counts as "
            "unlabeled"
        )
        drawings = [s.with_label(None) for s in drawings]
    elif strangers:
        listed = ", ".join(map(repr, strangers[:5])) + (" …" if len(strangers) > 5 else "")
        raise UserError(
            f"{drawings_name}: labels {listed} are none of the {len(wanted)} classes of "
            f"{against}; leave those drawings out or give a reference that has them"
        )
    elif labels and labels < wanted:
        notes.append(
            f"compared with the {len(labels)} class(es) that {drawings_name} is labeled with, of"
            f" the reference's {len(wanted)}"
        )
        wanted = labels
    if wanted != known:
        splits = {k: [s for s in part if s.label in wanted] for k, part in splits.items()}
    reference = splits[split]
    if not reference:
        raise UserError(f"{against}: its {split} split is empty; name another with --split")
    heldout = [*splits["valid"], *splits["test"]]
    if len(heldout) < 8:
        heldout = reference
        notes.append(f"no held-out drawings: floors come from halves of {split}")
    names = (drawings_name, f"{Path(against).name}:{split}")
    return Sides(drawings, reference, heldout, splits["train"], names, tuple(notes))


def _asked_for(classes: Sequence[str], known: set[str], against: str) -> set[str]:
    missing = sorted(set(classes) - known)
    if missing:
        raise UserError(f"{against}: no class {missing[0]!r}; it has {', '.join(sorted(known))}")
    return set(classes) or known


def read_splits(path: str | os.PathLike[str], progress: bool = False) -> dict[str, list[Sketch]]:
    """All drawings under ``path`` by split: as they stand where the files say, none left out.

    A prepared folder and archives with splits are taken at their word; other files are split by
    ``open_data``, as training splits them.

    Raises:
        UserError: nothing readable there.
    """
    source = Path(path)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    archives = [source] if source.is_file() else _files(source)
    if archives and all(_has_splits(p) for p in archives):
        splits: dict[str, list[Sketch]] = {name: [] for name in SPLITS}
        for archive in tqdm(archives, "reading", disable=not progress or len(archives) < 5):
            for name in splits_in(archive):
                splits[name] += io.read(archive, split=name)
        return splits
    data = open_data(source, progress=progress)
    return drawings_of(data)


def read_drawings(
    spec: str, split: str = "test", progress: bool = False
) -> tuple[list[Sketch], str]:
    """The drawings that ``PATH`` or ``PATH:SPLIT`` names, and a short name for them.

    A source with several splits that are not empty gives its ``split``; one without splits, or
    with one that is not empty, gives all it has.

    Raises:
        UserError: nothing readable there, or the split is missing or empty.
    """
    path, named = split_spec(spec)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    files = [path] if path.is_file() else _files(path)
    if not files and not is_prepared(path):
        raise UserError(f"{path}: holds no file we read ({' '.join(READABLE)})")
    used: str | None = None
    if named is None and not is_prepared(path) and not all(_has_splits(p) for p in files):
        found = [s for p in files for s in io.read(p)]
    else:
        splits = read_splits(path, progress)
        filled = [name for name in SPLITS if splits[name]]
        used = named or (filled[0] if len(filled) == 1 else split)
        found = splits[used]
    name = path.name + (f":{used}" if used else "")
    if not found:
        raise UserError(f"{path}: holds no drawings{f' in {used}' if used else ''}")
    return found, name


def split_spec(spec: str) -> tuple[Path, str | None]:
    """``cats.npz:valid`` to its path and split; a path without a split's name stays whole."""
    head, colon, tail = spec.rpartition(":")
    if colon and tail in SPLITS and not Path(spec).exists():
        return Path(head), tail
    return Path(spec), None


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in READABLE)


def _has_splits(path: Path) -> bool:
    return path.suffix.lower() == ".npz" and bool(splits_in(path))


def drawings_of(data: PreparedSet) -> dict[str, list[Sketch]]:
    """All drawings of a prepared set by split."""
    return {name: _sketches(data.split(name)) for name in SPLITS}


def _sketches(part: Split) -> list[Sketch]:
    return [part.sketch(i) for i in range(len(part))]
