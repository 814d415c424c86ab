"""How long work tells those who wait for it where it stands."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, float], object]
"""Told ``(what, done, total)``: of ``total`` units of ``what`` ("updates", "drawings") so many are
done. Called at least once a second or so, from the thread that works; it may raise to interrupt."""


def silent(what: str, done: float, total: float) -> None:
    """The progress that says nothing."""
