"""From a person's drawing to what the model is asked: plans, tasks, what is known, clean states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sketchknitter.data.lengths import counts_of, drawn_length
from sketchknitter.data.outline import Outline, error_of, outline, widening
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion.guidance.known import FREE, Known
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.editing.plan import Plan, rows_of
from sketchknitter.errors import SettingError
from sketchknitter.geometry import QUICKDRAW_SIZE
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel

Where = Literal["end", "start", "anywhere"]
WHERE: tuple[Where, ...] = ("end", "start", "anywhere")
DRIFT = 100.0  # px: how far the middle of a part may lie from that of the whole


def check_where(where: str) -> None:
    if where not in WHERE:
        raise SettingError("where", f"is one of {', '.join(WHERE)}, not {where!r}")


# -- plans ---------------------------------------------------------------------------------------
def whole(model: DrawingModel, sketch: Sketch, off: float = 0.0) -> Plan:
    """The plan of a finished drawing: all points known, nothing between them.

    Args:
        off: px of the model's frame by which points may be off; as far as the drawing shows such
            errors, its box is wider than the drawing is, and its size in the frame is put right.
    """
    known = outline(sketch, 1.0, model.config.codec.max_points)
    count = len(known) if model.denoiser.length_given else model.config.codec.max_points
    wider = widening(min(error_of(sketch), off / QUICKDRAW_SIZE)) if off else 1.0
    return Plan(known, np.arange(len(known)), count, wider * QUICKDRAW_SIZE / sketch.extent)


def proposals(
    model: DrawingModel,
    sketch: Sketch,
    labels: Sequence[int],
    rngs: Sequence[np.random.Generator],
    where: Where = "end",
    goes_on: bool = False,
) -> list[Plan]:
    """Guesses, one for each label and stream, of how much is missing and of the whole's size.

    The number of points comes from the class's training drawings, those with more points than are
    known, each weighted by 1 / n (the chance to find a drawing of n points in just this state).
    The size follows how much is there: of QuickDraw drawings cut off at a share f of their points,
    the box measures about min(1, 0.43 + 0.88 f ± 0.2) of the whole's.
    """
    longest = model.config.codec.max_points
    most = longest * 3 // 4
    first = outline(sketch, 0.85, most)
    table = model.checkpoint.lengths.double().numpy()
    out = []
    for label, rng in zip(labels, rngs, strict=True):
        counts = counts_of(table, label)[: longest + 1]
        n = _length(counts / np.maximum(np.arange(len(counts)), 1), len(first) + 2, rng)
        share = float(np.clip(rng.normal(0.43 + 0.88 * len(first) / n, 0.2), 0.3, 1.0))
        known = outline(sketch, share, most)
        missing = max(n - len(known), 2)
        if not model.denoiser.length_given:
            missing = longest - len(known)
        place = places_of(known, missing, where, rng)
        scale = QUICKDRAW_SIZE * share / sketch.extent
        out.append(Plan(known, place, len(known) + missing, scale, goes_on=goes_on))
    return out


def _length(weights: np.ndarray, least: int, rng: np.random.Generator) -> int:
    tail = weights[least:]
    if not tail.sum():  # longer than anything in training
        return least + int(rng.integers(2, 10))
    return least + drawn_length(tail, rng)


def places_of(known: Outline, missing: int, where: Where, rng: np.random.Generator) -> np.ndarray:
    """Where the known points stand when ``missing`` others come after, before or among them."""
    index = np.arange(len(known))
    if where == "end":
        return index
    if where == "start":
        return index + missing
    gap = np.cumsum(np.append(0, known.ends[:-1]))  # known strokes before each point
    shares = rng.dirichlet(np.full(gap[-1] + 2, 0.7))
    sizes = np.floor(shares * missing).astype(int)
    sizes[np.argmax(shares)] += missing - sizes.sum()
    return index + np.cumsum(sizes)[gap]


# -- what the model is asked ---------------------------------------------------------------------
def task_of(
    model: DrawingModel,
    plans: Sequence[Plan],
    labels: Sequence[int],
    streams: Sequence[np.random.Generator],
) -> sampling.Task:
    """One row for each plan."""
    rows = torch.tensor([rows_of(p, model.config.codec) for p in plans])
    mask = torch.arange(int(rows.max()))[None] < rows[:, None]
    label = torch.as_tensor(np.asarray(labels, dtype=np.int64))
    return sampling.Task(label.to(model.device), mask.to(model.device), SketchNoise(streams))


def known_of(
    model: DrawingModel,
    plans: Sequence[Plan],
    spreads: Sequence[np.ndarray],
    drift: float = DRIFT,
) -> Known:
    """What is known of a batch of plans.

    Args:
        spreads: px, (k,) for each outline: 0 keeps a point and its pen, infinite forgets it.
        drift: px by which the whole may be displaced.
    """
    shift = 1 - model.config.codec.extra
    points_wide = max(p.count for p in plans)
    points = np.zeros((len(plans), points_wide, 2))
    spread = np.full((len(plans), points_wide), np.inf)
    pens = np.full((len(plans), points_wide), FREE)
    for i, (plan, own) in enumerate(zip(plans, spreads, strict=True)):
        points[i, plan.place] = plan.model_points()
        spread[i, plan.place] = own
        pens[i, : plan.count] = plan.pens()
        pens[i, plan.place[own > 0]] = FREE
    return Known(
        torch.as_tensor(points, device=model.device),
        torch.as_tensor(spread, device=model.device),
        # an offset's row tells the pen after the point it leads to
        torch.as_tensor(pens[:, shift:], device=model.device),
        drift,
    )


def state_of(model: DrawingModel, plans: Sequence[Plan]) -> Tensor:
    """Clean states (B, N, D) of plans without gaps."""
    rows = []
    for plan in plans:
        lift = plan.outline.ends[1:].astype(float)
        rows.append(np.column_stack([np.diff(plan.model_points(), axis=0), lift]))
    points = max(p.count for p in plans) - (1 - model.config.codec.extra)
    batch = model.config.codec.encode(rows, [0] * len(rows), points).to(model.device)
    return model.denoiser.state(batch.xy, batch.pen)
