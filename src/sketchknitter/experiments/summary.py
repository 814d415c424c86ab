"""Figures over seeds: means, spreads, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sketchknitter.experiments.results import Measured
from sketchknitter.experiments.sets import ALL
from sketchknitter.metrics.metric import Metric, all_metrics
from sketchknitter.reports.document import mean_text


@dataclass(frozen=True)
class Value:
    """Mean over seeds, standard deviation (None for one seed), and how many there were."""

    mean: float
    spread: float | None
    seeds: int

    def __str__(self) -> str:
        return self.text()

    def text(self, factor: float = 1.0) -> str:
        return mean_text(self.mean, self.spread, factor)


def value(row: Measured, metric: str, fold: str = ALL) -> Value | None:
    """A row's figure; None where it has none."""
    values = row.figures.get(fold, {}).get(metric)
    return mean_and_spread(values) if values else None


def mean_and_spread(values: list[float]) -> Value:
    """Of at least one number."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Value(float(np.mean(values)), spread, len(values))


def cell(row: Measured, metric: Metric, fold: str = ALL) -> str:
    """As printed in a table."""
    found = value(row, metric.name, fold)
    return "–" if found is None else found.text(metric.factor)


def shown(rows: list[Measured]) -> list[Metric]:
    """Metrics that some row has: headlines; of conditional rows all."""
    conditional = any(r.row.damage for r in rows)
    every = (m for m in all_metrics().values() if m.headline or conditional)
    return [m for m in every if any(value(r, m.name) is not None for r in rows)]
