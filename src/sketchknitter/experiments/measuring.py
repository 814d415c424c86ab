"""All figures of one set of drawings against one set of real ones, equally many on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.dataset import Split
from sketchknitter.errors import UserError
from sketchknitter.metrics.copying import nearest_training
from sketchknitter.metrics.fid import frechet_distance, inception_score, kernel_distance
from sketchknitter.metrics.geometry_score import mean_relative_living_times, stroke_vectors
from sketchknitter.metrics.judge.network import FeatureNetwork, Features
from sketchknitter.metrics.precision_recall import precision_and_recall
from sketchknitter.metrics.recognition import recognize
from sketchknitter.metrics.statistics import statistic_distances, stroke_statistics
from sketchknitter.raster import render_batch
from sketchknitter.seeds import stream
from sketchknitter.sketch import Sketch

REFERENCE, HALVES, THINNED, LANDMARKS = 63, 64, 65, 66  # what a random stream is for
FOLDS = (("Simple", 0.0, 40.0), ("Moderate", 40.0, 100.0), ("Complex", 100.0, np.inf))
ALL = "all"
K = 3


@dataclass(frozen=True)
class Metric:
    """A figure's name, how it is printed, and which way is good (-1 lower, 1 higher, 0 neither)."""

    name: str
    title: str
    better: int
    scale: float = 1.0


METRICS = (
    Metric("fid_sketch", "FID (sketch)", -1),
    Metric("kid", "KID × 1000", -1, 1000),
    Metric("geometry_score", "GS × 1000", -1, 1000),
    Metric("precision", "precision", 1),
    Metric("recall", "recall", 1),
    Metric("coverage", "coverage", 1),
    Metric("is", "IS", 1),
    Metric("top1", "recognized %", 1, 100),
    Metric("turning_angle", "turning angle, W in degrees", -1),
    Metric("lift_rate", "pen-lift rate, W in %", -1),
    Metric("gap", "gap at stroke ends, W in %", -1),
    Metric("points", "points, W", -1),
    Metric("copied", "copies %", 0, 100),
)
STROKES = ("turning_angle", "lift_rate", "gap", "points")


# -- which real drawings -------------------------------------------------------------------------
def average_points(split: Split) -> dict[str, float]:
    """Average stroke points (rows) of each class, which folds are cut by."""
    lengths, labels = np.asarray(split.lengths), np.asarray(split.labels)
    return {
        name: float(lengths[labels == i].mean())
        for i, name in enumerate(split.classes)
        if (labels == i).any()
    }


def folds(split: Split) -> dict[str, tuple[str, ...]]:
    """Classes of each fold that has any, in the paper's bounds (Simple < 40 … Complex > 100)."""
    points = average_points(split)
    cut = {
        fold: tuple(c for c, n in points.items() if low <= n < high) for fold, low, high in FOLDS
    }
    return {fold: classes for fold, classes in cut.items() if classes}


def draw_real(
    splits: Sequence[Split], classes: Sequence[str], count: int, *key: int
) -> list[Sketch]:
    """``count`` real drawings, equally many of each class, at random.

    Raises:
        UserError: a class has too few.
    """
    share = count // len(classes)
    out = []
    for c, name in enumerate(classes):
        places = [(split, int(i)) for split in splits for i in split.of_class(name)]
        if len(places) < share:
            many = " + ".join(s.name for s in splits)
            raise UserError(
                f"{name}: {share} drawings of {many} are needed, there are {len(places)}; lower "
                "the table's drawings"
            )
        order = stream(0, *key, c).permutation(len(places))[:share]
        out += [places[k][0].sketch(places[k][1]) for k in order]
    return out


