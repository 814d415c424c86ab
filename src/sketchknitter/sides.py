"""What ``evaluate FILE --against DATA`` names: drawings to measure, and real ones beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sketchknitter import io
from sketchknitter.data.dataset import SPLITS, PreparedSet, Split, is_prepared, open_data
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
        classes: only these classes of ``against``; by default those that ``file`` is labeled with.

    Raises:
        UserError: nothing readable, an empty split, or labels that ``against`` does not have.
    """
    drawings, drawings_name = read_drawings(file, split, progress)
    data = open_data(against, list(classes) or None, progress=progress)
    notes: list[str] = []
    labels = {s.label for s in drawings if s.label is not None}
    strangers = sorted(labels - set(data.classes))
    if strangers and len(labels) == 1:
        notes.append(
            f"{strangers[0]!r} is none of the reference's classes: {drawings_name} counts as "
            "unlabeled"
        )
        drawings = [s.with_label(None) for s in drawings]
    elif strangers:
        listed = ", ".join(map(repr, strangers[:5])) + (" …" if len(strangers) > 5 else "")
        raise UserError(
            f"{drawings_name}: labels {listed} are none of the {len(data.classes)} classes of "
            f"{against}; leave those drawings out or give a reference that has them"
        )
    elif labels and len(labels) < len(data.classes):
        notes.append(
            f"compared with the {len(labels)} classes that {drawings_name} is labeled with, of the "
            f"reference's {len(data.classes)}"
        )
        data = data.select([c for c in data.classes if c in labels])
    valid, test = _sketches(data.valid), _sketches(data.test)
    train = _sketches(data.train)
    reference = {"train": train, "valid": valid, "test": test}[split]
    if not reference:
        raise UserError(f"{against}: its {split} split is empty; name another with --split")
    heldout = [*valid, *test]
    if len(heldout) < 8:
        heldout = reference
        notes.append(f"no held-out drawings: floors come from halves of {split}")
    names = (drawings_name, f"{Path(against).name}:{split}")
    return Sides(drawings, reference, heldout, train, names, tuple(notes))


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
    if path.is_dir():
        found, used = _read_folder(path, named, split, progress)
    elif path.suffix.lower() == ".npz":
        found, used = _read_archive(path, named, split)
    elif named is not None:
        raise UserError(f"{path}: {path.suffix} files have no splits; leave out {':' + named!r}")
    else:
        found, used = list(io.read(path)), None
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


def _sketches(part: Split) -> list[Sketch]:
    return [part.sketch(i) for i in range(len(part))]


def _pick(data: PreparedSet, named: str | None, split: str) -> tuple[list[Sketch], str]:
    filled = [s for s in SPLITS if len(data.split(s))]
    used = named or (filled[0] if len(filled) == 1 else split)
    return _sketches(data.split(used)), used


def _read_archive(path: Path, named: str | None, split: str) -> tuple[list[Sketch], str | None]:
    names = splits_in(path)
    if not names and named is None:
        return list(io.read(path)), None
    if named is not None:
        return list(io.read(path, split=named)), named
    parts = {name: list(io.read(path, split=name)) for name in names}
    filled = [name for name, part in parts.items() if part]
    used = filled[0] if len(filled) == 1 else split
    return parts.get(used, []), used


def _read_folder(
    path: Path, named: str | None, split: str, progress: bool
) -> tuple[list[Sketch], str | None]:
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in READABLE)
    if is_prepared(path):
        return _pick(PreparedSet.open(path), named, split)
    if not files:
        raise UserError(f"{path}: holds no file we read ({' '.join(READABLE)})")
    if named is not None or all(p.suffix.lower() == ".npz" and splits_in(p) for p in files):
        parts = [_read_archive(p, named, split)[0] for p in files]
        return [s for part in parts for s in part], named or split
    return [s for p in files for s in io.read(p)], None
