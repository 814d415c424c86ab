"""The method's evidence: does the estimated noise tell how recognizable a drawing already is?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from sketchknitter.diffusion.scores import estimated_noise
from sketchknitter.diffusion.timesteps import Grid
from sketchknitter.errors import UserError
from sketchknitter.experiments import sets
from sketchknitter.experiments.cache import Cache, Part
from sketchknitter.experiments.declare import Model
from sketchknitter.experiments.probe import Probe, file_hash
from sketchknitter.experiments.runner import Meter, Runner
from sketchknitter.experiments.steps import Step
from sketchknitter.files import atomic
from sketchknitter.metrics.prediction import ranks
from sketchknitter.progress import Progress, silent
from sketchknitter.recognizers.picture import GUIDE_WEIGHTS, Recognizer
from sketchknitter.recognizers.recognizability import probability
from sketchknitter.reports.document import Bullets, Document, Heading, Picture, Table
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import Settings
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.hub import locate
from sketchknitter.systems.sketchknitter.model import DrawingModel
from sketchknitter.systems.sketchknitter.recognizability import (
    guide_labels,
    judged,
    recognize,
    trajectory,
    walk_levels,
)

CHUNK = 64  # trajectories walked together
ROWS, SKETCHES = "rows.npz", "pictures.npz"
TITLE = "Does the estimated noise tell how recognizable a drawing is?"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over sketches."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "undefined (nothing varies)"
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Evidence:
    """What trajectories of the reverse process look like; L levels, n sketches.

    Attributes:
        t: levels, ascending, (L,).
        noise: mean |eps| of each sketch, (L, n).
        score: the recognizability network's word, (L, n).
        chance: the guide's probability of the true class, for the noisy ``state`` and for the
            ``estimate`` of x_0, (L, n) each.
        right: whether that class is the guide's first choice, (L, n) each.
        marks: levels that shortcut-static visits, by number of steps.
        pictures: (state, estimate) of the first sketches at the levels of the shortest marks.
        warp: W at every level, (T,).
    """

    t: NDArray[np.int64]
    noise: Floats
    score: Floats
    chance: dict[str, Floats]
    right: dict[str, Floats]
    marks: dict[int, tuple[int, ...]]
    pictures: dict[int, list[tuple[Sketch, Sketch]]]
    warp: Floats


@dataclass(frozen=True)
class Question:
    """What is walked.

    Attributes:
        n: trajectories.
        steps: budgets whose chosen timesteps are marked; the least one's are shown as pictures.
        seed: of the noise.
        label: only this class; None takes all in turn.
        count: levels of each trajectory, beside those that are marked.
    """

    n: int = 64
    steps: tuple[int, ...] = (8, 30)
    seed: int = 0
    label: str | None = None
    count: int = 64

    def __post_init__(self) -> None:
        if self.n < 8:
            raise UserError(f"-n {self.n}: an interval needs at least 8 sketches")
        if not self.steps:
            raise UserError("steps: give at least one budget")

    def marks(self, model: DrawingModel) -> dict[int, tuple[int, ...]]:
        """Levels that shortcut-static visits, by number of steps."""
        marks: dict[int, tuple[int, ...]] = {}
        for s in self.steps:
            grid = model.policy(Settings(timesteps="shortcut-static", steps=s))
            assert isinstance(grid, Grid)
            marks[s] = grid.levels
        return marks

    def levels(self, model: DrawingModel) -> list[int]:
        """Every level that is looked at, ascending."""
        marks = self.marks(model)
        return sorted(
            {*walk_levels(self.count, model.denoiser.schedule.steps, 0.5), *_least(marks)}
        )


def _least(marks: dict[int, tuple[int, ...]]) -> tuple[int, ...]:
    return marks[min(marks)]


Pictures = dict[int, list[tuple[Sketch, Sketch]]]


def walk(
    model: DrawingModel,
    guide: Recognizer,
    question: Question,
    first: int = 0,
    report: Progress = silent,
) -> tuple[dict[str, Floats], Pictures]:
    """Trajectories ``first`` … ``first + 63``: what is seen at each level, and some pictures.

    Returns:
        Arrays (L, up to 64) by name, and (state, estimate) of the first four sketches.

    Raises:
        UserError: a checkpoint without recognizability.
    """
    scorer, codec = model.scorer, model.config.codec
    levels, shown = question.levels(model), _least(question.marks(model))
    own = guide_labels(model, guide)
    only = None if question.label is None else model.classes.index(question.label)
    numbers = np.arange(first, min(question.n, first + CHUNK))
    rows: dict[str, list[Floats]] = {}
    pictures: Pictures = {}
    steps = trajectory(
        model, numbers, levels, question.seed, Stream.EVIDENCE, only, classes=judged(model, guide)
    )
    for j, frame in enumerate(steps):
        report("levels", j, len(levels))
        t, out, task = frame.t, frame.denoised, frame.task
        mask, true = task.mask, own[task.label]
        with torch.no_grad():
            score = scorer(frame.x_t, out, t, task.label, mask)
        seen = {"noise": estimated_noise(out, mask), "score": score}
        for name, xy in (("state", frame.x_t), ("estimate", out.x0)):
            p = recognize(guide, codec, xy, out.pen, mask.sum(dim=1))
            seen[f"chance {name}"] = probability(p, true)
            seen[f"right {name}"] = (p.argmax(dim=1) == true).float()
        for key, found in seen.items():
            rows.setdefault(key, []).append(found.double().numpy())
        if first == 0 and int(t[0]) in shown:
            lengths = mask.sum(dim=1)[:4]
            pictures[int(t[0])] = list(
                zip(
                    codec.decode(frame.x_t[:4], out.pen[:4], lengths),
                    codec.decode(out.x0[:4], out.pen[:4], lengths),
                    strict=True,
                )
            )
    return {key: np.stack(values[::-1]) for key, values in rows.items()}, pictures


def joined(
    model: DrawingModel,
    question: Question,
    parts: Sequence[tuple[dict[str, Floats], Pictures]],
) -> Evidence:
    """The evidence of all parts of a walk, in order."""
    whole = {key: np.concatenate([rows[key] for rows, _ in parts], axis=1) for key in parts[0][0]}
    return Evidence(
        np.array(question.levels(model)),
        whole["noise"],
        whole["score"],
        {k: whole[f"chance {k}"] for k in ("state", "estimate")},
        {k: whole[f"right {k}"] for k in ("state", "estimate")},
        question.marks(model),
        parts[0][1],
        model.calibration.warp(model.denoiser.schedule.steps),
    )


# -- as steps that can be killed and resumed -------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Walk:
    """One part of a walk, as work."""

    source: str
    question: Question
    first: int

    def __call__(
        self, context: Any, folder: Path, inputs: Sequence[Path], progress: Progress
    ) -> dict[str, Any]:
        model = DrawingModel.from_pretrained(self.source or None)
        rows, pictures = walk(model, Recognizer.load(), self.question, self.first, progress)
        with atomic(folder / ROWS) as file:
            np.savez_compressed(file, **rows)  # type: ignore[arg-type]
        levels = sorted(pictures)
        flat = [s for t in levels for pair in pictures[t] for s in pair]
        sets.store(flat, folder / SKETCHES)
        return {"levels": levels}


def read_part(part: Part) -> tuple[dict[str, Floats], Pictures]:
    """What a :class:`Walk` left."""
    with np.load(part.folder / ROWS, allow_pickle=False) as file:
        rows = {name: file[name] for name in file.files}
    flat, levels = sets.read(part.folder / SKETCHES), part.record["levels"]
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    each = len(pairs) // max(1, len(levels))
    return rows, {t: pairs[i * each : (i + 1) * each] for i, t in enumerate(levels)}


def explain(
    source: str, question: Question, folder: Path, meter: Meter | None = None, jobs: int = 1
) -> Evidence:
    """Walk the trajectories of a model, as far as the cache in ``folder`` does not hold them.

    Args:
        source: the model's file; empty for the shipped weights.

    Raises:
        UserError: a checkpoint without recognizability.
    """
    model = DrawingModel.from_pretrained(source or None)
    model.scorer  # noqa: B018 - a checkpoint without one should say so first
    system = Model("model", "pretrained", {"source": source})
    probe = Probe({"model": system}, folder / "cache" / "probes")
    cache = Cache(folder / "cache")
    key = {
        "question": dataclasses.asdict(question),
        "training": probe.training("model"),
        "drawing": probe.drawing("model", {"timesteps": "shortcut-static", "steps": 5}),
        "files": [file_hash(p) for p in (locate(source or None), GUIDE_WEIGHTS)],
    }
    firsts = range(0, question.n, CHUNK)
    steps = [
        Step(
            cache.part("walk", key | {"first": first}),
            f"walking trajectories {first} to {min(question.n, first + CHUNK) - 1}",
            Walk(source, question, first),
            family="walk",
        )
        for first in firsts
    ]
    Runner(None, cache.folder, meter, jobs).run(steps)
    return joined(model, question, [read_part(s.part) for s in steps])


def document(evidence: Evidence, figure: Image) -> Document:
    """The evidence as a report: figure, correlations, and every curve for a program to read."""
    curves = {"noise": evidence.noise, "score": evidence.score}
    curves |= {f"recognized {k}": v for k, v in evidence.right.items()}
    rows = [
        (str(t), name, f"{values[i].mean():.6g}", f"{values[i].std():.6g}")
        for name, values in curves.items()
        for i, t in enumerate(evidence.t)
    ]
    lines = tuple(line.strip() for line in verdict(evidence).splitlines())
    blocks = (Heading(TITLE, 1), Picture("evidence.png", figure), Bullets(lines))
    return Document(TITLE, blocks, Table(("t", "curve", "mean", "spread"), tuple(rows)))


def across_levels(noise: Floats, right: Floats, rounds: int = 1000) -> Interval:
    """Correlation over t of mean |eps| and accuracy, (L, n) each: what the paper's figure shows."""
    count = noise.shape[1]

    def measure(weight: Floats) -> Floats:
        return _correlate(noise @ weight.T / count, right @ weight.T / count)

    return _bootstrap(count, measure, rounds)


