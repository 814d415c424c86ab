"""The method's evidence: does the estimated noise tell how recognizable a drawing already is?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sketchknitter.diffusion.scores import estimated_noise
from sketchknitter.diffusion.timesteps import Grid
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.metrics.prediction import ranks
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.recognizers.progress import probability
from sketchknitter.seeds import stream
from sketchknitter.settings import Settings
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.recognizability import (
    guide_labels,
    recognize,
    trajectory,
    walk_levels,
)

EXPLAIN, BOOTSTRAP = 51, 52  # what a random stream is for
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


def gather(
    model: SketchKnitter,
    guide: Recognizer,
    *,
    n: int = 64,
    steps: tuple[int, ...] = (8, 30),
    seed: int = 0,
    label: str | None = None,
    count: int = 64,
    report: Callable[[str, float], object] = lambda what, share: None,
) -> Evidence:
    """Walk ``n`` trajectories of ``count`` levels (and the shown marks) and look at each moment.

    Raises:
        UserError: a checkpoint without recognizability, or too few sketches for an interval.
    """
    if n < 8:
        raise UserError(f"-n {n}: an interval needs at least 8 sketches")
    scorer, total = model.scorer, model.denoiser.schedule.steps
    marks: dict[int, tuple[int, ...]] = {}
    for s in steps:
        grid = model.policy(Settings(timesteps="shortcut-static", steps=s))
        assert isinstance(grid, Grid)
        marks[s] = grid.levels
    shown = marks[min(marks)]
    levels = sorted({*walk_levels(count, total, 0.5), *shown})
    own = guide_labels(model, guide)
    only = None if label is None else model.classes.index(label)
    codec = model.config.codec
    parts: dict[str, list[Floats]] = {}
    pictures: dict[int, list[tuple[Sketch, Sketch]]] = {}
    for a in range(0, n, 64):
        numbers = np.arange(a, min(n, a + 64))
        rows: dict[str, list[Floats]] = {}
        walk = trajectory(model, numbers, levels, seed, EXPLAIN, only)
        for j, frame in enumerate(walk):
            report("walking trajectories", (a + 64 * j / len(levels)) / n)
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
            if a == 0 and int(t[0]) in shown:
                lengths = mask.sum(dim=1)[:4]
                pictures[int(t[0])] = list(
                    zip(
                        codec.decode(frame.x_t[:4], out.pen[:4], lengths),
                        codec.decode(out.x0[:4], out.pen[:4], lengths),
                        strict=True,
                    )
                )
        for key, values in rows.items():
            parts.setdefault(key, []).append(np.stack(values[::-1]))
    whole = {key: np.concatenate(part, axis=1) for key, part in parts.items()}
    return Evidence(
        np.array(levels),
        whole["noise"],
        whole["score"],
        {k: whole[f"chance {k}"] for k in ("state", "estimate")},
        {k: whole[f"right {k}"] for k in ("state", "estimate")},
        marks,
        pictures,
        model.calibration.warp(total),
    )


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
    draws = stream(0, BOOTSTRAP).multinomial(count, [1 / count] * count, size=rounds)
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
