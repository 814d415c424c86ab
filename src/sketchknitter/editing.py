"""What a model does with a person's own drawing: complete, heal, vary, interpolate.

Results come back in the drawing's own coordinates and size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.condition import (
    Anchored,
    Known,
    Resampled,
    Steered,
    drowned,
    drowning_level,
)
from sketchknitter.diffusion.inversion import Blended, inverted, slerp
from sketchknitter.diffusion.perceptual import Perceptual, Target
from sketchknitter.errors import UserError
from sketchknitter.fitting import Plan, check, emitted, subdivided
from sketchknitter.geometry import QUICKDRAW_SIZE
from sketchknitter.guessing import (
    CHOICE,
    Where,
    check_where,
    choose,
    guess,
    guide,
    known_of,
    label_index,
    pilot,
    proposals,
    state_of,
    task_of,
    walk_of,
    whole,
)
from sketchknitter.seeds import stream
from sketchknitter.sketch import Sketch

if TYPE_CHECKING:
    from sketchknitter.model import SketchKnitter

PLAN, INK = 33, 34  # what a random stream is for
BATCH = 32  # drawings edited together
FARTHEST = 0.9  # share of T to which drawings are inverted
SETTLED = 0.7  # alpha above which parts stay where they are; a third of the time saved
CANDIDATES = 4  # plans tried for each drawing asked for

Watch = Callable[[sampling.Frame], None]


@dataclass(frozen=True)
class Editing:
    """How an edit is sampled."""

    sampler: str = "ddpm"
    """ddpm (fresh noise lets old and new settle together), ddim (with ``eta``), dpm++"""
    timesteps: str = "uniform"
    """which noise levels are visited: uniform, quadratic, geometric, logsnr …"""
    steps: int = 30
    """noise levels from pure noise to ink; healing visits its share of them"""
    eta: float = 0.0
    """DDIM's noise, 0 … 1"""
    guidance: float = 3.0
    """classifier-free guidance weight; 1 is none"""
    interval: tuple[float, float] = (0.1, 0.95)
    """guidance acts between these shares of T"""
    lean: bool = True
    """let new parts lean on known ones through the network; twice the time of a plain step"""
    resamples: int = 0
    """how often each step of a completion is taken back and repeated (RePaint)"""
    perceptual: float = 0.5
    """weight of looking like the input while healing; 0 is none"""


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


# -- complete ------------------------------------------------------------------------------------
def complete(
    model: SketchKnitter,
    sketch: Sketch,
    n: int = 6,
    *,
    label: str | None = "guess",
    where: Where = "end",
    heal: float = 0.0,
    seed: int = 0,
    watch: Watch | None = None,
    **settings: Any,
) -> list[Sketch]:
    """Finish an unfinished drawing in ``n`` ways; what was drawn is re-emitted untouched.

    The model sees a simplified copy. How many points are missing, and how large the whole is
    against its part, is decided by :func:`pilot` runs on several proposals.

    Args:
        label: a class, "guess" (the drawing's own label, or the likeliest class) or None.
        where: what is missing comes at the "end", at the "start", or "anywhere" between strokes.
        heal: above 0 what was drawn is redrawn as well, as :func:`heal_all` does at that strength.
        seed: same seed, same endings.
        watch: called with each frame of the sampling.
        **settings: fields of :class:`Editing`.

    Raises:
        UserError: an empty drawing or a dot, an unknown class or setting, n < 1.
    """
    how = settings_of(settings)
    check(sketch)
    check_where(where)
    _check_strength(heal)
    if n < 1:
        raise UserError(f"-n must be at least 1, not {n}")
    index = label_index(model, label, sketch)
    if index is None:
        index = guess(model, sketch, finished=False, where=where, seed=seed)
    plans = chosen_plans(model, sketch, n, index, where, seed)
    kept = frozenset() if heal else frozenset(range(len(sketch)))
    spreads = [np.full(len(p.outline), tolerance(heal)) for p in plans]
    out: list[Sketch] = []
    for a in range(0, n, BATCH):
        part = range(a, min(n, a + BATCH))
        task = task_of(
            model, plans[a : a + BATCH], [index] * len(part), [stream(seed, INK, i) for i in part]
        )
        known = known_of(model, plans[a : a + BATCH], spreads[a : a + BATCH])
        anchored = _anchored(model, known, how)
        method = Resampled(
            sampling.method(how.sampler, how.eta), anchored, task.label, task.mask, how.resamples
        )
        grid = policies.grid(how.timesteps, how.steps, model.denoiser.schedule)
        drawn = sampling.draw(anchored, method, grid, task, task.normal(model.width), watch=watch)
        out += model.decode(drawn.x0, drawn.pen, task)
    name = model.classes[index] if index < len(model.classes) else None
    return [emitted(p, d, kept, name) for p, d in zip(plans, out, strict=True)]


