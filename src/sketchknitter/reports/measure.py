"""Measure drawings against real ones, from files or from sketches at hand."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Literal

from sketchknitter import io
from sketchknitter.data.sides import read_sides
from sketchknitter.metrics.features import FeatureNetwork
from sketchknitter.metrics.judge.network import load_judge
from sketchknitter.reports.evaluate import EvaluationSettings
from sketchknitter.reports.evaluate import evaluate as compare
from sketchknitter.reports.report import Report
from sketchknitter.sketch import Sketch

DIGITS = 6  # after the point, px


def evaluate(
    drawings: str | PathLike[str] | Sequence[Sketch],
    against: str | PathLike[str],
    *,
    split: Literal["train", "valid", "test"] = "test",
    classes: Sequence[str] = (),
    n: int | None = None,
    seed: int = 0,
    geometry_repeats: int = 1000,
    copy_check: bool = True,
    judge: FeatureNetwork | str | PathLike[str] | None = None,
    progress: bool = False,
) -> Report:
    """FID, KID, precision, recall and the rest; what ``sketchknitter evaluate`` does.

    Args:
        drawings: sketches, or a file or folder of them.
        against: real drawings: a prepared set, a folder of drawing files, or an archive.
        split: which of its splits is the reference.
        classes: only these, on both sides.
        n: drawings on each side at most; None takes as many as both sides have.
        seed: of every random choice.
        geometry_repeats: landmark draws of the Geometry Score; 0 leaves it out.
        copy_check: look for each drawing's nearest training drawing.
        judge: the network whose features are compared, or its weights; None is the shipped one.
        progress: show a bar.

    Returns:
        The report: ``figures`` by name with value, floor and spread.

    Raises:
        UserError: too few drawings, an empty split, or classes that ``against`` does not have.
    """
    if judge is None or isinstance(judge, str | PathLike):
        judge = load_judge(None if judge is None else fspath(judge))
    how = EvaluationSettings(
        n=n, seed=seed, geometry_repeats=geometry_repeats, copy_check=copy_check
    )
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(drawings, str | PathLike):
            file = fspath(drawings)
        else:
            path = Path(folder) / "drawings.ndjson"
            io.write(drawings, path, decimals=DIGITS)
            file = fspath(path)
        sides = read_sides(file, fspath(against), split, classes, progress)
        return compare(
            sides.drawings,
            sides.reference,
            heldout=sides.heldout,
            train=sides.train,
            network=judge,
            settings=how,
            names=sides.names,
            notes=sides.notes,
            progress=progress,
        )
