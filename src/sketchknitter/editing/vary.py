"""Variations of one drawing."""

from __future__ import annotations

from typing import Any

from sketchknitter.data.outline import check
from sketchknitter.editing import plain
from sketchknitter.editing.classify import guess, label_index
from sketchknitter.editing.heal import believed, heal_all
from sketchknitter.editing.options import Show, Watch, check_strength, settings_of
from sketchknitter.errors import SettingError
from sketchknitter.settings import Varying
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel


def vary(
    model: DrawingModel, sketch: Sketch, n: int = 6, strength: float = 0.5, **options: Any
) -> list[Sketch]:
    """Variations of one drawing.

    A model trained for conditions draws each from another rough copy (:mod:`editing.plain`); the
    guided way noises the drawing as :func:`heal_all` does and denoises it freely.
    """
    if n < 1:
        raise SettingError("n", f"must be at least 1, not {n}")
    if strength == 0:  # nothing is drawn, so nothing is guessed
        return heal_all(model, [sketch] * n, 0.0, **options)
    if options.get("method", "auto") == "auto" and model.denoiser.condition:
        return _plain(model, sketch, n, strength, **options)
    options = {"anchor": False, "perceptual": 0.0} | options
    if options.get("label", "guess") == "guess" and label_index(model, "guess", sketch) is None:
        check(sketch)
        index = guess(model, sketch, finished=True, seed=options.get("seed", 0))
        options["label"] = model.classes[index]
    return heal_all(model, [sketch] * n, strength, **options)


def _plain(
    model: DrawingModel,
    sketch: Sketch,
    n: int,
    strength: float,
    *,
    label: str | None = "guess",
    seed: int = 0,
    method: str = "auto",
    watch: Watch | None = None,
    show: Show | None = None,
    **settings: Any,
) -> list[Sketch]:
    check(sketch)
    check_strength(strength)
    return plain.variations(
        model,
        sketch,
        n,
        believed(model, label, sketch),
        plain.sampling_of(model, settings_of(settings, Varying())),
        strength=strength,
        seed=seed,
        watch=watch,
        show=show,
    )
