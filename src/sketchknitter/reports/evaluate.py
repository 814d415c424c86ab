"""Every metric of a set of drawings against real ones, with floors, N, spreads and warnings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchknitter import __version__
from sketchknitter.errors import UserError
from sketchknitter.metrics.copying import COPY_DISTANCE, Neighbors, nearest_training
from sketchknitter.metrics.fid import (
    bootstrap_kernel_distance,
    frechet_distance,
    inception_score,
    kernel_distance,
)
from sketchknitter.metrics.geometry_score import score_geometry, stroke_vectors
from sketchknitter.metrics.judge.network import FeatureNetwork, Features, load_judge
from sketchknitter.metrics.precision_recall import precision_and_recall
from sketchknitter.metrics.recognition import TOP, Recognition, recognize
from sketchknitter.metrics.statistics import STATISTICS, statistic_distances, stroke_statistics
from sketchknitter.reports.report import Figure, Histogram, Report
from sketchknitter.sketch import Sketch

K = 3  # of the nearest-neighbor balls
LEAST = K + 1  # drawings on each side below which nothing is measured
SMALL = 500  # drawings on each side below which a warning names the measured bias
PAGE = 48  # sketches on each page of a report

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """How an evaluation is made; all of it goes into the report.

    Args:
        n: drawings on each side at most; None takes as many as both sides have.
        seed: of every random choice.
        halvings: ways to halve the held-out drawings for the floors.
        geometry_repeats: landmark draws of the Geometry Score; 0 leaves it out.
        bootstrap: draws for KID's spread.
        copy_check: look for each drawing's nearest training drawing.
    """

    n: int | None = None
    seed: int = 0
    halvings: int = 5
    geometry_repeats: int = 1000
    bootstrap: int = 200
    copy_check: bool = True


def fid_sketch(drawings: Sequence[Sketch], reference: Sequence[Sketch]) -> float:
    """Fréchet distance on the shipped judge's features; never comparable with an Inception FID.

    Raises:
        UserError: fewer than four drawings on a side, or drawings without ink.
    """
    judge = load_judge()
    check_drawings(drawings, "drawings")
    check_drawings(reference, "reference")
    return frechet_distance(judge.embed(reference).vectors, judge.embed(drawings).vectors)


def check_drawings(sketches: Sequence[Sketch], what: str) -> None:
    """Refuse what no metric has an answer for.

    Raises:
        UserError: fewer than four drawings, a drawing without points, or all drawings identical.
    """
    if len(sketches) < LEAST:
        count = {0: "no drawing", 1: "one drawing"}.get(len(sketches), f"{len(sketches)} drawings")
        raise UserError(
            f"{what}: {count}; the metrics compare sets and need at least {LEAST} "
            f"(k = {K} neighbors), a few hundred to mean much"
        )
    for i, sketch in enumerate(sketches):
        if not sketch.num_points:
            raise UserError(f"{what}: drawing {i} has no points; remove it")
    first = sketches[0]
    if all(_same_ink(first, other) for other in sketches):
        raise UserError(
            f"{what}: all {len(sketches)} drawings are identical; a set of one drawing has no "
            "spread to measure"
        )


def _same_ink(a: Sketch, b: Sketch) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a.strokes, b.strokes))


# -- which drawings ------------------------------------------------------------------------------
def spread_order(sketches: Sequence[Sketch], rng: np.random.Generator) -> Index:
    """A random order in which every prefix holds the labels in about their overall shares."""
    labels = np.array([sketch.label or "" for sketch in sketches])
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows] = (rng.permutation(len(rows)) + rng.random(len(rows))) / len(rows)
    return np.argsort(place, kind="stable")


def _take(sketches: Sequence[Sketch], count: int, rng: np.random.Generator) -> list[Sketch]:
    if len(sketches) == count:
        return list(sketches)
    return [sketches[i] for i in np.sort(spread_order(sketches, rng)[:count])]


# -- the evaluation --------------------------------------------------------------------------------
@dataclass
class _Bench:
    """What the parts of one evaluation share: sets, features, settings, and how long parts took."""

    drawings: list[Sketch]
    reference: list[Sketch]
    heldout: list[Sketch]
    settings: Settings
    progress: bool
    halves: list[tuple[Index, Index]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.drawings)

    @property
    def floor_n(self) -> int:
        return len(self.halves[0][0])

    @contextmanager
    def timed(self, part: str) -> Any:
        start = time.perf_counter()
        yield
        self.seconds[part] = round(time.perf_counter() - start, 2)

    def add(
        self,
        name: str,
        value: float,
        floors: Sequence[float],
        better: str = "lower",
        spread: float | None = None,
        unit: str = "",
        note: str = "",
    ) -> None:
        spread_of_floor = float(np.std(floors, ddof=1)) if len(floors) > 1 else None
        floor = float(np.mean(floors)) if len(floors) else None
        numbers = [v for v in (value, floor, spread, spread_of_floor) if v is not None]
        if not np.isfinite(numbers).all():
            raise UserError(
                f"{name} is not finite on these drawings; look at them for degenerate ones"
            )
        self.figures.append(
            Figure(
                name,
                float(value),
                floor,
                self.n,
                self.floor_n if floors else None,
                spread_of_floor,
                spread,
                better,
                unit,
                note,
            )
        )


def evaluate(
    drawings: Sequence[Sketch],
    reference: Sequence[Sketch],
    heldout: Sequence[Sketch] | None = None,
    train: Sequence[Sketch] | None = None,
    network: FeatureNetwork | None = None,
    settings: Settings | None = None,
    names: tuple[str, str] = ("drawings", "reference"),
    notes: Sequence[str] = (),
    progress: bool = False,
) -> Report:
    """Measure ``drawings`` against ``reference`` by every metric.

    Both sides count equally many drawings: the larger one is thinned out at random, keeping its
    classes' shares. Labels are used where every drawing has one.

    Args:
        heldout: real drawings that are halved for the floors (valid + test); None halves
            ``reference``.
        train: for the copy check; None leaves it out.
        network: the features; None takes the shipped judge.
        names: of the two sets, for messages and the report's head.
        notes: what the caller decided on the way; they go into the report.

    Raises:
        UserError: too few, identical or empty drawings, or labels the judge never saw.
    """
    settings = settings or Settings()
    check_drawings(drawings, names[0])
    check_drawings(reference, names[1])
    network = network or load_judge()
    _check_classes(reference, network, names[1])
    labeled = bool(network.classes) and all(s.label is not None for s in drawings)
    if labeled:
        _check_classes(drawings, network, names[0])
    rng = np.random.default_rng(settings.seed)
    count = min(len(drawings), len(reference), settings.n or len(drawings))
    if count < LEAST:
        raise UserError(f"-n {count}: the metrics need at least {LEAST} drawings (k = {K})")
    remarks = list(notes)
    for side, name in ((drawings, names[0]), (reference, names[1])):
        if len(side) > count:
            remarks.append(f"{count} of the {len(side)} drawings of {name}, drawn at random")
    bench = _Bench(
        _take(drawings, count, rng),
        _take(reference, count, rng),
        list(heldout if heldout is not None else reference),
        settings,
        progress,
    )
    size = min(count, len(bench.heldout) // 2)
    if size < LEAST:
        raise UserError(
            f"{names[1]}: {len(bench.heldout)} held-out drawings; floors need at least {2 * LEAST}"
        )
    for _ in range(settings.halvings):
        order = spread_order(bench.heldout, rng)
        bench.halves.append((np.sort(order[0::2][:size]), np.sort(order[1::2][:size])))
    if size < count:
        remarks.append(f"floors at N = {size}: half of the {len(bench.heldout)} held-out drawings")

    seen = _embed(bench, network)
    _measure_features(bench, *seen, network.name)
    recognized = _measure_recognition(bench, *seen) if labeled else None
    if not labeled and network.classes:
        remarks.append("no recognition rate: not every drawing has a label")
    _measure_geometry(bench)
    histograms = _measure_strokes(bench, remarks)
    neighbors = _measure_copies(bench, train)
    return Report(
        names[0],
        names[1],
        tuple(bench.figures),
        tuple(_warnings(bench, seen, labeled, names)),
        tuple(remarks),
        _conditions(bench, network),
        histograms,
        recognized,
        _pages(bench, neighbors, train, rng),
    )


def _check_classes(sketches: Sequence[Sketch], network: FeatureNetwork, what: str) -> None:
    if not network.classes:
        return
    strangers = sorted({s.label for s in sketches if s.label is not None} - set(network.classes))
    if strangers:
        listed = ", ".join(strangers[:5]) + (" …" if len(strangers) > 5 else "")
        raise UserError(
            f"{what}: the judge never saw {listed}; it knows {len(network.classes)} classes: "
            "leave the others out, or train a judge on them "
            "(python -m sketchknitter.cli.train_recognizer judge) and name it with --judge"
        )


def _embed(bench: _Bench, network: FeatureNetwork) -> tuple[Features, Features, Features]:
    """Features of drawings, reference and held-out; a drawing in several sets is seen once."""
    sets = (bench.drawings, bench.reference, bench.heldout)
    rows: dict[int, int] = {}
    unique: list[Sketch] = []
    for sketch in (s for part in sets for s in part):
        if id(sketch) not in rows:
            rows[id(sketch)] = len(unique)
            unique.append(sketch)
    with bench.timed("features"):
        every = network.embed(unique, progress=bench.progress)
    drawings, reference, heldout = (every[[rows[id(s)] for s in part]] for part in sets)
    return drawings, reference, heldout


def _measure_features(
    bench: _Bench, fake: Features, real: Features, heldout: Features, name: str
) -> None:
    settings, n = bench.settings, bench.n
    pairs = [(heldout.vectors[a], heldout.vectors[b]) for a, b in bench.halves]
    with bench.timed("FID, KID, IS"):
        floors = [frechet_distance(a, b) for a, b in pairs]
        bench.add(name, frechet_distance(real.vectors, fake.vectors), floors)
        floors = [kernel_distance(a, b)[0] for a, b in pairs]
        spread = bootstrap_kernel_distance(
            real.vectors, fake.vectors, settings.bootstrap, settings.seed
        )
        value = kernel_distance(real.vectors, fake.vectors)[0]
        bench.add("kid", value, floors, spread=spread, note=f"one subset of {n}")
        floors = [inception_score(heldout.probabilities[a])[0] for a, _ in bench.halves]
        bench.add("is", inception_score(fake.probabilities)[0], floors, "higher")
    if fake.scribble is not None and heldout.scribble is not None:
        taken = [float((heldout.scribble[a] > 0.5).mean()) for a, _ in bench.halves]
        note = "share in which the judge sees a scribble that shows nothing"
        bench.add("scribbles", float((fake.scribble > 0.5).mean()), taken, note=note)
    with bench.timed("precision, recall, density, coverage"):
        shares = precision_and_recall(real.whitened, fake.whitened, K)
        white = heldout.whitened
        floor_shares = [precision_and_recall(white[a], white[b], K) for a, b in bench.halves]
        for part in ("precision", "recall", "density", "coverage"):
            floors = [getattr(f, part) for f in floor_shares]
            bench.add(part, getattr(shares, part), floors, "higher", note=f"k = {K}")


def _measure_recognition(
    bench: _Bench, fake: Features, real: Features, heldout: Features
) -> Recognition:
    labels = [s.label or "" for s in bench.drawings]
    result = recognize(fake.probabilities, labels, fake.classes)
    known = np.flatnonzero([s.label is not None for s in bench.heldout])
    floors: list[Recognition] = []
    for a, _ in bench.halves:
        rows = np.intersect1d(a, known)
        if len(rows):
            truth = [bench.heldout[i].label or "" for i in rows]
            floors.append(recognize(heldout.probabilities[rows], truth, heldout.classes))
    for k in TOP:
        if k in result.top:
            bench.add(f"top{k}", result.top[k], [f.top[k] for f in floors], "higher")
    return result


def _measure_geometry(bench: _Bench) -> None:
    repeats = bench.settings.geometry_repeats
    if not repeats:
        return
    with bench.timed("Geometry Score"):
        real, fake, heldout = (
            stroke_vectors(part) for part in (bench.reference, bench.drawings, bench.heldout)
        )
        a, b = bench.halves[0]
        seed, progress = bench.settings.seed, bench.progress
        value = score_geometry(real, fake, repeats, seed, progress=progress)
        floor = score_geometry(heldout[a], heldout[b], repeats, seed, progress=progress)
        note = (
            f"{repeats} repeats; the paper's table seems to print it × 1000; floor of one halving"
        )
        bench.add("geometry_score", value, [floor], note=note)


def _measure_strokes(bench: _Bench, remarks: list[str]) -> tuple[Histogram, ...]:
    histograms = []
    with bench.timed("stroke statistics"):
        real, fake = stroke_statistics(bench.reference), stroke_statistics(bench.drawings)
        floors = []
        for a, b in bench.halves[: min(3, len(bench.halves))]:
            parts = (stroke_statistics([bench.heldout[i] for i in half]) for half in (a, b))
            floors.append(statistic_distances(*parts))
        found = statistic_distances(real, fake)
        for statistic in STATISTICS:
            answer = found[statistic.name]
            if answer is None:
                remarks.append(f"no {statistic.name}: one side has no {statistic.meaning}")
                continue
            known = [f[0] for floor in floors if (f := floor[statistic.name]) is not None]
            name = f"w_{statistic.name}"
            bench.add(name, answer[0], known, unit=statistic.unit, note=statistic.meaning)
            values = real[statistic.name], fake[statistic.name]
            histograms.append(
                Histogram(
                    statistic.name,
                    statistic.unit,
                    statistic.meaning,
                    *histogram(*values),
                    *answer[1:],
                )
            )
    return tuple(histograms)


def histogram(
    real: Array, fake: Array, bins: int = 40
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Common bin edges up to the 99th percentile, and each side's shares; the rest is in the last.

    Counts get bins of whole numbers.
    """
    both = np.concatenate([real, fake])
    low, high = float(both.min()), float(np.quantile(both, 0.99))
    if np.equal(both, np.round(both)).all():
        step = max(1.0, np.ceil((high - low + 1) / bins))
        edges = np.arange(low - 0.5, high + 0.5 + step, step)
    else:
        edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    shares = [np.histogram(np.minimum(v, edges[-1]), edges)[0] / len(v) for v in (real, fake)]
    return tuple(edges.tolist()), tuple(shares[0].tolist()), tuple(shares[1].tolist())