def chosen_plans(
    model: SketchKnitter, sketch: Sketch, n: int, index: int, where: Where, seed: int
) -> list[Plan]:
    """The plans of ``n`` endings: the best of several times as many, by a pilot run."""
    rngs = [stream(seed, PLAN, i) for i in range(CANDIDATES * n)]
    plans: list[Plan] = []
    surprise: list[np.ndarray] = []
    for a in range(0, len(rngs), 4 * BATCH):
        part = rngs[a : a + 4 * BATCH]
        plans += proposals(model, sketch, [index] * len(part), part, where)
        surprise.append(pilot(model, plans[a:], [index] * len(part), part))
    best = choose(np.concatenate(surprise), n, stream(seed, CHOICE))
    return [plans[i] for i in best]


def spread_of(
    sketches: Sequence[Sketch], kept: Sketch | None = None, extent: float | None = None
) -> float:
    """Mean distance between the drawings of every pair, as a share of the longer side: from a
    drawing's ink to the other's nearest, both ways; 0 for one drawing.

    Args:
        kept: what all of them have in common; ink on it is passed over, so that endings are
            compared by what they add.
        extent: the longer side meant, px; default: that of the largest drawing.
    """
    extent = extent or max(s.extent for s in sketches)
    ink = [_ink(s, extent) for s in sketches]
    new = ink if kept is None else [_away(i, _ink(kept, extent), 0.01 * extent) for i in ink]
    pairs = permutations(range(len(ink)), 2)
    gaps = [_gaps(new[a], ink[b]).mean() / extent for a, b in pairs if len(new[a])]
    return float(np.mean(gaps)) if gaps else 0.0


def _ink(sketch: Sketch, extent: float, steps: int = 64) -> np.ndarray:
    """Points (n, 2) along the ink, one for each ``steps``-th of ``extent``."""
    from sketchknitter.geometry import resample

    return np.concatenate([resample(s, max(extent / steps, 1e-300)) for s in sketch.strokes])


def _away(points: np.ndarray, others: np.ndarray, far: float) -> np.ndarray:
    """Those of ``points`` that are farther than ``far`` from all ``others``."""
    return points[_gaps(points, others) > far]


