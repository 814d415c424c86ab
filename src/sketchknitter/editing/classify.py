"""What a drawing is or will be, and which of several guesses of the whole is likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sketchknitter.classes import NO_CLASS, class_index, find_class
from sketchknitter.data.outline import error_of, outline
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion.guidance.deformed import covering_level, noised
from sketchknitter.diffusion.guidance.known import Anchored
from sketchknitter.diffusion.timesteps import Grid
from sketchknitter.editing.plan import Plan
from sketchknitter.editing.posing import Where, known_of, proposals, state_of, task_of, whole
from sketchknitter.geometry import QUICKDRAW_SIZE
from sketchknitter.recognizers.outlook import LONGEST, OUTLOOK_WEIGHTS, Outlook, as_seen
from sketchknitter.recognizers.picture import guide
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel

TEMPER = 3.0  # nats of surprise that count as one: the pilot's verdict is rough
CLEAR, UNCLEAR = 0.05, 0.12  # shares of its size by which points may be off: a picture of such
# errors says all it can, or nothing; chosen on valid drawings
# how much the guide counts beside the outlook: of a part of a drawing, and of a whole one by the
# share of its size by which its points may be off; chosen on 620 valid drawings, see
# docs/model_card.md
GUIDE_ON_PARTS = 0.45
GUIDE_HEARD = (0.0, 0.05, 0.15), (0.6, 0.35, 0.0)
SIZE = (
    0.6  # of the density's change with size that a truncated bound sees; chosen on valid drawings
)


# -- which guess is likeliest -------------------------------------------------------------------
@torch.no_grad()
def pilot(
    model: DrawingModel,
    plans: Sequence[Plan],
    labels: Sequence[int],
    streams: Sequence[np.random.Generator],
    levels: int = 6,
) -> np.ndarray:
    """How much each plan's known part surprises the model, nats, (M,).

    A short completion is drawn for each plan; at every level the model predicts the known part
    before it is shown that part. The sum of its errors, times the signal-to-noise ratio, is the
    variational bound's part on what is known (Kingma et al. 2021, eq. 11): Bayes' rule over
    lengths, sizes and classes, with the model's own likelihood. A density per px grows with the
    size at which the known part is shown; the bound, cut off where noise still hides details, sees
    only a part of that (``SIZE``).
    """
    schedule = model.denoiser.schedule
    surprise = torch.zeros(len(plans), dtype=torch.float64)

    def add(t: Tensor, miss: Tensor) -> None:
        alpha, sigma = schedule(t)
        surprise.add_((0.5 * (alpha / sigma) ** 2 * miss.double()).cpu())

    task = task_of(model, plans, labels, streams)
    known = known_of(model, plans, [np.zeros(len(p.outline)) for p in plans])
    bits = model.denoiser.pens.channels > 0
    anchored = Anchored(model.denoiser, model.config.codec.map, known, bits, miss=add)
    grid = Grid(np.linspace(0.95, 0.3, levels) * schedule.steps, schedule.steps)
    sampling.draw(anchored, sampling.method("ddim"), grid, task, task.normal(model.width))
    size = [2 * len(p.outline) * np.log(p.scale * p.extent / QUICKDRAW_SIZE) for p in plans]
    return surprise.numpy() - SIZE * np.array(size)


def choose(surprise: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` candidates, by their posterior, none twice (Gumbel top-k), the likeliest first."""
    keys = -surprise / TEMPER + rng.gumbel(size=len(surprise))
    return np.argsort(-keys, kind="stable")[:n]


# -- what it is ----------------------------------------------------------------------------------
@lru_cache(maxsize=1)
def outlook() -> Outlook | None:
    """The shipped outlook, or None where there is none."""
    return Outlook.load() if OUTLOOK_WEIGHTS.exists() else None


def _seen(classes: Sequence[str], sketch: Sketch) -> np.ndarray:
    """The guide's log-probabilities for classes, (C,); NaN for those that it does not know."""
    network = guide()
    if network is None:
        return np.full(len(classes), np.nan)
    return _among(classes, network.classes, network.log_probabilities([sketch])[0])