def draw_halves(
    splits: Sequence[Split], classes: Sequence[str], count: int, seed: int
) -> tuple[list[Sketch], list[Sketch]]:
    """Two disjoint sets of up to ``count`` real drawings, equally many of each class."""
    most = min(sum(len(s.of_class(name)) for s in splits) for name in classes) // 2
    share = min(count // len(classes), most)
    both = draw_real(splits, classes, 2 * share * len(classes), HALVES, seed)
    first = [s for k, s in enumerate(both) if k % (2 * share) < share]
    second = [s for k, s in enumerate(both) if k % (2 * share) >= share]
    return first, second


# -- figures -------------------------------------------------------------------------------------
class Bench:
    """Measures sets of drawings; what it finds out about a set of real ones it remembers.

    Args:
        network: the judge.
        repeats: landmark draws of the Geometry Score; 0 leaves it out.
        train: for the copy check; empty leaves it out.
    """

    def __init__(
        self, network: FeatureNetwork, repeats: int = 100, train: Sequence[Sketch] = ()
    ) -> None:
        self.network, self.repeats, self.train = network, repeats, train
        self._seen: dict[int, tuple[Any, ...]] = {}
        self._kept: list[Sequence[Sketch]] = []  # so that no id is used twice

    def measure(
        self, drawings: Sequence[Sketch], reference: Sequence[Sketch], copies: bool = False
    ) -> dict[str, float]:
        """Name to value; a figure that has no answer is left out, never NaN.

        Raises:
            UserError: too few drawings, or drawings that no metric has an answer for.
        """
        if len(drawings) != len(reference):
            raise UserError(f"{len(drawings)} drawings against {len(reference)}: not alike many")
        real, real_strokes, real_times = self._look(reference, keep=True)
        fake, fake_strokes, fake_times = self._look(drawings)
        near = precision_and_recall(real.whitened, fake.whitened, K)
        out = {
            "fid_sketch": frechet_distance(real.vectors, fake.vectors),
            "kid": kernel_distance(real.vectors, fake.vectors)[0],
            "precision": near.precision,
            "recall": near.recall,
            "coverage": near.coverage,
            "is": inception_score(fake.probabilities)[0],
        }
        if real_times is not None:
            out["geometry_score"] = float(((real_times - fake_times) ** 2).sum())
        labels = [s.label for s in drawings]
        if set(labels) <= set(self.network.classes):
            known = recognize(fake.probabilities, [str(n) for n in labels], fake.classes)
            out |= {f"top{k}": v for k, v in known.top.items()}
        found = statistic_distances(real_strokes, fake_strokes)
        out |= {name: v[0] for name in STROKES if (v := found[name]) is not None}
        if copies and self.train:
            out["copied"] = nearest_training(drawings, self.train).copied
        if bad := [name for name, value in out.items() if not np.isfinite(value)]:
            raise UserError(f"{bad[0]} is not finite: look at the drawings for degenerate ones")
        return out

    def _look(self, sketches: Sequence[Sketch], keep: bool = False) -> tuple[Any, ...]:
        if id(sketches) in self._seen:
            return self._seen[id(sketches)]
        times: NDArray[np.float64] | None = None
        if self.repeats:
            times = mean_relative_living_times(stroke_vectors(sketches), self.repeats, LANDMARKS)
        seen = (self.network.embed(sketches), stroke_statistics(sketches), times)
        if keep:
            self._seen[id(sketches)] = seen
            self._kept.append(sketches)
        return seen


def behavior() -> Any:
    """Figures of fixed drawings, to five digits: they change when a metric computes differently."""

    class Plain:
        name = identity = "plain"
        classes: tuple[str, ...] = ("a", "b", "c")

        def embed(self, sketches: Sequence[Sketch], progress: bool = False) -> Features:

            pictures = render_batch(sketches, 8).reshape(len(sketches), -1) / 255.0
            p = np.exp(pictures[:, :3] + pictures[:, 30:33])
            return Features(pictures, p / p.sum(1, keepdims=True), self.classes)

    sets = []
    for k in range(2):
        rng = stream(0, THINNED, k)
        sets.append(
            [
                Sketch([rng.normal(0, 9 + k, (6, 2)), rng.normal(9, 9, (4, 2))], "abc"[i % 3])
                for i in range(12)
            ]
        )
    found = Bench(Plain(), 3, sets[1]).measure(sets[0], sets[1], copies=True)
    return {name: float(f"{value:.5g}") for name, value in sorted(found.items())}