def _gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance from each of the points a (n, 2) to the nearest of b (m, 2)."""
    return np.asarray(np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)).min(axis=1))


# -- heal ----------------------------------------------------------------------------------------
def tolerance(strength: float) -> float:
    """How far healing thinks that points may be off, px of the model's frame: half the longer side
    at strength 1."""
    return 0.5 * strength * QUICKDRAW_SIZE


def heal_all(
    model: SketchKnitter,
    sketches: Sequence[Sketch],
    strength: float = 0.3,
    *,
    label: str | None = "guess",
    keep: Sequence[int] = (),
    anchor: bool = True,
    seed: int = 0,
    watch: Watch | None = None,
    **settings: Any,
) -> list[Sketch]:
    """Redraw clumsy drawings so that they stay themselves.

    The drawing is noised up to the level that drowns errors of the size that ``strength`` stands
    for (half of it, as a share of the longer side) and denoised, while every point is held about
    where it was, within that tolerance, and the picture close to the input's.

    Args:
        strength: 0 (the drawing itself) … 1 (hardly bound to it).
        label: a class (another one turns the drawing into it), "guess" or None.
        keep: strokes that stay exactly as they are.
        anchor: hold points about where they were.
        seed: same seed, same result; drawing i of a list has a stream of its own.
        **settings: fields of :class:`Editing`.

    Raises:
        UserError: an empty drawing or a dot, an unknown class or setting, a strength outside
            0 … 1, a stroke to keep that is not there.
    """
    how = settings_of(settings)
    _check_strength(strength)
    for sketch in sketches:
        check(sketch)
        if bad := [i for i in keep if not 0 <= i < len(sketch)]:
            raise UserError(f"no stroke {bad[0]} to keep: strokes are 0 … {len(sketch) - 1}")
    off = tolerance(strength)
    level = drowning_level(walk_of(model), off, model.denoiser.schedule)
    if level < 0:
        return list(sketches)
    labels = []
    for sketch in sketches:
        index = label_index(model, label, sketch)
        if index is None:
            index = guess(model, sketch, finished=True, tolerance=off, seed=seed)
        labels.append(index)
    plans = [whole(model, s, off) for s in sketches]
    out: list[Sketch] = []
    for a in range(0, len(plans), BATCH):
        part = slice(a, a + BATCH)
        streams = [stream(seed, INK, a + i) for i in range(len(plans[part]))]
        task = task_of(model, plans[part], labels[part], streams)
        held = [np.isin(p.outline.stroke, list(keep)) for p in plans[part]]
        far = off if anchor else np.inf
        known = known_of(model, plans[part], [np.where(h, 0.0, far) for h in held], drift=0.0)
        steered = _steered(model, _anchored(model, known, how), plans[part], off, how)
        drawn = _from_level(model, steered, plans[part], task, off, level, how, watch)
        out += model.decode(drawn.x0, drawn.pen, task)
    names = [model.classes[i] if i < len(model.classes) else None for i in labels]
    return [
        emitted(p, d, frozenset(keep), name) for p, d, name in zip(plans, out, names, strict=True)
    ]


def heal(model: SketchKnitter, sketch: Sketch, strength: float = 0.3, **options: Any) -> Sketch:
    """:func:`heal_all` for one drawing."""
    return heal_all(model, [sketch], strength, **options)[0]


def vary(
    model: SketchKnitter, sketch: Sketch, n: int = 6, strength: float = 0.5, **options: Any
) -> list[Sketch]:
    """Variations of one drawing: noised as :func:`heal_all` does and denoised freely."""
    if n < 1:
        raise UserError(f"-n must be at least 1, not {n}")
    options = {"anchor": False, "perceptual": 0.0} | options
    if options.get("label", "guess") == "guess" and label_index(model, "guess", sketch) is None:
        check(sketch)
        index = guess(model, sketch, finished=True, seed=options.get("seed", 0))
        options["label"] = model.classes[index]
    return heal_all(model, [sketch] * n, strength, **options)


def _from_level(
    model: SketchKnitter,
    wrapped: sampling.Model,
    plans: Sequence[Plan],
    task: sampling.Task,
    off: float,
    level: int,
    how: Editing,
    watch: Watch | None,
) -> sampling.Drawn:
    """Noise the plans' drawings to ``level`` and denoise them."""
    steps = max(4, round(how.steps * (level + 1) / model.denoiser.schedule.steps))
    schedule = model.denoiser.schedule
    grid = policies.Grid(np.linspace(max(level, 4), 0, steps), schedule.steps)
    start = torch.tensor(grid.levels[0])
    noise = task.normal(model.width)
    x = drowned(state_of(model, plans), walk_of(model), off, start, schedule, noise)
    return sampling.draw(wrapped, sampling.method(how.sampler, how.eta), grid, task, x, watch=watch)


def _steered(
    model: SketchKnitter,
    anchored: sampling.Model,
    plans: Sequence[Plan],
    off: float,
    how: Editing,
) -> sampling.Model:
    if not how.perceptual:
        return anchored
    target = target_of(model, plans, off)
    side = max(QUICKDRAW_SIZE, 2 * float(target.points.abs().max()))
    loss = Perceptual(walk_of(model), target, side, guide())
    # the anchors' own slope has passed through the network already
    return Steered(anchored, loss, how.perceptual, network=not how.lean, every=2)


