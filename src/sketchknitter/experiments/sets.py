"""Sets of drawings that are compared: which real ones, and how drawings are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.shuffle import PointShuffle, reconnect
from sketchknitter.errors import UserError
from sketchknitter.files import atomic
from sketchknitter.metrics.precision_recall import K
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch

FOLDS = (("Simple", 0.0, 40.0), ("Moderate", 40.0, 100.0), ("Complex", 100.0, np.inf))
ALL = "all"
DRAWN = "drawn.npz"
Folded = dict[str, list[Sketch]]  # fold, or all of them, to drawings


# -- which real drawings -------------------------------------------------------------------------
def average_points(split: Split) -> dict[str, float]:
    """Average stroke points (rows) of each class, which folds are cut by."""
    lengths, labels = np.asarray(split.lengths), np.asarray(split.labels)
    return {
        name: float(lengths[labels == i].mean())
        for i, name in enumerate(split.classes)
        if (labels == i).any()
    }


def folds(split: Split) -> dict[str, tuple[str, ...]]:
    """Classes of each fold that has any, in the paper's bounds (Simple < 40 … Complex > 100)."""
    points = average_points(split)
    cut = {
        fold: tuple(c for c, n in points.items() if low <= n < high) for fold, low, high in FOLDS
    }
    return {fold: classes for fold, classes in cut.items() if classes}


def draw_real(
    splits: Sequence[Split], classes: Sequence[str], count: int, purpose: Stream, *key: int
) -> list[Sketch]:
    """``count`` real drawings, equally many of each class, at random.

    Raises:
        UserError: a class has too few.
    """
    share = count // len(classes)
    out = []
    for c, name in enumerate(classes):
        places = [(split, int(i)) for split in splits for i in split.of_class(name)]
        if len(places) < share:
            many = " + ".join(s.name for s in splits)
            raise UserError(
                f"{name}: {share} drawings of {many} are needed, there are {len(places)}; lower "
                "the table's drawings"
            )
        order = stream(0, purpose, *key, c).permutation(len(places))[:share]
        out += [places[k][0].sketch(places[k][1]) for k in order]
    return out


def reference(data: PreparedSet, count: int) -> list[Sketch]:
    """The test drawings that ``count`` drawings are measured against."""
    return draw_real([data.test], data.classes, count, Stream.REFERENCE)


def draw_halves(data: PreparedSet, count: int, seed: int) -> tuple[list[Sketch], list[Sketch]]:
    """Two disjoint sets of up to ``count`` held-out drawings, equally many of each class."""
    splits, classes = [data.valid, data.test], data.classes
    most = min(sum(len(s.of_class(name)) for s in splits) for name in classes) // 2
    share = min(count // len(classes), most)
    both = draw_real(splits, classes, 2 * share * len(classes), Stream.HALVES, seed)
    first = [s for k, s in enumerate(both) if k % (2 * share) < share]
    second = [s for k, s in enumerate(both) if k % (2 * share) >= share]
    return first, second


def chosen(data: PreparedSet, count: int) -> list[int]:
    """Places of the test drawings that the conditional protocols damage, some of each class."""
    rng, share = stream(0, Stream.DAMAGED), max(1, count // len(data.classes))
    return [int(i) for c in data.classes for i in rng.permutation(data.test.of_class(c))[:share]]


# -- what is made of them --------------------------------------------------------------------------
def by_fold(sketches: list[Sketch], cut: dict[str, tuple[str, ...]]) -> Folded:
    """All drawings, and where classes span several folds also those of each."""
    out = {ALL: sketches}
    if len(cut) > 1 and all(s.label is not None for s in sketches):
        for fold, classes in cut.items():
            part = [s for s in sketches if s.label in classes]
            if len(part) > K:
                out[fold] = part
    return out


def finished(sketches: list[Sketch], finish: str, seed: int) -> list[Sketch]:
    """Drawings finished as a row says, one of ``declare.FINISHES``."""
    if finish == "shuffle and reconnect":
        change = PointShuffle("full")
        sketches = [
            Sketch.from_stroke3(change(s.to_stroke3(), stream(seed, Stream.FINISH, i)), s.label)
            for i, s in enumerate(sketches)
        ]
    return [reconnect(s) for s in sketches] if finish else sketches


# -- storing -------------------------------------------------------------------------------------
def store(sketches: Sequence[Sketch], path: Path) -> None:
    """Drawings to the last bit, with their labels."""
    strokes = [s for sketch in sketches for s in sketch.strokes]
    with atomic(path) as file:
        np.savez_compressed(
            file,
            points=np.concatenate(strokes) if strokes else np.zeros((0, 2)),
            lengths=np.array([len(s) for s in strokes], dtype=np.int64),
            strokes=np.array([len(s) for s in sketches], dtype=np.int64),
            labels=np.array([s.label or "" for s in sketches], dtype=np.str_),
        )


def read(path: Path) -> list[Sketch]:
    """What :func:`store` wrote.

    Raises:
        UserError: damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            points, lengths = file["points"], file["lengths"]
            counts, labels = file["strokes"], file["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: {error}; remove its folder and run again") from None
    strokes = np.split(points, np.cumsum(lengths)[:-1]) if len(lengths) else []
    ends = np.cumsum(counts)
    return [
        Sketch(strokes[end - count : end], str(label) or None)
        for count, end, label in zip(counts, ends, labels, strict=True)
    ]
