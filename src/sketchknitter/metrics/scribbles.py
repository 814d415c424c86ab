"""Scribbles: drawings in which the judge sees nothing at all."""

from __future__ import annotations

from sketchknitter.metrics.metric import Comparison, Metric


def _share(c: Comparison) -> float | None:
    chance = c.drawn.features.scribble
    return None if chance is None else float((chance > 0.5).mean())


_NOTE = "share in which the judge sees a scribble that shows nothing"
METRICS = (Metric("scribbles", "scribbles %", _share, factor=100, note=_NOTE, place=75),)
