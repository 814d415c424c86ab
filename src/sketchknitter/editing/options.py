"""How an edit is sampled, and the model wrapped for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion.guidance.classifier_free import Guided
from sketchknitter.diffusion.guidance.known import Anchored, Known
from sketchknitter.editing.plan import Plan, emitted
from sketchknitter.errors import SettingError, UserError
from sketchknitter.settings import Editing
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel

BATCH = 32  # drawings edited together


SETTLED = 0.7  # alpha above which parts stay where they are; a third of the time saved


Watch = Callable[[sampling.Frame], None]
Show = Callable[[Mapping[int, Sketch]], None]


How = TypeVar("How", bound=Editing)


def settings_of(options: dict[str, Any], base: How) -> How:
    """``base`` with some of its fields replaced.

    Raises:
        UserError: a name that this edit has no use for, or a value that cannot be.
    """
    known = [f.name for f in fields(base)]
    if unknown := set(options) - set(known):
        raise UserError(f"no setting {sorted(unknown)[0]!r} here; one of: {', '.join(known)}")
    return replace(base, **options)


GUIDED_STEPS, GUIDED_WEIGHT = 30, 3.0  # of the guided way, when nobody says
METHODS = ("auto", "guided")


def guided_steps(how: Editing) -> int:
    """Noise levels of the guided way."""
    if how.steps is not None and how.steps < 2:
        raise SettingError("steps", f"must be at least 2 in the guided way, not {how.steps}")
    return GUIDED_STEPS if how.steps is None else how.steps


def guided_weight(how: Editing) -> float:
    """Classifier-free guidance weight of the guided way."""
    return GUIDED_WEIGHT if how.guidance is None else how.guidance


GUIDED_SAMPLER, GUIDED_INTERVAL = "ancestral", (0.1, 0.95)


def check_method(method: str) -> None:
    if method not in METHODS:
        raise SettingError("method", f"is auto or guided, not {method!r}")


def standing(model: DrawingModel, frame: sampling.Frame) -> list[Sketch]:
    """The drawings of a frame as they stand, one for each of its rows, in px of the model."""
    return model.decode(frame.denoised.x0, frame.denoised.pen, frame.task)


def telling(
    model: DrawingModel,
    plans: Sequence[Plan],
    kept: frozenset[int],
    watch: Watch | None,
    show: Show | None,
    first: int = 0,
    tries: int = 1,
) -> Callable[[Sequence[int]], Watch | None]:
    """What watches drawings, by their numbers, and shows them as they stand, numbered on from
    ``first``; of ``tries`` drawings of each plan in turn, the first."""

    def of(numbers: Sequence[int]) -> Watch | None:
        if show is None:
            return watch

        def tell(frame: sampling.Frame) -> None:
            if watch is not None:
                watch(frame)
            who = [numbers[row] for row in frame.rows.tolist()]
            drawn = zip(who, standing(model, frame), strict=True)
            firsts = ((i // tries, d) for i, d in drawn if i % tries == 0)
            show({first + i: emitted(plans[i], d, kept, None) for i, d in firsts})

        return tell

    return of


def _guided(model: DrawingModel, how: Editing) -> sampling.Model:
    weight = guided_weight(how)
    if weight == 1:
        return model.denoiser
    return Guided(model.denoiser, weight, len(model.classes), how.interval or GUIDED_INTERVAL)


def anchored_to(model: DrawingModel, known: Known, how: Editing) -> Anchored:
    bits = model.denoiser.pens.channels > 0
    return Anchored(
        _guided(model, how), model.config.codec.map, known, bits, lean=how.lean, settled=SETTLED
    )


def check_strength(strength: float, name: str = "strength") -> None:
    if not 0 <= strength <= 1:
        raise SettingError(name, f"must lie in 0 … 1, not {strength}")
