"""Complete an unfinished drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from sketchknitter.data.outline import check
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.guidance.repaint import Resampled
from sketchknitter.editing import finishing, plain
from sketchknitter.editing.classify import choose, guess, label_index, pilot
from sketchknitter.editing.heal import tolerance
from sketchknitter.editing.options import (
    BATCH,
    GUIDED_SAMPLER,
    Show,
    Watch,
    anchored_to,
    check_method,
    check_strength,
    guided_steps,
    settings_of,
    telling,
)
from sketchknitter.editing.plan import Plan, emitted
from sketchknitter.editing.posing import Where, check_where, known_of, proposals, task_of
from sketchknitter.editing.prospects import room
from sketchknitter.errors import SettingError
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import Completing
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel

CANDIDATES = 4  # plans tried for each drawing asked for


def complete(model: DrawingModel, sketch: Sketch, n: int = 6, **options: Any) -> list[Sketch]:
    """All ``n`` endings of :func:`endings`, drawn together; ``options`` as there."""
    return [e for group in endings(model, sketch, n, **options) for e in group]


def endings(
    model: DrawingModel,
    sketch: Sketch,
    n: int = 6,
    groups: Sequence[int] = (),
    *,
    label: str | None = "guess",
    where: Where = "end",
    goes_on: bool | None = None,
    heal: float = 0.0,
    more: int | None = None,
    seed: int = 0,
    method: str = "auto",
    watch: Watch | None = None,
    show: Show | None = None,
    **settings: Any,
) -> Iterator[list[Sketch]]:
    """Finish an unfinished drawing in ``n`` ways; what was drawn is re-emitted untouched.

    The model sees a simplified copy. A model trained for conditions finishes it in one plain run
    (:mod:`editing.plain`). The guided way works with any model: how many points are missing, and
    how large the whole is against its part, is decided by :func:`pilot` runs on several proposals.

    Args:
        groups: how many are drawn together, one number after another; all that are left form the
            last group.
        label: a class, "guess" (the drawing's own label, or the likeliest class; in a plain run
            further endings are of other classes, by their probability) or None.
        where: what is missing comes at the "end", at the "start", or "anywhere" between strokes.
        goes_on: whether a stroke that was drawn may be continued: one that breaks off, of a drawing
            cut within a stroke or with parts erased. None: only where something is missing
            anywhere, since a person's strokes are whole.
        heal: above 0 what was drawn is redrawn as well, as :func:`heal_all` does at that strength.
        more: points to add, in the plain way; None leaves it to the model.
        seed: same seed, same endings.
        method: "auto" takes the plain way where the model knows it, "guided" never does.
        watch: called with each frame of the sampling.
        show: called after each evaluation with the drawings as they stand, by their numbers, in the
            drawing's own coordinates.
        **settings: fields of :class:`Completing`.

    Raises:
        UserError: an empty drawing or a dot, an unknown class or setting, n < 1, more points than
            there is room for.
    """
    check_method(method)
    check(sketch)
    check_where(where)
    check_strength(heal, "heal")
    if n < 1:
        raise SettingError("n", f"must be at least 1, not {n}")
    how = settings_of(settings, Completing())
    if goes_on is None:
        goes_on = where == "anywhere"
    index = label_index(model, label, sketch)
    network = plain.outlook_for(model) if method == "auto" else None
    if more is not None:
        check_more(model, sketch, more, plain_way=network is not None)
    sizes = grouped(n, groups)
    if network is None:
        yield from _guided(
            model, sketch, sizes, index, how, where, goes_on, heal, seed, watch, show
        )
        return
    yield from finishing.endings(
        model,
        network,
        sketch,
        sizes,
        index,
        plain.sampling_of(model, how),
        where=where,
        goes_on=goes_on,
        heal=heal,
        more=more,
        rounds=how.rounds,
        seed=seed,
        watch=watch,
        show=show,
    )


def check_more(model: DrawingModel, sketch: Sketch, more: int, plain_way: bool) -> None:
    """Refuse a number of points that cannot be added.

    Raises:
        UserError: it is negative, too large to see the drawing beside it, or another way's.
    """
    if not plain_way:
        raise SettingError("more", "is of the plain way; the guided way decides for itself")
    longest = model.config.codec.max_points
    most = room(sketch, longest)
    if not 0 <= more <= most:
        raise SettingError(
            "more", f"must lie in 0 … {most} for this drawing, not {more}: {longest} points in all"
        )


def grouped(n: int, groups: Sequence[int]) -> list[int]:
    """Sizes of the groups that ``n`` endings are drawn in: as asked for, then all that are left."""
    out: list[int] = []
    for size in (*groups, n):
        out.append(min(size, n - sum(out)))
    return [size for size in out if size > 0]


def _guided(
    model: DrawingModel,
    sketch: Sketch,
    sizes: Sequence[int],
    index: int | None,
    how: Completing,
    where: Where,
    goes_on: bool,
    heal: float,
    seed: int,
    watch: Watch | None,
    show: Show | None,
) -> Iterator[list[Sketch]]:
    """The endings in groups of ``sizes``, in the guided way; a class that is None is guessed."""
    if index is None:
        index = guess(model, sketch, finished=False, where=where, seed=seed)
    choice = stream(seed, Stream.CHOICE)
    for a, b in pairwise(accumulate(sizes, initial=0)):
        rngs = [stream(seed, Stream.PLAN, i) for i in range(CANDIDATES * a, CANDIDATES * b)]
        plans = chosen_plans(model, sketch, b - a, index, where, goes_on, rngs, choice)
        yield _guided_group(model, plans, index, how, heal, seed, a, watch, show)


def _guided_group(
    model: DrawingModel,
    plans: Sequence[Plan],
    index: int,
    how: Completing,
    heal: float,
    seed: int,
    first: int,
    watch: Watch | None,
    show: Show | None,
) -> list[Sketch]:
    """The endings of some plans, numbered on from ``first``, in the guided way."""
    source = plans[0].outline.source
    kept = frozenset() if heal else frozenset(range(len(source)))
    spreads = [np.full(len(p.outline), tolerance(heal)) for p in plans]
    tell = telling(model, plans, kept, watch, show, first)
    out: list[Sketch] = []
    for a in range(0, len(plans), BATCH):
        part = slice(a, a + BATCH)
        streams = [stream(seed, Stream.INK, first + a + i) for i in range(len(plans[part]))]
        task = task_of(model, plans[part], [index] * len(streams), streams)
        known = known_of(model, plans[part], spreads[part])
        anchored = anchored_to(model, known, how)
        steps = Resampled(sampling.method(how.sampler or GUIDED_SAMPLER, how.eta), how.resamples)
        grid = policies.grid(how.timesteps or "uniform", guided_steps(how), model.denoiser.schedule)
        start = how.temperature * task.normal(model.width)
        numbers = range(a, a + len(streams))
        drawn = sampling.draw(anchored, steps, grid, task, start, watch=tell(numbers))
        out += model.decode(drawn.x0, drawn.pen, task)
    name = model.classes[index] if index < len(model.classes) else None
    return [emitted(p, d, kept, name) for p, d in zip(plans, out, strict=True)]


def chosen_plans(
    model: DrawingModel,
    sketch: Sketch,
    n: int,
    index: int,
    where: Where,
    goes_on: bool,
    rngs: Sequence[np.random.Generator],
    choice: np.random.Generator,
) -> list[Plan]:
    """``n`` of the plans proposed, one from each of ``rngs``, drawn by their pilot's posterior."""
    plans: list[Plan] = []
    surprise: list[np.ndarray] = []
    for a in range(0, len(rngs), 4 * BATCH):
        part = rngs[a : a + 4 * BATCH]
        plans += proposals(model, sketch, [index] * len(part), part, where, goes_on)
        surprise.append(pilot(model, plans[a:], [index] * len(part), part))
    best = choose(np.concatenate(surprise), n, choice)
    return [plans[i] for i in best]
