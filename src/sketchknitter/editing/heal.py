"""Heal a clumsy drawing: redraw it so that it stays itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sketchknitter.data.outline import check
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.guidance.deformed import covering_level, noised
from sketchknitter.diffusion.guidance.perceptual import Perceptual, Target
from sketchknitter.diffusion.guidance.steered import Steered
from sketchknitter.editing import plain
from sketchknitter.editing.classify import guess, guide, label_index
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
from sketchknitter.editing.posing import known_of, state_of, task_of, whole
from sketchknitter.errors import UserError
from sketchknitter.geometry import QUICKDRAW_SIZE
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import Healing
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel

STRENGTH = 0.3  # of the guided way, when nobody says


def tolerance(strength: float) -> float:
    """How far healing thinks that points may be off, px of the model's frame: half the longer side
    at strength 1."""
    return plain.FARTHEST * strength * QUICKDRAW_SIZE


def heal_all(
    model: DrawingModel,
    sketches: Sequence[Sketch],
    strength: float | None = None,
    *,
    label: str | None = "guess",
    keep: Sequence[int] = (),
    anchor: bool = True,
    seed: int = 0,
    method: str = "auto",
    watch: Watch | None = None,
    show: Show | None = None,
    **settings: Any,
) -> list[Sketch]:
    """Redraw clumsy drawings so that they stay themselves.

    A model trained for conditions redraws them in one plain run (:mod:`editing.plain`). The guided
    way works with any model: the drawing is noised up to the level that covers errors of the size
    that ``strength`` stands for (half of it, as a share of the longer side) and denoised, while
    every point is held about where it was, within that tolerance, and the picture close to the
    input's.

    Args:
        strength: 0 (the drawing itself) … 1 (hardly bound to it); None lets the plain way judge
            for itself, and is 0.3 for the guided one.
        label: a class (another one turns the drawing into it), "guess" (its own label; else the
            likeliest class, which the plain way takes only where it is likely) or None.
        keep: strokes that stay exactly as they are.
        anchor: hold points about where they were; the plain way has no use for it.
        seed: same seed, same result; drawing i of a list has a stream of its own.
        method: "auto" takes the plain way where the model knows it, "guided" never does.
        show: called after each evaluation with the drawings as they stand, by their numbers, in the
            drawing's own coordinates.
        **settings: fields of :class:`Healing`; the plain way has no use for ``perceptual`` and
            ``lean``, the guided one none for ``tries``.

    Raises:
        UserError: an empty drawing or a dot, an unknown class or setting, a strength outside
            0 … 1, a stroke to keep that is not there.
    """
    check_method(method)
    check_strength(0.0 if strength is None else strength)
    for sketch in sketches:
        check(sketch)
        if bad := [i for i in keep if not 0 <= i < len(sketch)]:
            raise UserError(f"no stroke {bad[0]} to keep: strokes are 0 … {len(sketch) - 1}")
    how = settings_of(settings, Healing())
    if strength == 0:
        return [_unchanged(model, label, s) for s in sketches]
    if method == "auto" and model.denoiser.condition:
        return plain.redraw(
            model,
            sketches,
            [believed(model, label, s) for s in sketches],
            plain.sampling_of(model, how),
            strength=strength,
            keep=keep,
            tries=how.tries,
            seed=seed,
            watch=watch,
            show=show,
        )
    return _guided(
        model,
        sketches,
        STRENGTH if strength is None else strength,
        how,
        label=label,
        keep=frozenset(keep),
        anchor=anchor,
        seed=seed,
        watch=watch,
        show=show,
    )


def _guided(
    model: DrawingModel,
    sketches: Sequence[Sketch],
    strength: float,
    how: Healing,
    *,
    label: str | None,
    keep: frozenset[int],
    anchor: bool,
    seed: int,
    watch: Watch | None,
    show: Show | None,
) -> list[Sketch]:
    """Drawings healed in the guided way; arguments as of :func:`heal_all`."""
    off = tolerance(strength)
    level = covering_level(model.config.codec.map, off, model.denoiser.schedule)
    labels = []
    for sketch in sketches:
        index = label_index(model, label, sketch)
        if index is None:
            index = guess(model, sketch, finished=True, tolerance=off, seed=seed)
        labels.append(index)
    plans = [whole(model, s, off) for s in sketches]
    tell = telling(model, plans, keep, watch, show)
    out: list[Sketch] = []
    for a in range(0, len(plans), BATCH):
        part = slice(a, a + BATCH)
        streams = [stream(seed, Stream.INK, a + i) for i in range(len(plans[part]))]
        task = task_of(model, plans[part], labels[part], streams)
        held = [np.isin(p.outline.stroke, list(keep)) for p in plans[part]]
        far = off if anchor else np.inf
        known = known_of(model, plans[part], [np.where(h, 0.0, far) for h in held], drift=0.0)
        steered = _steered(model, anchored_to(model, known, how), plans[part], off, how)
        numbers = range(a, a + len(streams))
        drawn = _from_level(model, steered, plans[part], task, off, level, how, tell(numbers))
        out += model.decode(drawn.x0, drawn.pen, task)
    names = [model.classes[i] if i < len(model.classes) else None for i in labels]
    return [emitted(p, d, keep, name) for p, d, name in zip(plans, out, names, strict=True)]


def _unchanged(model: DrawingModel, label: str | None, sketch: Sketch) -> Sketch:
    """A drawing as it is, under the class asked for; nothing is guessed."""
    index = label_index(model, label, sketch)
    if index is None:
        return sketch
    return sketch.with_label(model.classes[index] if index < len(model.classes) else None)


def believed(model: DrawingModel, label: str | None, sketch: Sketch) -> int:
    """Index of the class that a plain run is given; the number of classes is none."""
    index = label_index(model, label, sketch)
    if index is None:
        guess = plain.guess_of(model, sketch, None)
        index = len(model.classes) if guess is None else guess.label
    return index


def heal(
    model: DrawingModel, sketch: Sketch, strength: float | None = None, **options: Any
) -> Sketch:
    """:func:`heal_all` for one drawing."""
    return heal_all(model, [sketch], strength, **options)[0]


def _from_level(
    model: DrawingModel,
    wrapped: sampling.Model,
    plans: Sequence[Plan],
    task: sampling.Task,
    off: float,
    level: int,
    how: Healing,
    watch: Watch | None,
) -> sampling.Drawn:
    """Noise the plans' drawings to ``level`` and denoise them."""
    steps = max(4, round(guided_steps(how) * (level + 1) / model.denoiser.schedule.steps))
    schedule = model.denoiser.schedule
    grid = policies.Grid(np.linspace(max(level, 4), 0, steps), schedule.steps)
    start = torch.tensor(grid.levels[0])
    noise = how.temperature * task.normal(model.width)
    x = noised(state_of(model, plans), model.config.codec.map, off, start, schedule, noise)
    method = sampling.method(how.sampler or GUIDED_SAMPLER, how.eta)
    return sampling.draw(wrapped, method, grid, task, x, watch=watch)


def _steered(
    model: DrawingModel,
    anchored: sampling.Model,
    plans: Sequence[Plan],
    off: float,
    how: Healing,
) -> sampling.Model:
    if not how.perceptual:
        return anchored
    target = target_of(model, plans, off)
    side = max(QUICKDRAW_SIZE, 2 * float(target.points.abs().max()))
    loss = Perceptual(model.config.codec.map, target, side, guide(model.device))
    # the anchors' own slope has passed through the network already
    return Steered(anchored, loss, how.perceptual, network=not how.lean, every=2)


def target_of(model: DrawingModel, plans: Sequence[Plan], off: float) -> Target:
    """What healed drawings should look like: plans without gaps, trusted down to ``off`` px."""
    wide = max(p.count for p in plans)
    points, ink = np.zeros((len(plans), wide, 2)), np.zeros((len(plans), wide - 1))
    for i, plan in enumerate(plans):
        k = len(plan.outline)
        points[i, :k] = plan.model_points()
        ink[i, : k - 1] = ~plan.outline.ends[:-1]
    make = lambda v: torch.as_tensor(v, dtype=torch.float32, device=model.device)  # noqa: E731
    return Target(make(points), make(ink), off)
