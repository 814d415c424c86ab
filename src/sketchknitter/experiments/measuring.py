"""All figures of one set of drawings against one set of real ones, equally many on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sketchknitter.data.dataset import Split
from sketchknitter.errors import UserError
from sketchknitter.metrics.features import FeatureNetwork, Features
from sketchknitter.metrics.metric import Comparison, DrawingSet, measure
from sketchknitter.raster import render_batch
from sketchknitter.seeds import stream
from sketchknitter.sketch import Sketch

REFERENCE, HALVES, THINNED, LANDMARKS = 63, 64, 65, 66  # what a random stream is for
FOLDS = (("Simple", 0.0, 40.0), ("Moderate", 40.0, 100.0), ("Complex", 100.0, np.inf))
ALL = "all"


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
        self.network, self.repeats = network, repeats
        self.train = DrawingSet(train, network) if train else None
        self._kept: dict[int, tuple[Sequence[Sketch], DrawingSet]] = {}

    def measure(
        self, drawings: Sequence[Sketch], reference: Sequence[Sketch], copies: bool = False
    ) -> dict[str, float]:
        """Name to value; a figure that has no answer is left out, never NaN.

        Raises:
            UserError: too few drawings, or drawings that no metric has an answer for.
        """
        if len(drawings) != len(reference):
            raise UserError(f"{len(drawings)} drawings against {len(reference)}: not alike many")
        # the sequence is kept beside its set, so that no id is used twice
        fresh = reference, DrawingSet(reference, self.network)
        real = self._kept.setdefault(id(reference), fresh)[1]
        drawn, train = DrawingSet(drawings, self.network), self.train if copies else None
        return measure(Comparison(drawn, real, train, repeats=self.repeats, seed=LANDMARKS))


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