def _measure_copies(bench: _Bench, train: Sequence[Sketch] | None) -> Neighbors | None:
    if not train or not bench.settings.copy_check:
        return None
    with bench.timed("copy check"):
        found = nearest_training(bench.drawings, train, progress=bench.progress)
        real = nearest_training(
            [bench.heldout[i] for i in bench.halves[0][0][:500]], train, progress=bench.progress
        )
    note = f"ink within {COPY_DISTANCE:g} % of a training drawing's; floor: held-out real drawings"
    bench.add("copied", found.copied, [real.copied], note=note)
    note = "median distance to the nearest training drawing; far below its floor: memorized"
    unit = "% of longer side"
    bench.add("nearest_training", found.median, [real.median], "floor", unit=unit, note=note)
    return found


# -- what goes beside the figures ----------------------------------------------------------------
def _warnings(
    bench: _Bench, seen: tuple[Features, ...], labeled: bool, names: tuple[str, str]
) -> list[str]:
    found = []
    fid = bench.figures[0]
    if bench.n < SMALL:
        text = (
            f"N = {bench.n} is small: two disjoint sets of {bench.floor_n} real drawings, whose "
            f"true distance is 0, already score {fid.name} {fid.floor:.3g}"
        )
        largest = len(bench.heldout) // 2
        if largest > 1.5 * bench.floor_n:
            order = spread_order(bench.heldout, np.random.default_rng(bench.settings.seed))
            a, b = (seen[2].vectors[order[k::2]] for k in (0, 1))
            text += f" (at N = {largest}: {frechet_distance(a, b):.3g})"
        found.append(text + "; compare with the floor, never with a figure at another N")
    width = seen[0].vectors.shape[1]
    if bench.n <= width:
        found.append(f"N = {bench.n} drawings cannot fill {width} feature dimensions: trust KID")
    distinct = len({tuple(s.tobytes() for s in sketch.strokes) for sketch in bench.drawings})
    if distinct < 0.9 * bench.n:
        found.append(f"only {distinct} of the {bench.n} drawings of {names[0]} are distinct")
    if labeled and all(s.label is not None for s in bench.reference):
        gap = _class_gap(bench.drawings, bench.reference)
        if gap > 0.1:
            found.append(
                f"the classes are mixed differently ({gap:.0%} would have to change class): every "
                "figure counts that too"
            )
    return found