def _foreseen(classes: Sequence[str], sketch: Sketch, finished: bool) -> np.ndarray:
    """The outlook's log-probabilities for classes, (C,); NaN for those that it does not know."""
    network = outlook()
    if network is None:
        return np.full(len(classes), np.nan)
    drawn = outline(sketch, most=LONGEST)
    where = "nothing" if finished else "anywhere"
    p = network.class_probabilities(as_seen(drawn.points, drawn.ends, where, rough=True))
    return _among(classes, network.classes, np.log(np.maximum(p, 1e-12)))


def _among(classes: Sequence[str], known: Sequence[str], log_p: np.ndarray) -> np.ndarray:
    """Log-probabilities of ``known`` classes in the order of others; NaN where one is not known."""
    table = dict(zip(known, log_p, strict=True))
    return np.array([table.get(name, np.nan) for name in classes])


def guess(
    model: DrawingModel,
    sketch: Sketch,
    *,
    finished: bool,
    tolerance: float = 0.0,
    where: Where = "end",
    seed: int = 0,
    draws: int = 2,
) -> int:
    """Index of the class that ``sketch`` is likeliest to show, or to become (the likeliest of
    :func:`probabilities`, arguments as there)."""
    if len(model.classes) == 1:
        return 0
    p = probabilities(
        model, sketch, finished=finished, tolerance=tolerance, where=where, seed=seed, draws=draws
    )
    return int(np.argmax(p))


def probabilities(
    model: DrawingModel,
    sketch: Sketch,
    *,
    finished: bool,
    tolerance: float = 0.0,
    where: Where = "end",
    seed: int = 0,
    draws: int = 2,
) -> np.ndarray:
    """How likely ``sketch`` shows, or will show, each class of the model, (C,), in all 1.

    Two recognizers are asked: the outlook, which follows the points, and the guide, which looks at
    the picture. For classes that the outlook does not know the model itself speaks in its place: it
    finds the drawing less surprising under the right label (a diffusion classifier, Li et al. 2023;
    for unfinished drawings with :func:`pilot` as its likelihood).

    Args:
        finished: False where something is still to come.
        tolerance: px of the model's frame by which points may be off.
    """
    if len(model.classes) == 1:
        return np.ones(1)
    found = _foreseen(model.classes, sketch, finished)
    if np.isnan(found).any() and finished:
        found = evidence(model, whole(model, sketch, tolerance), tolerance, seed, draws) / TEMPER
    elif np.isnan(found).any():
        found = _likely_endings(model, sketch, where, seed, draws)
    # a picture of errors tells the guide nothing
    clear = np.interp(error_of(sketch), (CLEAR, UNCLEAR), (1.0, 0.0))
    score = heard(found, clear * _seen(model.classes, sketch))
    p: np.ndarray = np.exp(score - score.max())
    return p / p.sum()


def witnessed(
    log_p: np.ndarray, classes: Sequence[str], sketch: Sketch, finished: bool
) -> np.ndarray:
    """The outlook's log-probabilities (C,) of what a drawing shows, or will show, after what the
    guide says of its picture, as far as its errors let it tell."""
    error = error_of(sketch)
    if finished:
        weight = float(np.interp(error, *GUIDE_HEARD))
    else:
        weight = GUIDE_ON_PARTS * float(np.interp(error, (CLEAR, UNCLEAR), (1.0, 0.0)))
    return heard(log_p, weight * _seen(classes, sketch)) if weight > 0 else log_p


def heard(log_p: np.ndarray, witness: np.ndarray) -> np.ndarray:
    """Log-probabilities (C,) after a further witness: its own log-probabilities, NaN for classes
    that it does not know. Those stay as likely as they were against all that it knows."""
    known = ~np.isnan(witness)
    out = log_p.copy()
    if known.any():
        out[known] += witness[known]
        out[known] += np.logaddexp.reduce(log_p[known]) - np.logaddexp.reduce(out[known])
    return out


