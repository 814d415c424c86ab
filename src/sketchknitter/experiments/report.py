"""Files that a table leaves: results.md, results.csv, timing.csv, report.html, plots."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from sketchknitter.experiments import published
from sketchknitter.experiments.content import blocks
from sketchknitter.experiments.measuring import ALL
from sketchknitter.experiments.results import Results
from sketchknitter.experiments.summary import value
from sketchknitter.files import atomic
from sketchknitter.reports.document import Picture, as_png, to_html, to_markdown


def to_csv(results: Results) -> str:
    """Every figure of every row and fold; nothing timed, so that two runs write the same bytes."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("group", "row", "fold", "metric", "n", "seeds", "mean", "spread")
    writer.writerow((*head, "floor", "floor_spread", "published"))
    for group, rows in results.groups.items():
        floor = results.floors[group]
        for r in [*rows, floor]:
            for fold in r.figures:
                for metric in sorted(r.figures[fold]):
                    found, low = value(r, metric, fold), value(floor, metric, fold)
                    assert found is not None
                    theirs = None
                    if r.row.published:
                        folds = tuple(results.folds) if fold == ALL else (fold,)
                        theirs = published.figure(r.row.published, metric, folds)
                    writer.writerow(
                        (
                            group,
                            r.row.name,
                            fold,
                            metric,
                            r.drawings[fold],
                            found.seeds,
                            _digits(found.mean),
                            _digits(found.spread),
                            _digits(low.mean if low else None),
                            _digits(low.spread if low else None),
                            _digits(theirs),
                        )
                    )
    return out.getvalue()


def _digits(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def to_timing(results: Results) -> str:
    """What drawing and training took; another run takes other times."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("group", "row", "seconds", "processor_seconds", "threads", "batch_size", "parameters")
    writer.writerow(
        (*head, "updates", "training_batch_size", "training_seconds", "training_processor_seconds")
    )
    for group, rows in results.groups.items():
        for r in rows:
            if r.seconds is not None:
                numbers = (_digits(r.seconds), _digits(r.cpu), r.threads)
                f = r.facts
                facts = (f.parameters, f.updates, f.batch_size, _digits(f.seconds), _digits(f.cpu))
                batch = results.table.measure.batch_size
                writer.writerow((group, r.row.name, *numbers, batch, *facts))
    return out.getvalue()


def write_all(results: Results, folder: Path) -> list[Path]:
    """Write every file, each whole or not at all; returns their paths."""
    parts = blocks(results)
    files = {
        "results.md": to_markdown(parts).encode(),
        "results.csv": to_csv(results).encode(),
        "timing.csv": to_timing(results).encode(),
        "report.html": to_html(results.table.title, parts).encode(),
    }
    files |= {b.file: as_png(b.image) for b in parts if isinstance(b, Picture)}
    for name, content in files.items():
        with atomic(folder / name) as f:
            f.write(content)
    return [folder / name for name in files]
