"""How an edit is sampled, and the model wrapped for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion.guidance.classifier_free import Guided
from sketchknitter.diffusion.guidance.known import Anchored, Known
from sketchknitter.editing.classify import (
    walk_of,
)
from sketchknitter.errors import UserError
from sketchknitter.settings import Editing

if TYPE_CHECKING:
    from sketchknitter.systems.sketchknitter.model import DrawingModel


INK = 34  # what a random stream is for


BATCH = 32  # drawings edited together


SETTLED = 0.7  # alpha above which parts stay where they are; a third of the time saved


Watch = Callable[[sampling.Frame], None]


def settings_of(options: dict[str, Any], base: Editing | None = None) -> Editing:
    """Settings from keyword arguments.

    Raises:
        UserError: an unknown name, or a value that cannot be.
    """
    known = [f.name for f in fields(Editing)]
    if unknown := set(options) - set(known):
        raise UserError(f"no setting {sorted(unknown)[0]!r}; one of: {', '.join(known)}")
    how = replace(base or Editing(), **options)
    if how.steps < 2:
        raise UserError(f"--steps must be at least 2, not {how.steps}")
    return how


def _guided(model: DrawingModel, how: Editing) -> sampling.Model:
    if how.guidance == 1:
        return model.denoiser
    return Guided(model.denoiser, how.guidance, len(model.classes), how.interval)


def _anchored(model: DrawingModel, known: Known, how: Editing) -> Anchored:
    bits = model.denoiser.pens.channels > 0
    return Anchored(
        _guided(model, how), walk_of(model), known, bits, lean=how.lean, settled=SETTLED
    )


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise UserError(f"--strength must lie in 0 … 1, not {strength}")