def within_levels(noise: Floats, chance: Floats, rounds: int = 1000) -> Interval:
    """Mean over levels of the rank correlation between sketches: what noise tells beyond time.

    Ranks are taken once, over all sketches; levels where nothing varies do not count.
    """
    a, b = (np.stack([ranks(row) for row in values]) for values in (noise, chance))
    count = a.shape[1]

    def measure(weight: Floats) -> Floats:
        w = weight / count
        mean_a, mean_b = a @ w.T, b @ w.T
        cov = (a * b) @ w.T - mean_a * mean_b
        var = ((a * a) @ w.T - mean_a**2) * ((b * b) @ w.T - mean_b**2)
        flat = var < 1e-6
        each = np.where(flat, np.nan, cov / np.sqrt(np.where(flat, 1.0, var)))
        counted = (~flat).sum(axis=0)
        return np.where(counted, np.nansum(each, axis=0) / np.maximum(counted, 1), np.nan)

    return _bootstrap(count, measure, rounds)


def _correlate(a: Floats, b: Floats) -> Floats:
    """Pearson's r along the first axis, NaN where a side does not vary."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    spread = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(spread < 1e-12, np.nan, (a * b).sum(axis=0) / np.maximum(spread, 1e-12))


def _bootstrap(count: int, measure: Callable[[Floats], Floats], rounds: int) -> Interval:
    """``measure`` of how often each sketch counts, (rounds, n), and its spread when resampled."""
    draws = stream(0, Stream.BOOTSTRAP).multinomial(count, [1 / count] * count, size=rounds)
    found = measure(draws.astype(np.float64))
    found = found[~np.isnan(found)]
    low, high = np.percentile(found, [2.5, 97.5]) if len(found) else (np.nan, np.nan)
    return Interval(float(measure(np.ones((1, count)))[0]), float(low), float(high))


def verdict(evidence: Evidence) -> str:
    """The correlations as text, and whether they bear out the claim."""
    noise = evidence.noise
    lines = [f"{noise.shape[1]} sketches, {len(evidence.t)} levels; 95 % bootstrap over sketches"]
    lines.append(
        f"mean |eps| falls from {noise[-1].mean():.2f} at t = {evidence.t[-1]} "
        f"to {noise[0].mean():.2f} at t = {evidence.t[0]}"
    )
    names = {"state": "the noisy drawing x_t", "estimate": "the predicted drawing x_0"}
    for key, name in names.items():
        right, chance = evidence.right[key], evidence.chance[key]
        over, beside = across_levels(noise, right), within_levels(noise, chance)
        lines += [
            f"recognizing {name}: {right[-1].mean():.0%} -> {right[0].mean():.0%}",
            f"  over t, mean |eps| against accuracy:            r   = {over}",
            f"  between sketches at one t, |eps| against p:     rho = {beside}",
            "  score against p at one t:                       rho = "
            f"{within_levels(evidence.score, chance)}",
            f"  {_reading(over, beside)}",
        ]
    for s, levels in evidence.marks.items():
        lines.append(f"shortcut-static at {s} steps: {' '.join(map(str, levels))}")
    return "\n".join(lines)


def _reading(over: Interval, beside: Interval) -> str:
    """What the two correlations say about the claim."""
    if np.isnan(over.value):
        return "-> no verdict: the guide says the same of all drawings"
    if not over.high < 0:
        return "-> contradicts the claim: less estimated noise does not mean more recognizable"
    if beside.high < 0:
        return "-> bears out the claim: less estimated noise, more recognizable, also at equal t"
    return "-> bears out the claim over time only: at equal t the noise says nothing reliable"
