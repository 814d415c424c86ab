"""What a metric is, and the one way to measure: every report and table goes through here.

To add a metric, write one file in this package that ends in ``METRICS = (Metric(…),)``. It is then
found, measured and printed by ``sketchknitter evaluate``, by the tables and, where it is named, by
the conditional protocols; a row in ``tests/metrics/test_metric.py`` holds it to its word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sketchknitter.errors import UserError
from sketchknitter.metrics.features import FeatureNetwork, Features
from sketchknitter.sketch import Sketch

T = TypeVar("T")
Better = Literal["lower", "higher", "floor"]


class DrawingSet:
    """Drawings, and whatever metrics find out about them, found out once.

    Args:
        sketches: at least one point each.
        network: turns them into features.
        progress: show a bar where that takes long.
    """

    def __init__(
        self, sketches: Sequence[Sketch], network: FeatureNetwork, progress: bool = False
    ) -> None:
        self.sketches, self.network, self.progress = list(sketches), network, progress
        self._whole: tuple[DrawingSet, NDArray[np.int64]] | None = None
        self._found: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.sketches)

    def __getitem__(self, rows: Any) -> DrawingSet:
        """Some of them, which share the features that are computed for all."""
        index = np.arange(len(self))[rows]
        out = DrawingSet([self.sketches[i] for i in index], self.network, self.progress)
        out._whole = self, index
        return out

    @property
    def features(self) -> Features:
        """What the network says of them."""
        if self._whole is not None:
            whole, rows = self._whole
            return whole.features[rows]
        return self.once(_embedded)

    def once(self, find: Callable[..., T], *args: Any) -> T:
        """``find(self, *args)``, remembered by function and (hashable) arguments."""
        key = (find, *args)
        if key not in self._found:
            self._found[key] = find(self, *args)
        return self._found[key]


def _embedded(drawings: DrawingSet) -> Features:
    return drawings.network.embed(drawings.sketches, progress=drawings.progress)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Drawings beside what they are measured against; not every metric needs all of it.

    Args:
        drawn: the drawings.
        real: the reference.
        train: what a copy would be one of.
        originals: what each drawing was made from, in the same order and among ``real``: a clean
            drawing that was damaged and then healed or completed.
        endings: of each original, several drawings made from it, and what they have in common.
        repeats: landmark draws of the Geometry Score; 0 leaves it out.
        draws: of the bootstrap.
        seed: of landmarks and bootstrap.
    """

    drawn: DrawingSet
    real: DrawingSet
    train: DrawingSet | None = None
    originals: DrawingSet | None = None
    endings: tuple[tuple[tuple[Sketch, ...], Sketch], ...] = ()
    repeats: int = 100
    draws: int = 200
    seed: int = 0
    _found: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def network(self) -> FeatureNetwork:
        return self.drawn.network

    @property
    def labels(self) -> list[str] | None:
        """The class that each drawing is meant to be; None unless all have one."""
        found = [s.label for s in (self.originals or self.drawn).sketches]
        return None if None in found else [str(label) for label in found]

    def once(self, find: Callable[..., T], *args: Any) -> T:
        """``find(self, *args)``, remembered: metrics of one file share their work."""
        key = (find, *args)
        if key not in self._found:
            self._found[key] = find(self, *args)
        return self._found[key]


@dataclass(frozen=True)
class Metric:
    """One figure.

    Attributes:
        name: in files; one name everywhere.
        title: at the head of a column.
        compute: the value, or None where there is nothing to compute it from.
        better: which way; ``"floor"``: the nearer to that of real drawings.
        unit: of the value; empty for a bare number.
        factor: tables print the value times this (their title says so).
        spread: its bootstrap standard deviation.
        note: what else to know, one line.
        headline: a column of its own in a table's report (files hold every metric).
        halvings: ways to halve real drawings that its floor is worth, at most.
        place: in the order of a report.
    """

    name: str
    title: str
    compute: Callable[[Comparison], float | None]
    better: Better = "lower"
    unit: str = ""
    factor: float = 1.0
    spread: Callable[[Comparison], float] | None = None
    note: str = ""
    headline: bool = False
    halvings: int = 100
    place: int = 500

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@cache
def all_metrics() -> dict[str, Metric]:
    """Every metric of this package by name, in the order of reports."""
    package = __name__.rpartition(".")[0]
    found: list[Metric] = []
    for module in iter_modules([str(Path(__file__).parent)]):
        if not module.ispkg:
            found += getattr(import_module(f"{package}.{module.name}"), "METRICS", ())
    found.sort(key=lambda m: (m.place, m.name))
    names = [m.name for m in found]
    if double := {n for n in names if names.count(n) > 1}:
        raise ValueError(f"two metrics are called {double.pop()}")
    return dict(zip(names, found, strict=True))


def choose(names: Iterable[str]) -> tuple[Metric, ...]:
    """Metrics by name.

    Raises:
        UserError: no such metric.
    """
    known = all_metrics()
    if missing := [n for n in names if n not in known]:
        raise UserError(f"no metric {missing[0]!r}; one of: {', '.join(known)}")
    return tuple(known[n] for n in names)


def measure(comparison: Comparison, metrics: Iterable[Metric] | None = None) -> dict[str, float]:
    """Name to value, in the order of ``metrics`` (default: all); what has no answer is left out.

    Raises:
        UserError: too few drawings, or a value that is not finite.
    """
    out: dict[str, float] = {}
    for metric in metrics if metrics is not None else all_metrics().values():
        value = metric.compute(comparison)
        if value is None:
            continue
        if not np.isfinite(value):
            raise UserError(
                f"{metric.name} is not finite on these drawings; look at them for degenerate ones"
            )
        out[metric.name] = float(value)
    return out
