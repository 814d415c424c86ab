"""Editing as one plain run of a network that was trained for conditions.

No resampling, no gradient, no second opinion: what is known goes in beside the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sketchknitter.data.batch import DRAW, END, LIFT
from sketchknitter.data.conditions import ConditionedBatch, Example, collate
from sketchknitter.data.outline import error_of
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.guidance.classifier_free import Guided
from sketchknitter.diffusion.guidance.conditioned import Conditioned
from sketchknitter.diffusion.guidance.known import FREE
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.editing.classify import outlook, probabilities
from sketchknitter.editing.options import BATCH, Show, Watch, guided_steps, telling
from sketchknitter.editing.plan import Plan, emitted, unmoved
from sketchknitter.editing.posing import Where, whole
from sketchknitter.editing.prospects import (
    CLEAN_OR_ROUGH,
    Guess,
    Outlook,
    guessed,
)
from sketchknitter.geometry import QUICKDRAW_SIZE
from sketchknitter.recognizers.picture import clearness
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import Editing
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel
from sketchknitter.systems.sketchknitter.student import Student

FARTHEST = 0.5  # rms error of points, as a share of the longer side, that strength 1 stands for
VARIED = 0.3  # the same for variations
RIGHT = 0.01  # rms by which a healed stroke's points are off, as such a share, that nobody sees
# where nobody says how clumsy a drawing is, a stroke is redrawn that moves by more than this or
# gets smoother: of the strokes of 93 valid drawings 15 % were redrawn, 46 % of those made wobbly;
# with smaller numbers clean drawings lose more than clumsy ones gain
TRIFLE, SMOOTHER = 0.05, 0.8
# and a drawing without visible errors has no stroke further out of place than this
WILD = 0.12
# for how much of a distance to the others, as a share of the size, a nat of the class makes up when
# one of several healings is chosen: of 155 valid drawings off by 30 % it makes 67 of 63 %
# recognized, with no regard to the distance it is the same
CLEARNESS = 0.05


@dataclass(frozen=True)
class PlainSampling:
    """How a plain edit is sampled."""

    sampler: str = "ancestral"
    """ancestral, ddim (with ``eta``), dpm++"""
    timesteps: str = "uniform"
    """which noise levels are visited: uniform, quadratic, geometric, logsnr …"""
    steps: int = 12
    """network evaluations"""
    eta: float = 0.0
    """DDIM's noise, 0 … 1"""
    guidance: float = 2.0
    """classifier-free guidance weight where a class is known or guessed; 1 is none"""
    interval: tuple[float, float] = (0.1, 0.95)
    """guidance acts between these shares of T"""
    temperature: float = 1.0
    """size of the noise that sampling starts from; below 1 drawings are plainer"""
    student: Student | None = None
    """the distilled network that draws; None leaves it to the many-step one"""


def sampling_of(model: DrawingModel, how: Editing) -> PlainSampling:
    """How a plain run is sampled: by the model's student where ``how`` leaves it a say, with the
    values of :class:`PlainSampling` where ``how`` has none."""
    timesteps = getattr(how, "timesteps", None)  # of a completion
    free = how.sampler is None and timesteps is None and how.interval is None and not how.eta
    student = model.student_for(free, how.steps)
    said: dict[str, Any] = {
        "sampler": how.sampler,
        "timesteps": timesteps,
        "steps": how.steps if student is None else student.steps,
        "eta": how.eta,
        "guidance": student.guidance if student and how.guidance is None else how.guidance,
        "interval": how.interval,
        "temperature": how.temperature,
        "student": student,
    }
    return replace(PlainSampling(), **{k: v for k, v in said.items() if v is not None})


def outlook_for(model: DrawingModel) -> Outlook | None:
    """The network that plans a model's endings; None where the model cannot draw them plainly."""
    return outlook() if model.denoiser.condition else None


def guess_of(
    model: DrawingModel, sketch: Sketch, where: Where | None, method: str = "auto"
) -> Guess | None:
    """What a plain edit takes a drawing for of which something is missing (``where``), or nothing.

    None where no network tells.
    """
    network = outlook_for(model) if method == "auto" else None
    return None if network is None else guessed(network, model.classes, sketch, where)


