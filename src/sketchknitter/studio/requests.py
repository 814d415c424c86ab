"""What each message asks of the model: the one place where the studio meets it.

A request is served in slices. Between two slices another client may have its turn, so the first
ending of one person comes before the sixth of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from sketchknitter.editing.options import standing
from sketchknitter.editing.plain import class_chances
from sketchknitter.sketch import Sketch
from sketchknitter.studio import messages as say

if TYPE_CHECKING:
    from sketchknitter.editing.model import SketchKnitter

Emit = Callable[[say.Event], None]
Request = say.Guess | say.Complete | say.Heal | say.Vary | say.Interpolate | say.Sample

SLICES = (1, 5, 6)  # endings drawn together: the first one soon, the others cheaply


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


def slices(n: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the endings that are drawn together."""
    first = 0
    for size in SLICES:
        if first < n:
            yield first, min(size, n - first)
        first += size


class _Shown:
    """Passes on the drawings as they stand."""

    def __init__(self, emit: Emit, wanted: bool, source: Sketch | None, first: int = 0) -> None:
        self.emit, self.wanted, self.source, self.first = emit, wanted, source, first
        self.evaluation = 0

    def __call__(self, drawings: Mapping[int, Sketch]) -> None:
        self.evaluation += 1
        if self.wanted:
            seen = [
                say.drawing(self.first + i, s, self.source, fine=False)
                for i, s in drawings.items()
                if s.num_points
            ]
            self.emit(say.Frame(seen, self.evaluation))


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
    for first, count in slices(request.n):
        endings = model.complete(
            sketch,
            count,
            label=request.label,
            where=request.where,
            seed=(request.seed + first) % (say.MAX_SEED + 1),
            show=_Shown(emit, request.frames, source, first),
        )
        for i, ending in enumerate(endings, first):
            emit(say.Drawn(say.drawing(i, ending, source), request.n, request.seed))
        if first == 0:
            emit(guessed(model, sketch, finished=False))
        yield


def _heal(model: SketchKnitter, request: say.Heal, emit: Emit) -> Iterator[None]:
    source = request.sketch()
    healed = model.heal(
        source,
        request.strength,
        label=request.label,
        keep=request.keep,
        seed=request.seed,
        show=_Shown(emit, request.frames, source),
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
        show=_Shown(emit, request.frames, source),
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
        show=_Shown(emit, request.frames, None),
    )
    for i, one in enumerate(drawn):
        emit(say.Drawn(say.drawing(i, one), request.n, request.seed))
    yield


def _sample(model: SketchKnitter, request: say.Sample, emit: Emit) -> Iterator[None]:
    shown = _Shown(emit, request.frames, None)

    def watch(numbers: np.ndarray, frame: object) -> None:
        rows = numbers[frame.rows.numpy(force=True)].tolist()  # type: ignore[attr-defined]
        shown(dict(zip(rows, standing(model, frame), strict=True)))  # type: ignore[arg-type]

    drawn = model.stream(
        request.label, request.n, seed=request.seed, watch=watch if request.frames else None
    )
    for i, one in enumerate(drawn):
        emit(say.Drawn(say.drawing(i, one), request.n, request.seed))
    yield