def _class_gap(a: Sequence[Sketch], b: Sequence[Sketch]) -> float:
    names = sorted({s.label or "" for part in (a, b) for s in part})
    shares = [
        np.array([sum(s.label == name for s in part) for name in names]) / len(part)
        for part in (a, b)
    ]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _conditions(bench: _Bench, network: FeatureNetwork) -> dict[str, Any]:
    import platform

    import torch

    return {
        "N": bench.n,
        "floor N": bench.floor_n,
        "halvings": bench.settings.halvings,
        "seed": bench.settings.seed,
        "features": f"{network.name} ({network.identity})",
        "renderer": "sketchknitter.raster (Pillow)",
        "Geometry Score repeats": bench.settings.geometry_repeats,
        "sketchknitter": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "seconds": bench.seconds,
    }


def _pages(
    bench: _Bench,
    neighbors: Neighbors | None,
    train: Sequence[Sketch] | None,
    rng: np.random.Generator,
) -> dict[str, tuple[Sketch, ...]]:
    def some(sketches: Sequence[Sketch]) -> tuple[Sketch, ...]:
        return tuple(sketches[i] for i in rng.permutation(len(sketches))[:PAGE])

    pages = {
        "Drawings (drawn at random, not picked)": some(bench.drawings),
        "Reference (drawn at random)": some(bench.reference),
    }
    if neighbors is not None and train is not None:
        nearest = np.argsort(neighbors.distance)[: PAGE // 4]
        pairs = [(bench.drawings[i], train[neighbors.index[i]]) for i in nearest]
        title = "The drawings nearest to a training drawing, each followed by it"
        pages[title] = tuple(s for pair in pairs for s in pair)
    return pages
