"""Every metric of a set of drawings against real ones, with floors, N, spreads and warnings."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sketchknitter import __version__
from sketchknitter.errors import UserError
from sketchknitter.metrics.copying import neighbors
from sketchknitter.metrics.features import FeatureNetwork
from sketchknitter.metrics.fid import frechet_distance
from sketchknitter.metrics.judge.network import load_judge
from sketchknitter.metrics.metric import Comparison, DrawingSet, Metric, all_metrics, measure
from sketchknitter.metrics.precision_recall import K
from sketchknitter.metrics.recognition import recognized
from sketchknitter.metrics.statistics import STATISTICS, statistic_distances, values_of
from sketchknitter.reports.document import Bars
from sketchknitter.reports.report import Figure, Report
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch

LEAST = K + 1  # drawings on each side below which nothing is measured
SMALL = 500  # drawings on each side below which a warning names the measured bias
PAGE = 48  # sketches on each page of a report

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class EvaluationSettings:
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
    """What the parts of one evaluation share: the comparison, halves for floors, seconds."""

    comparison: Comparison
    heldout: DrawingSet
    halves: list[tuple[Index, Index]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.comparison.drawn)

    @property
    def floor_n(self) -> int:
        return len(self.halves[0][0])

    def floors(self) -> list[Comparison]:
        """Two disjoint halves of held-out real drawings, one beside the other, several times."""
        return [
            replace(self.comparison, drawn=self.heldout[a], real=self.heldout[b])
            for a, b in self.halves
        ]


def evaluate(
    drawings: Sequence[Sketch],
    reference: Sequence[Sketch],
    heldout: Sequence[Sketch] | None = None,
    train: Sequence[Sketch] | None = None,
    network: FeatureNetwork | None = None,
    settings: EvaluationSettings | None = None,
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
    settings = settings or EvaluationSettings()
    check_drawings(drawings, names[0])
    check_drawings(reference, names[1])
    network = network or load_judge()
    _check_classes(reference, network, names[1])
    labeled = bool(network.classes) and all(s.label is not None for s in drawings)
    if labeled:
        _check_classes(drawings, network, names[0])
    rng = stream(settings.seed, Stream.SAMPLE)
    count = min(len(drawings), len(reference), settings.n or len(drawings))
    if count < LEAST:
        raise UserError(f"-n {count}: the metrics need at least {LEAST} drawings (k = {K})")
    remarks = list(notes)
    for side, name in ((drawings, names[0]), (reference, names[1])):
        if len(side) > count:
            remarks.append(f"{count} of the {len(side)} drawings of {name}, drawn at random")
    drawn, real = _take(drawings, count, rng), _take(reference, count, rng)
    held = list(heldout if heldout is not None else reference)
    size = min(count, len(held) // 2)
    if size < LEAST:
        raise UserError(
            f"{names[1]}: {len(held)} held-out drawings; floors need at least {2 * LEAST}"
        )
    bench = _lay_out((drawn, real, held), train, network, settings, progress)
    for _ in range(settings.halvings):
        order = spread_order(held, rng)
        bench.halves.append((np.sort(order[0::2][:size]), np.sort(order[1::2][:size])))
    if size < count:
        remarks.append(f"floors at N = {size}: half of the {len(held)} held-out drawings")

    start = time.perf_counter()
    bench.comparison.drawn.features  # noqa: B018 - here, so that no metric counts its time
    bench.seconds["features"] = round(time.perf_counter() - start, 2)
    figures = _figures(bench)
    if not labeled and network.classes:
        remarks.append("no recognition rate: not every drawing has a label")
    bars = _bars(bench.comparison, remarks)
    return Report(
        names[0],
        names[1],
        figures,
        tuple(_warnings(bench, figures[0], labeled, names)),
        tuple(remarks),
        _conditions(bench, network, settings),
        bars,
        bench.comparison.once(recognized) if labeled else None,
        _pages(bench, rng),
    )


def _check_classes(sketches: Sequence[Sketch], network: FeatureNetwork, what: str) -> None:
    if not network.classes:
        return
    strangers = sorted({s.label for s in sketches if s.label is not None} - set(network.classes))
    if strangers:
        listed = ", ".join(strangers[:5]) + (" …" if len(strangers) > 5 else "")
        raise UserError(
            f"{what}: the judge never saw {listed}; it knows {len(network.classes)} classes: "
            "leave the others out, or train a judge on them and name it with --judge"
        )


def _lay_out(
    sets: tuple[list[Sketch], list[Sketch], list[Sketch]],
    train: Sequence[Sketch] | None,
    network: FeatureNetwork,
    settings: EvaluationSettings,
    progress: bool,
) -> _Bench:
    """Drawings, reference and held-out, of which a drawing in several is looked at once."""
    rows: dict[int, int] = {}
    unique: list[Sketch] = []
    for sketch in (s for part in sets for s in part):
        if id(sketch) not in rows:
            rows[id(sketch)] = len(unique)
            unique.append(sketch)
    every = DrawingSet(unique, network, progress)
    drawn, real, heldout = (every[[rows[id(s)] for s in part]] for part in sets)
    shelf = DrawingSet(train, network) if train and settings.copy_check else None
    seed, repeats, draws = settings.seed, settings.geometry_repeats, settings.bootstrap
    compared = Comparison(drawn, real, shelf, repeats=repeats, draws=draws, seed=seed)
    return _Bench(compared, heldout)


def _figures(bench: _Bench) -> tuple[Figure, ...]:
    floors = bench.floors()
    out = []
    for metric in all_metrics().values():
        start = time.perf_counter()
        if figure := _figure(metric, bench, floors[: metric.halvings]):
            out.append(figure)
            bench.seconds[metric.name] = round(time.perf_counter() - start, 2)
    return tuple(out)


def _figure(metric: Metric, bench: _Bench, floors: Sequence[Comparison]) -> Figure | None:
    found = measure(bench.comparison, [metric])
    if not found:
        return None
    low = [v for c in floors for v in measure(c, [metric]).values()]
    # figures on another network's features carry that network's name
    name = bench.comparison.network.name if metric.name == "fid_sketch" else metric.name
    return Figure(
        name,
        found[metric.name],
        float(np.mean(low)) if low else None,
        bench.n,
        bench.floor_n if low else None,
        float(np.std(low, ddof=1)) if len(low) > 1 else None,
        metric.spread(bench.comparison) if metric.spread is not None else None,
        metric.better,
        metric.unit,
        metric.note,
    )


def _bars(comparison: Comparison, remarks: list[str]) -> tuple[Bars, ...]:
    real, drawn = comparison.real.once(values_of), comparison.drawn.once(values_of)
    found = statistic_distances(real, drawn)
    bars = []
    for statistic in STATISTICS:
        answer = found[statistic.name]
        if answer is None:
            remarks.append(f"no {statistic.name}: one side has no {statistic.meaning}")
            continue
        shares = histogram(real[statistic.name], drawn[statistic.name])
        head = (statistic.name, statistic.unit, statistic.meaning)
        bars.append(Bars(*head, *shares, *answer[1:]))
    return tuple(bars)


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


# -- what goes beside the figures ----------------------------------------------------------------
def _warnings(bench: _Bench, fid: Figure, labeled: bool, names: tuple[str, str]) -> list[str]:
    found = []
    drawn, reference = (s.sketches for s in (bench.comparison.drawn, bench.comparison.real))
    if bench.n < SMALL:
        text = (
            f"N = {bench.n} is small: two disjoint sets of {bench.floor_n} real drawings, whose "
            f"true distance is 0, already score {fid.name} {fid.floor:.3g}"
        )
        largest = len(bench.heldout) // 2
        if largest > 1.5 * bench.floor_n:
            order = spread_order(
                bench.heldout.sketches, stream(bench.comparison.seed, Stream.LARGE_HALVES)
            )
            a, b = (bench.heldout.features.vectors[order[k::2]] for k in (0, 1))
            text += f" (at N = {largest}: {frechet_distance(a, b):.3g})"
        found.append(text + "; compare with the floor, never with a figure at another N")
    width = bench.comparison.drawn.features.vectors.shape[1]
    if bench.n <= width:
        found.append(f"N = {bench.n} drawings cannot fill {width} feature dimensions: trust KID")
    distinct = len({tuple(s.tobytes() for s in sketch.strokes) for sketch in drawn})
    if distinct < 0.9 * bench.n:
        found.append(f"only {distinct} of the {bench.n} drawings of {names[0]} are distinct")
    if labeled and all(s.label is not None for s in reference):
        gap = _class_gap(drawn, reference)
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


def _conditions(
    bench: _Bench, network: FeatureNetwork, settings: EvaluationSettings
) -> dict[str, Any]:
    return {
        "N": bench.n,
        "floor N": bench.floor_n,
        "halvings": settings.halvings,
        "seed": settings.seed,
        "features": f"{network.name} ({network.identity})",
        "renderer": "sketchknitter.raster (Pillow)",
        "Geometry Score repeats": settings.geometry_repeats,
        "sketchknitter": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "seconds": bench.seconds,
    }


def _pages(bench: _Bench, rng: np.random.Generator) -> dict[str, tuple[Sketch, ...]]:
    drawn, train = bench.comparison.drawn.sketches, bench.comparison.train

    def some(sketches: Sequence[Sketch]) -> tuple[Sketch, ...]:
        return tuple(sketches[i] for i in rng.permutation(len(sketches))[:PAGE])

    pages = {
        "Drawings (drawn at random, not picked)": some(drawn),
        "Reference (drawn at random)": some(bench.comparison.real.sketches),
    }
    found = bench.comparison.once(neighbors)
    if found is not None and train is not None:
        nearest = np.argsort(found.distance)[: PAGE // 4]
        pairs = [(drawn[i], train.sketches[found.index[i]]) for i in nearest]
        title = "The drawings nearest to a training drawing, each followed by it"
        pages[title] = tuple(s for pair in pairs for s in pair)
    return pages
