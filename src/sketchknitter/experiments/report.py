"""A table's report as a document, and the files that a table leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sketchknitter.experiments import published
from sketchknitter.experiments.content import blocks
from sketchknitter.experiments.results import Results
from sketchknitter.experiments.sets import ALL
from sketchknitter.experiments.summary import value
from sketchknitter.reports.document import Document, Table, to_csv, write_folder

_FIGURES = ("group", "row", "fold", "metric", "n", "seeds", "mean", "spread")
_FLOORS = ("floor", "floor_spread", "published")
_TIMES = ("group", "row", "seconds", "processor_seconds", "threads", "batch_size", "parameters")
_TRAINING = ("updates", "training_batch_size", "training_seconds", "training_processor_seconds")


def figures(results: Results) -> Table:
    """Every figure of every row and fold; nothing timed, so that two runs write the same bytes."""
    return Table((*_FIGURES, *_FLOORS), tuple(_figures(results)))


def _figures(results: Results) -> Iterator[tuple[str, ...]]:
    for group, rows in results.groups.items():
        floor = results.floors.get(group)
        for r in rows if floor is None else [*rows, floor]:
            for fold in r.figures:
                for metric in sorted(r.figures[fold]):
                    found = value(r, metric, fold)
                    low = value(floor, metric, fold) if floor is not None else None
                    assert found is not None
                    theirs = None
                    if r.row.published:
                        folds = tuple(results.folds) if fold == ALL else (fold,)
                        theirs = published.figure(r.row.published, metric, folds)
                    numbers = (found.mean, found.spread)
                    floors = (low.mean, low.spread) if low else (None, None)
                    yield (
                        *(group, r.row.name, fold, metric),
                        *(str(r.drawings[fold]), str(found.seeds)),
                        *(_digits(v) for v in (*numbers, *floors, theirs)),
                    )


def _digits(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def timing(results: Results) -> Table:
    """What drawing and training took; another run takes other times."""
    batch = str(results.table.measure.batch_size)
    rows = [
        (
            *(group, r.row.name, _digits(r.seconds), _digits(r.cpu), str(r.threads), batch),
            *(str(n) for n in (r.facts.parameters, r.facts.updates, r.facts.batch_size)),
            *(_digits(r.facts.seconds), _digits(r.facts.cpu)),
        )
        for group, part in results.groups.items()
        for r in part
        if r.seconds is not None
    ]
    return Table((*_TIMES, *_TRAINING), tuple(rows))


def write_all(results: Results, folder: Path) -> list[Path]:
    """Write every file, each whole or not at all; returns their paths."""
    document = Document(results.table.title, tuple(blocks(results)), figures(results))
    return write_folder(document, folder, timing_csv=to_csv(timing(results)).encode())
