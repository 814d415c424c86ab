"""Variations of one drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sketchknitter.data.outline import check
from sketchknitter.editing.classify import (
    guess,
    label_index,
)
from sketchknitter.editing.heal import heal_all
from sketchknitter.errors import SettingError
from sketchknitter.sketch import Sketch

if TYPE_CHECKING:
    from sketchknitter.systems.sketchknitter.model import DrawingModel


def vary(
    model: DrawingModel, sketch: Sketch, n: int = 6, strength: float = 0.5, **options: Any
) -> list[Sketch]:
    """Variations of one drawing: noised as :func:`heal_all` does and denoised freely."""
    if n < 1:
        raise SettingError("n", f"must be at least 1, not {n}")
    options = {"anchor": False, "perceptual": 0.0} | options
    if options.get("label", "guess") == "guess" and label_index(model, "guess", sketch) is None:
        check(sketch)
        index = guess(model, sketch, finished=True, seed=options.get("seed", 0))
        options["label"] = model.classes[index]
    return heal_all(model, [sketch] * n, strength, **options)
