"""What users hold: a model that draws, and edits a person's own drawing."""

from __future__ import annotations

from typing import Any

from sketchknitter.editing.complete import complete
from sketchknitter.editing.heal import heal
from sketchknitter.editing.interpolate import interpolate
from sketchknitter.editing.vary import vary
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel


class SketchKnitter(DrawingModel):
    """A diffusion model over pen strokes.

    Args:
        checkpoint: weights and configuration, from :class:`Checkpoint`.
        device: where to run.
    """

    def complete(self, sketch: Sketch, n: int = 6, **options: Any) -> list[Sketch]:
        """Finish an unfinished drawing in ``n`` ways (:func:`editing.complete.complete`)."""
        return complete(self, sketch, n, **options)

    def heal(self, sketch: Sketch, strength: float = 0.3, **options: Any) -> Sketch:
        """Redraw a clumsy drawing so that it stays itself (:func:`editing.heal.heal_all`)."""
        return heal(self, sketch, strength, **options)

    def vary(
        self, sketch: Sketch, n: int = 6, strength: float = 0.5, **options: Any
    ) -> list[Sketch]:
        """Variations of a drawing (:func:`editing.vary.vary`)."""
        return vary(self, sketch, n, strength, **options)

    def interpolate(self, a: Sketch, b: Sketch, n: int = 9, **options: Any) -> list[Sketch]:
        """The drawings from ``a`` to ``b``, both included (:func:`editing.interpolate`)."""
        return interpolate(self, a, b, n, **options)