def class_chances(model: DrawingModel, sketch: Sketch, finished: bool) -> np.ndarray:
    """How likely a drawing shows, or will show, each class of the model, (C,), in all 1: by the
    outlook where it knows all of them, else by :func:`classify.probabilities`."""
    network = outlook()
    if network is None or not set(model.classes) <= set(network.classes):
        return probabilities(model, sketch, finished=finished)
    chances = guessed(network, model.classes, sketch, None if finished else "end").chances[:-1]
    return np.asarray(chances / chances.sum())


def evaluations(model: DrawingModel, how: Editing, method: str, n: int = 1) -> int:
    """How often an edit asks the network for ``n`` drawings at most, in all batches together."""
    if method == "auto" and model.denoiser.condition:
        return sampling_of(model, how).steps * sum(-(-n * size // BATCH) for size in how.rounds)
    return guided_steps(how) * -(-n // BATCH)


def redraw(
    model: DrawingModel,
    sketches: Sequence[Sketch],
    labels: Sequence[int],
    how: PlainSampling,
    *,
    strength: float | None = None,
    keep: Sequence[int] = (),
    tries: int = 1,
    seed: int = 0,
    watch: Watch | None = None,
    show: Show | None = None,
) -> list[Sketch]:
    """Drawings healed: the network sees them as rough copies of what was meant.

    Args:
        labels: class indices; the number of classes is "no label".
        strength: how far points may be off, 0 … 1 (half of the longer side); None lets the network
            judge for itself.
        keep: strokes that stay exactly as they are.
        tries: how often each is redrawn; one of them is taken (:func:`most_typical`).
    """
    off = None if strength is None else FARTHEST * strength
    chosen = [whole(model, s, _frame_error(off)) for s in sketches]
    examples = [example(p, ~np.isin(p.outline.stroke, list(keep)), off) for p in chosen]
    tell = telling(model, chosen, frozenset(keep), watch, show, tries=tries)
    several = _tried(model, examples, labels, tries, how, tell, seed)
    typical = [most_typical(each) for each in several]
    names = [model.classes[i] if i < len(model.classes) else None for i in labels]

    # what was right already stays as the person drew it, to the last point
    def right(plan: Plan, healed: Sketch) -> frozenset[int]:
        if strength is not None:
            return unmoved(plan, healed, RIGHT)
        clean = error_of(plan.outline.source) < CLEAN_OR_ROUGH[0]
        return unmoved(plan, healed, TRIFLE, SMOOTHER, WILD if clean else np.inf)

    return [
        emitted(p, d, frozenset(keep) | right(p, d), name)
        for p, d, name in zip(chosen, typical, names, strict=True)
    ]


def _tried(
    model: DrawingModel,
    examples: Sequence[Example],
    labels: Sequence[int],
    tries: int,
    how: PlainSampling,
    tell: Callable[[Sequence[int]], Watch | None],
    seed: int,
) -> list[list[Sketch]]:
    """``tries`` drawings of each example."""
    every = [(i, k) for i in range(len(examples)) for k in range(tries)]
    out = drawn(
        model,
        [examples[i] for i, _ in every],
        [labels[i] for i, _ in every],
        [stream(seed, Stream.INK, i, *((k,) if k else ())) for i, k in every],
        how,
        tell,
    )
    return [out[a : a + tries] for a in range(0, len(out), tries)]


def most_typical(drawings: Sequence[Sketch]) -> Sketch:
    """The one of several drawings of the same points and label that is near to the others, and
    shows its class where the guide can tell. One that went astray is seldom it, and unlike their
    mean it is a drawing."""
    if len(drawings) == 1:
        return drawings[0]
    points = np.stack([np.concatenate(d.strokes) for d in drawings])
    apart = np.linalg.norm(points[:, None] - points, axis=-1).mean(axis=-1)
    score = -apart.sum(axis=1) / (len(drawings) - 1)
    log_p = np.log(np.maximum(clearness(drawings), 1e-12))
    score += CLEARNESS * QUICKDRAW_SIZE * np.nan_to_num(log_p)
    return drawings[int(score.argmax())]


def variations(
    model: DrawingModel,
    sketch: Sketch,
    n: int,
    label: int,
    how: PlainSampling,
    *,
    strength: float = 0.5,
    seed: int = 0,
    watch: Watch | None = None,
    show: Show | None = None,
) -> list[Sketch]:
    """``n`` drawings like one: each of another copy of it, made rough by noise of known size."""
    plan = whole(model, sketch)
    off = VARIED * strength
    examples = []
    for i in range(n):
        e = example(plan, all_rough(plan), off)
        noise = stream(seed, Stream.PLAN, i).standard_normal(e.points.shape)
        examples.append(replace(e, shown=e.shown + off * QUICKDRAW_SIZE * noise))
    streams = [stream(seed, Stream.INK, i) for i in range(n)]
    tell = telling(model, [plan] * n, frozenset(), watch, show)
    out = drawn(model, examples, [label] * n, streams, how, tell)
    name = model.classes[label] if label < len(model.classes) else None
    return [emitted(plan, d, frozenset(), name) for d in out]


def _frame_error(off: float | None) -> float:
    """px of the model's frame by which points may be off."""
    return QUICKDRAW_SIZE * (FARTHEST if off is None else off)


def example(plan: Plan, rough: np.ndarray, strength: float | None = None) -> Example:
    """What the network sees of a plan.

    Args:
        rough: which of the outline's points may be off, (k,); the others are exact.
        strength: how far those are off, as a share of the longer side; None is not known.
    """
    points = np.zeros((plan.count, 2))
    points[plan.place] = plan.model_points()
    pens = plan.pens()
    lifted = pens == LIFT
    pens[pens == FREE] = DRAW
    pens[-1] = END
    flags = np.zeros((2, plan.count), dtype=bool)
    flags[:, plan.place] = ~rough, rough
    return Example(points, pens, flags[0], flags[1], points, strength, lifted)


def drawn(
    model: DrawingModel,
    examples: Sequence[Example],
    labels: Sequence[int],
    streams: Sequence[np.random.Generator],
    how: PlainSampling,
    tell: Callable[[Sequence[int]], Watch | None] | None = None,
) -> list[Sketch]:
    """Drawings in the model's frame, one for each example: plain steps, nothing else.

    Args:
        labels: class indices; the number of classes is "no label".
        streams: noise of each drawing.
        tell: makes of the numbers of drawings sampled together what watches them.
    """
    none = len(model.classes)
    out: dict[int, Sketch] = {}
    # guidance asks twice about drawings with a class, and once about those without
    for named in (True, False):
        mine = [i for i, label in enumerate(labels) if (label != none) == named]
        for a in range(0, len(mine), BATCH):
            part = mine[a : a + BATCH]
            batch = collate(
                [examples[i] for i in part], [labels[i] for i in part], model.config.codec
            )
            own = batch.batch
            noise = SketchNoise([streams[i] for i in part])
            task = sampling.Task(own.label.to(model.device), own.mask.to(model.device), noise)
            result = sampling.draw(
                *_way(model, how, batch),
                task,
                how.temperature * task.normal(model.width),
                watch=None if tell is None else tell(part),
            )
            found = model.decode(result.x0, result.pen, task)
            out.update(zip(part, found, strict=True))
    return [out[i] for i in range(len(examples))]


def _way(
    model: DrawingModel, how: PlainSampling, batch: ConditionedBatch
) -> tuple[sampling.Model, sampling.Method, policies.Timesteps]:
    """What is evaluated for a batch, how it steps, and at which levels."""
    none, student = len(model.classes), how.student
    if student is not None:
        return student.model(how.guidance, none, batch), student.method, student.timesteps
    guided = Guided(Conditioned(model.denoiser, batch), how.guidance, none, how.interval)
    grid = policies.grid(how.timesteps, how.steps, model.denoiser.schedule)
    return guided, sampling.method(how.sampler, how.eta), grid


def all_rough(plan: Plan) -> np.ndarray:
    """Every point of a plan may be off."""
    return np.ones(len(plan.outline), dtype=bool)
