"""The drawings between two drawings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sketchknitter.data.outline import check
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.guidance.inversion import Blended, inverted, slerp
from sketchknitter.editing.classify import guess, label_index
from sketchknitter.editing.options import Show, Watch, standing
from sketchknitter.editing.plan import subdivided
from sketchknitter.editing.posing import state_of, task_of, whole
from sketchknitter.errors import SettingError
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel

FARTHEST = 0.9  # share of T to which drawings are inverted


def interpolate(
    model: DrawingModel,
    a: Sketch,
    b: Sketch,
    n: int = 9,
    *,
    label: str | None = "guess",
    seed: int = 0,
    steps: int = 30,
    watch: Watch | None = None,
    show: Show | None = None,
) -> list[Sketch]:
    """``n`` drawings from ``a`` to ``b``, both included.

    Both are brought to the same number of points, inverted to the noise that DDIM draws them from,
    and what lies between the two noises on the sphere is drawn, under a label that passes from the
    one to the other. Place and size pass over linearly.

    Args:
        label: a class for both, "guess" (each its own, or the likeliest) or None.
        steps: of the inversion, and of the way back; both are DDIM's, without guidance.
        show: called after each evaluation with the drawings as they stand, by their numbers.

    Raises:
        UserError: as :func:`complete`, n < 2, or steps < 2.
    """
    if steps < 2:
        raise SettingError("steps", f"must be at least 2, not {steps}")
    if n < 2:
        raise SettingError("n", f"must be at least 2 (both ends), not {n}")
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
    grid = policies.Grid(np.linspace(FARTHEST, 0, steps) * schedule.steps, schedule.steps)
    task = task_of(model, ends, labels, [stream(seed, Stream.INK)] * 2)
    noise = inverted(model.denoiser, state_of(model, ends), task, grid.levels)
    share = torch.linspace(0, 1, n, device=model.device)
    x = slerp(noise[:1].expand(n, -1, -1), noise[1:].expand(n, -1, -1), share)
    label_a, label_b = (task.label[i : i + 1].expand(n) for i in (0, 1))
    between = sampling.Task(label_a, task.mask[:1].expand(n, -1), task.noise)
    blended = Blended(model.denoiser, label_a, label_b, share)

    def placed(i: int, drawn: Sketch) -> Sketch:
        w = i / (n - 1)
        scale = (1 - w) / ends[0].scale + w / ends[1].scale
        center = (1 - w) * ends[0].center + w * ends[1].center
        index = labels[0] if w < 0.5 else labels[1]
        name = model.classes[index] if index < len(model.classes) else None
        if model.config.codec.rho >= 1 and drawn.num_points:
            # offsets know no place: the first point passes over linearly too
            first = (1 - w) * ends[0].model_points()[0] + w * ends[1].model_points()[0]
            drawn = drawn.transformed(1.0, first - drawn.points[0])
        return drawn.transformed(scale, center).with_label(name)

    def tell(frame: sampling.Frame) -> None:
        if watch is not None:
            watch(frame)
        if show is not None:
            rows = frame.rows.tolist()
            show({i: placed(i, d) for i, d in zip(rows, standing(model, frame), strict=True)})

    drawn = sampling.draw(blended, sampling.method("ddim"), grid, between, x, watch=tell)
    sketches = model.decode(drawn.x0, drawn.pen, between)
    return [a, *(placed(i, sketches[i]) for i in range(1, n - 1)), b]