def _likely_endings(
    model: DrawingModel, sketch: Sketch, where: Where, seed: int, draws: int
) -> np.ndarray:
    """Log-likelihood of an unfinished drawing under each class, (C,), from its pilots."""
    classes = len(model.classes)
    labels = np.repeat(np.arange(classes), draws).tolist()
    # the same streams for every class: they differ by their label alone
    streams = [stream(seed, Stream.GUESS, i % draws) for i in range(len(labels))]
    plans = proposals(model, sketch, labels, streams, where)
    surprise = pilot(model, plans, labels, streams).reshape(classes, draws)
    out: np.ndarray = np.logaddexp.reduce(-surprise / TEMPER, axis=1)
    return out


@torch.no_grad()
def evidence(
    model: DrawingModel,
    plan: Plan,
    off: float = 0.0,
    seed: int = 0,
    draws: int = 2,
    steps: int = 6,
) -> np.ndarray:
    """Log-likelihood of a finished drawing under each class, up to a constant, (C,) nats.

    A diffusion classifier (Li et al. 2023) that knows of errors: the drawing, whose points are off
    by ``off`` px, is a sample of the level that covers them, so the variational bound is summed
    from there on, and the model's prediction is compared with that sample.
    """
    classes, schedule = len(model.classes), model.denoiser.schedule
    representation, clean = model.config.codec.map, state_of(model, [plan])
    level = max(covering_level(representation, off, schedule), schedule.steps // 20)
    start = torch.tensor(level)
    task = task_of(
        model, [plan] * draws, [0] * draws, [stream(seed, Stream.GUESS, i) for i in range(draws)]
    )
    mask = task.mask.repeat_interleave(classes, dim=0)
    label = torch.arange(classes, device=model.device).repeat(draws)
    sample = noised(
        clean.expand(draws, -1, -1), representation, off, start, schedule, task.normal(model.width)
    )
    alpha_s, sigma_s = (float(c) for c in schedule(start))
    total = torch.zeros(draws * classes, dtype=torch.float64)
    levels = np.linspace(level + 0.03 * schedule.steps, 0.97 * schedule.steps, steps + 1)
    ratio, beta = [], []
    for t in levels:
        a, s = (float(c) for c in schedule(torch.tensor(int(t))))
        ratio.append(a / alpha_s)
        beta.append(s**2 - (a / alpha_s * sigma_s) ** 2)
    known = [r * r / b for r, b in zip(ratio, beta, strict=True)]
    for k, t in enumerate(levels[:-1]):
        noise = task.normal(model.width)
        x_t = (ratio[k] * sample + beta[k] ** 0.5 * noise).repeat_interleave(classes, dim=0)
        at = torch.full((len(x_t),), int(t), device=model.device)
        x0 = model.denoiser(x_t, at, label, mask).x0
        s2 = beta[k] + (ratio[k] * sigma_s) ** 2
        mean = ratio[k] * sigma_s**2 / s2 * x_t + alpha_s * beta[k] / s2 * x0
        miss = (sample.repeat_interleave(classes, dim=0) - mean) * mask[..., None]
        total -= 0.5 * (known[k] - known[k + 1]) * (miss.double() ** 2).sum(dim=(1, 2)).cpu()
    return total.view(draws, classes).mean(dim=0).numpy()


def label_index(model: DrawingModel, label: str | None, sketch: Sketch) -> int | None:
    """Index of the class asked for: "none" is no label, "guess" the drawing's own if it is known.

    Returns:
        None where it has to be guessed.

    Raises:
        UserError: an unknown class.
    """

    classes = model.classes
    if label is None or (label == NO_CLASS and NO_CLASS not in classes) or not classes:
        return len(classes)
    if label != "guess":
        return class_index(classes, label)
    known = None if sketch.label is None else find_class(classes, sketch.label)
    return None if known is None else classes.index(known)
