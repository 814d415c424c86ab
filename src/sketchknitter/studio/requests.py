"""What each message asks of the model: the one place where the studio meets it.

A request is served in slices. Between two slices another client may have its turn, so the first
ending of one person comes before the sixth of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from sketchknitter.diffusion import sampler as sampling
from sketchknitter.editing.options import Show, standing
from sketchknitter.editing.plain import class_chances
from sketchknitter.sketch import Sketch
from sketchknitter.studio import messages as say

if TYPE_CHECKING:
    from sketchknitter.editing.model import SketchKnitter

Emit = Callable[[say.Event], None]
Request = say.Guess | say.Complete | say.Heal | say.Vary | say.Interpolate | say.Sample

GROUPS = (1, 5)  # endings drawn together: the first one soon, the others cheaply
TRIES = 4  # of each ending at most: somebody is waiting


def serve(model: SketchKnitter, request: Request, emit: Emit) -> Iterator[None]:
    """Do what a request asks, one slice for each ``next``.

    Args:
        emit: is handed the events as they come.

    Raises:
        UserError: the model cannot work with this drawing or class.
    """
    match request:
        case say.Guess():
            emit(guessed(model, request.sketch(), request.finished))
            yield
        case say.Complete():
            yield from _complete(model, request, emit)
        case say.Heal():
            yield from _heal(model, request, emit)
        case say.Vary():
            yield from _vary(model, request, emit)
        case say.Interpolate():
            yield from _interpolate(model, request, emit)
        case say.Sample():
            yield from _sample(model, request, emit)


def guessed(model: SketchKnitter, sketch: Sketch, finished: bool) -> say.Guessed:
    """The three likeliest classes of a drawing."""
    p = class_chances(model, sketch, finished)
    best = np.argsort(-p, kind="stable")[:3]
    likely = [say.Likely(model.classes[i], round(float(p[i]), 4)) for i in best]
    return say.Guessed(likely, bool(likely and likely[0].p > 0.5))


def _shown(emit: Emit, request: say.Asked, source: Sketch | None = None) -> Show | None:
    """What passes on the drawings as they stand; None where they are not wanted."""
    if not request.frames:
        return None
    evaluations = count(1)

    def show(drawings: Mapping[int, Sketch]) -> None:
        seen = [say.drawing(i, s, source, fine=False) for i, s in drawings.items() if s.num_points]
        emit(say.Frame(seen, next(evaluations)))

    return show


def _complete(model: SketchKnitter, request: say.Complete, emit: Emit) -> Iterator[None]:
    source = request.sketch()
    sketch = source
    if request.tidy:
        sketch = model.heal(
            source,
            request.tidy,
            keep=request.keep,
            label=request.label,
            seed=request.seed,
        )
        yield
    groups = model.endings(
        sketch,
        request.n,
        GROUPS,
        label=request.label,
        where=request.where,
        tries=TRIES,
        seed=request.seed,
        show=_shown(emit, request, source),
    )
    made = 0
    for group in groups:
        for i, ending in enumerate(group, made):
            emit(say.Drawn(say.drawing(i, ending, source), request.n, request.seed))
        if not made:
            emit(guessed(model, sketch, finished=False))
        made += len(group)
        yield


def _heal(model: SketchKnitter, request: say.Heal, emit: Emit) -> Iterator[None]:
    source = request.sketch()
    healed = model.heal(
        source,
        request.strength,
        label=request.label,
        keep=request.keep,
        seed=request.seed,
        show=_shown(emit, request, source),
    )
    emit(say.Drawn(say.drawing(0, healed, source), 1, request.seed))
    yield


def _vary(model: SketchKnitter, request: say.Vary, emit: Emit) -> Iterator[None]:
    source = request.sketch()
    drawn = model.vary(
        source,
        request.n,
        request.strength,
        label=request.label,
        seed=request.seed,
        show=_shown(emit, request, source),
    )
    for i, one in enumerate(drawn):
        emit(say.Drawn(say.drawing(i, one, source), request.n, request.seed))
    yield


def _interpolate(model: SketchKnitter, request: say.Interpolate, emit: Emit) -> Iterator[None]:
    a, b = request.sketches()
    # a drawing's own label is what the model goes by when it is asked to guess
    a, b = (
        s.with_label(label if label not in ("guess", None) else None)
        for s, label in ((a, request.label_a), (b, request.label_b))
    )
    unlabeled = request.label_a is None and request.label_b is None
    drawn = model.interpolate(
        a,
        b,
        request.n,
        label=None if unlabeled else "guess",
        seed=request.seed,
        show=_shown(emit, request),
    )
    for i, one in enumerate(drawn):
        emit(say.Drawn(say.drawing(i, one), request.n, request.seed))
    yield


def _sample(model: SketchKnitter, request: say.Sample, emit: Emit) -> Iterator[None]:
    shown = _shown(emit, request)

    def watch(numbers: np.ndarray, frame: sampling.Frame) -> None:
        assert shown is not None
        rows = numbers[frame.rows.numpy(force=True)].tolist()
        shown(dict(zip(rows, standing(model, frame), strict=True)))

    drawn = model.stream(
        request.label, request.n, seed=request.seed, watch=None if shown is None else watch
    )
    for i, one in enumerate(drawn):
        emit(say.Drawn(say.drawing(i, one), request.n, request.seed))
    yield