def target_of(model: SketchKnitter, plans: Sequence[Plan], off: float) -> Target:
    """What healed drawings should look like: plans without gaps, trusted down to ``off`` px."""
    wide = max(p.count for p in plans)
    points, ink = np.zeros((len(plans), wide, 2)), np.zeros((len(plans), wide - 1))
    for i, plan in enumerate(plans):
        k = len(plan.outline)
        points[i, :k] = plan.model_points()
        ink[i, : k - 1] = ~plan.outline.ends[:-1]
    make = lambda v: torch.as_tensor(v, dtype=torch.float32, device=model.device)  # noqa: E731
    return Target(make(points), make(ink), off)


# -- interpolate ---------------------------------------------------------------------------------
def interpolate(
    model: SketchKnitter,
    a: Sketch,
    b: Sketch,
    n: int = 9,
    *,
    label: str | None = "guess",
    seed: int = 0,
    watch: Watch | None = None,
    **settings: Any,
) -> list[Sketch]:
    """``n`` drawings from ``a`` to ``b``, both included.

    Both are brought to the same number of points, inverted to the noise that DDIM draws them from,
    and what lies between the two noises on the sphere is drawn, under a label that passes from the
    one to the other. Place and size pass over linearly.

    Raises:
        UserError: as :func:`complete`, and n < 2.
    """
    how = settings_of(settings)
    if n < 2:
        raise UserError(f"-n must be at least 2 (both ends), not {n}")
    check(a, "the first drawing")
    check(b, "the second drawing")
    labels = []
    for sketch in (a, b):
        index = label_index(model, label, sketch)
        labels.append(guess(model, sketch, finished=True, seed=seed) if index is None else index)
    ends = [whole(model, s) for s in (a, b)]
    count = max(len(p.outline) for p in ends)
    ends = [replace(p, **subdivided(p, count)) for p in ends]
    schedule = model.denoiser.schedule
    # where hardly any signal is left nothing leads back from the noise to the drawing
    grid = policies.Grid(np.linspace(FARTHEST, 0, how.steps) * schedule.steps, schedule.steps)
    task = task_of(model, ends, labels, [stream(seed, INK)] * 2)
    noise = inverted(model.denoiser, state_of(model, ends), task, grid.levels)
    share = torch.linspace(0, 1, n, device=model.device)
    x = slerp(noise[:1].expand(n, -1, -1), noise[1:].expand(n, -1, -1), share)
    label_a, label_b = (task.label[i : i + 1].expand(n) for i in (0, 1))
    between = sampling.Task(label_a, task.mask[:1].expand(n, -1), task.noise)
    blended = Blended(model.denoiser, label_a, label_b, share)
    drawn = sampling.draw(blended, sampling.method("ddim"), grid, between, x, watch=watch)
    sketches = model.decode(drawn.x0, drawn.pen, between)
    out = [a]
    for i in range(1, n - 1):
        w = i / (n - 1)
        scale = (1 - w) / ends[0].scale + w / ends[1].scale
        center = (1 - w) * ends[0].center + w * ends[1].center
        name = labels[0] if w < 0.5 else labels[1]
        out.append(
            sketches[i]
            .transformed(scale, center)
            .with_label(model.classes[name] if name < len(model.classes) else None)
        )
    return [*out, b]


# -- shared --------------------------------------------------------------------------------------
def _guided(model: SketchKnitter, how: Editing) -> sampling.Model:
    if how.guidance == 1:
        return model.denoiser
    return sampling.Guided(model.denoiser, how.guidance, len(model.classes), how.interval)


def _anchored(model: SketchKnitter, known: Known, how: Editing) -> Anchored:
    bits = model.denoiser.pens.channels > 0
    return Anchored(
        _guided(model, how), walk_of(model), known, bits, lean=how.lean, settled=SETTLED
    )


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise UserError(f"--strength must lie in 0 … 1, not {strength}")
