"""The protocols of conditional generation: rectified, healed and completed test drawings.

Deformation is Gaussian noise on every point, its standard deviation a share of the drawing's longer
side; masking is SketchHealer's (patches of a grid are blanked, Su et al. 2020); cutting takes the
last points away. The judge that measures is a stranger to all that generates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sketchknitter.editing.complete import complete
from sketchknitter.editing.heal import heal_all
from sketchknitter.errors import UserError
from sketchknitter.metrics.features import FeatureNetwork
from sketchknitter.metrics.metric import Comparison, DrawingSet, all_metrics, choose, measure
from sketchknitter.reports.document import (
    Block,
    Bullets,
    Document,
    Heading,
    Page,
    Table,
    Text,
    mean_text,
)
from sketchknitter.seeds import stream
from sketchknitter.sketch import Sketch

if TYPE_CHECKING:
    from sketchknitter.data.dataset import Split
    from sketchknitter.editing.model import SketchKnitter

Array = NDArray[np.float64]

DEFORM, MASK, CHOICE = 41, 42, 43  # what a random stream is for
METRICS = ("top1", "top10", "map", "retrieval1", "retrieval10", "chamfer", "apart")
ENDINGS = 3  # drawn for each masked drawing, to see how they differ
PATCHES = 8  # a side of the masks' grid
# the paper's table: level -> (recognition@1, @10, mAP, retrieval@1, @10), before and after
PUBLISHED = {
    0: ((51.9, 87.7, 0.704, 67.4, 91.3), (52.4, 90.2, 0.789, 73.3, 96.2)),
    10: ((45.7, 82.3, 0.724, 66.9, 92.1), (48.9, 82.4, 0.788, 73.1, 96.8)),
    20: ((33.0, 68.2, 0.607, 55.8, 81.8), (47.3, 81.9, 0.772, 72.8, 94.7)),
    30: ((20.6, 51.5, 0.496, 46.9, 68.9), (48.2, 81.9, 0.787, 72.8, 95.0)),
    50: ((7.29, 27.1, 0.328, 28.6, 47.8), (50.1, 84.3, 0.786, 74.9, 96.3)),
}


# -- what is done to drawings --------------------------------------------------------------------
def deformed(sketch: Sketch, level: float, rng: np.random.Generator) -> Sketch:
    """Every point moved by Gaussian noise of ``level`` times the longer side; no label."""
    spread = level * sketch.extent
    return Sketch([s + rng.normal(0.0, spread, s.shape) for s in sketch.strokes])


def masked(sketch: Sketch, share: float, rng: np.random.Generator) -> Sketch:
    """Without the points in a share of the inked cells of a grid over the box; no label.

    Strokes break where points are gone; pieces of a single point go as well.
    """
    low = np.array(sketch.bounds[:2])
    cell = np.minimum(((sketch.points - low) / sketch.extent * PATCHES).astype(int), PATCHES - 1)
    number = cell[:, 0] * PATCHES + cell[:, 1]
    inked = np.unique(number)
    blank = rng.choice(inked, max(1, round(share * len(inked))), replace=False)
    gone = np.isin(number, blank)
    pieces: list[Array] = []
    start = 0
    for stroke in sketch.strokes:
        here = gone[start : start + len(stroke)]
        start += len(stroke)
        runs = np.split(np.arange(len(stroke)), np.flatnonzero(np.diff(here)) + 1)
        pieces += [stroke[run] for run in runs if len(run) > 1 and not here[run[0]]]
    return Sketch(pieces)


def cut(sketch: Sketch, share: float) -> Sketch:
    """Without the last ``share`` of its points; no label."""
    left = round(sketch.num_points * (1 - share))
    pieces = []
    for stroke in sketch.strokes:
        if left > 1:
            pieces.append(stroke[:left])
        left -= len(stroke)
    return Sketch(pieces)


# -- what is measured ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """One row's figures, one entry for each seed.

    Attributes:
        name: of the row.
        figures: name -> value for each seed.
        examples: drawings of the first seed, in the order of the originals.
    """

    name: str
    figures: dict[str, list[float]]
    examples: tuple[Sketch, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """How much is measured.

    Attributes:
        levels: deformations, percent of the longer side.
        masks: shares of patches masked, percent.
        cuts: shares of points cut off the end, percent.
        per_class: test drawings of each class.
        seeds: of deformation and sampling.
        settings: of :class:`editing.Editing`.
    """

    levels: tuple[int, ...] = (10, 20, 30, 50)
    masks: tuple[int, ...] = (10, 30)
    cuts: tuple[int, ...] = (25, 50)
    per_class: int = 5
    seeds: int = 3
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.per_class < 1:
            raise UserError("--seeds and --per-class are counts: give positive numbers")
        if not all(0 < v < 100 for v in (*self.levels, *self.masks, *self.cuts)):
            raise UserError("--levels, --masks and --cuts are percentages between 0 and 100")


class Experiment:
    """Runs the protocols of one model on one test split.

    Args:
        model: heals and completes.
        test: the clean drawings; also the gallery.
        judge: measures.
        protocol: how much.
        tell: called with a line when a row of a seed is done.
    """

    def __init__(
        self,
        model: SketchKnitter,
        test: Split,
        judge: FeatureNetwork,
        protocol: Protocol,
        tell: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.model, self.judge, self.protocol, self.tell = model, judge, protocol, tell
        known = [c for c in test.classes if c in model.classes and c in judge.classes]
        if not known:
            raise UserError("model, judge and test drawings share no class")
        test = test.select(known)
        self.gallery = DrawingSet([test.sketch(i) for i in range(len(test))], judge)
        rng = stream(0, CHOICE)
        self.own = [
            int(i)
            for name in known
            for i in rng.permutation(test.of_class(name))[: protocol.per_class]
        ]
        self.clean = [self.gallery.sketches[i] for i in self.own]
        self.labels = [s.label or "" for s in self.clean]

    def measure(
        self, drawings: Sequence[Sketch], endings: Sequence[tuple[list[Sketch], Sketch]] = ()
    ) -> dict[str, float]:
        """Recognition, retrieval, distance to the clean drawings, and between several endings."""
        made = tuple((tuple(ends), kept) for ends, kept in endings)
        drawn = DrawingSet(drawings, self.judge)
        clean = self.gallery[self.own]
        return measure(Comparison(drawn, self.gallery, None, clean, made), choose(METRICS))

    # -- rectification ---------------------------------------------------------------------------
    def rectified(self, level: int) -> list[Row]:
        """Rows of one level: clean, deformed, unguided noising, healed, class-only generation."""
        rows: dict[str, list[tuple[dict[str, float], list[Sketch]]]] = {}
        for seed in range(self.protocol.seeds):
            for name, drawings in self._rectified(level, seed):
                rows.setdefault(name, []).append((self.measure(drawings), drawings))
                self.tell(f"{level} %, seed {seed}: {name}")
        return [_row(name, parts) for name, parts in rows.items()]

    def _rectified(self, level: int, seed: int) -> Iterator[tuple[str, list[Sketch]]]:
        share = level / 100
        bad = [deformed(s, share, stream(seed, DEFORM, level, i)) for i, s in enumerate(self.clean)]
        yield "clean", self.clean
        yield "deformed", bad
        # healing is told the level, as strength, but never the class
        strength = min(1.0, 2 * share)
        options = self.protocol.settings | {"seed": seed}
        free = {"anchor": False, "perceptual": 0.0, "label": None}
        yield "noised and denoised", self._healed(bad, strength, options | free)
        healed = self._healed(bad, strength, options)
        yield "healed", healed
        guessed = [
            self.model.sample(s.label, 1, seed=seed * len(healed) + i)[0]
            for i, s in enumerate(healed)
        ]
        yield "class only", guessed

    def _healed(self, bad: list[Sketch], strength: float, options: dict[str, Any]) -> list[Sketch]:
        return heal_all(self.model, bad, strength, **options)

    # -- completion ------------------------------------------------------------------------------
    def completed(self, kind: str, percent: int) -> list[Row]:
        """Rows of one kind of damage ("masked" or "cut"): damaged and completed."""
        rows: dict[str, list[tuple[dict[str, float], list[Sketch]]]] = {}
        for seed in range(self.protocol.seeds):
            if kind == "masked":
                bad = [
                    masked(s, percent / 100, stream(seed, MASK, percent, i))
                    for i, s in enumerate(self.clean)
                ]
            else:
                bad = [cut(s, percent / 100) for s in self.clean]
            # nothing to go on: such a drawing stays what it is
            bad = [
                b if b.num_points > 2 else c.with_label(None)
                for b, c in zip(bad, self.clean, strict=True)
            ]
            endings = [self._endings(b, kind, seed, i) for i, b in enumerate(bad)]
            done = [e[0] for e in endings]
            figures = self.measure(done, list(zip(endings, bad, strict=True)))
            rows.setdefault(kind, []).append((self.measure(bad), bad))
            rows.setdefault("completed", []).append((figures, done))
            self.tell(f"{kind} {percent} %, seed {seed}")
        return [_row(name, parts) for name, parts in rows.items()]

    def _endings(self, sketch: Sketch, kind: str, seed: int, number: int) -> list[Sketch]:
        return complete(
            self.model,
            sketch,
            ENDINGS,
            where="anywhere" if kind == "masked" else "end",
            seed=seed * len(self.clean) + number,
            **self.protocol.settings,
        )

    # -- the report ------------------------------------------------------------------------------
    def report(self) -> Document:
        """All protocols: tables, published figures, random examples."""
        p = self.protocol
        out: list[Block] = [
            Heading("Conditional generation", 1),
            Text(
                f"{len(self.clean)} test drawings, {p.per_class} of each class at most, drawn at "
                f"random; mean ± standard deviation over {p.seeds} seeds of damage and sampling. "
                "The class is never told. Judge: "
                f"{self.judge.name} {self.judge.identity}. Retrieval: cosine similarity of the "
                f"judge's features, gallery the {len(self.gallery)} clean test drawings without "
                "the query's own original, a hit is a drawing of its class. Chamfer: mean distance "
                "to the clean original's ink and back, percent of the original's longer side."
            ),
        ]
        for level in p.levels:
            rows = self.rectified(level)
            out += [Heading(f"Rectification, deformation {level} %"), _table(rows)]
            if level in PUBLISHED:
                before, after = PUBLISHED[level]
                names = ("recognition@1", "recognition@10", "mAP", "retrieval@1", "retrieval@10")
                pairs = zip(names, before, after, strict=True)
                shown = ", ".join(f"{n} {b} → {a}" for n, b, a in pairs)
                out.append(Text(f"Published (other classes, judge and gallery): {shown}."))
            out.append(Bullets(tuple(verdicts(rows))))
            out += _pages(rows, level)
        for kind, shares in (("masked", p.masks), ("cut", p.cuts)):
            for share in shares:
                rows = self.completed(kind, share)
                out += [
                    Heading(f"Completion, {kind} {share} %"),
                    _table(rows),
                    *_pages(rows, share),
                ]
        return Document("Conditional generation", tuple(out))


def verdicts(rows: Sequence[Row]) -> Iterator[str]:
    """The aims, each met or missed in words."""
    at = {r.name: {k: float(np.mean(v)) for k, v in r.figures.items()} for r in rows}
    healed = at["healed"]
    kept = healed["top1"] / max(at["clean"]["top1"], 1e-9)
    yield f"healed drawings are recognized {kept:.0%} as often as the clean originals"
    for name in ("retrieval1", "chamfer"):
        metric = all_metrics()[name]
        sign = 1 if metric.better == "higher" else -1
        for other in ("deformed", "noised and denoised"):
            better = sign * (healed[name] - at[other][name]) > 0
            yield f"{metric.title}: healed is {'better' if better else 'NOT better'} than {other}"


def _row(name: str, parts: Sequence[tuple[dict[str, float], list[Sketch]]]) -> Row:
    figures = {k: [f[k] for f, _ in parts] for k in parts[0][0]}
    return Row(name, figures, tuple(parts[0][1]))


def _table(rows: Sequence[Row]) -> Table:
    shown = [m for m in choose(METRICS) if any(m.name in r.figures for r in rows)]
    return Table(
        ("row", *(m.heading for m in shown)),
        tuple((r.name, *(_cell(r.figures.get(m.name), m.factor) for m in shown)) for r in rows),
    )


def _cell(values: list[float] | None, factor: float) -> str:
    if values is None:
        return "–"
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return mean_text(float(np.mean(values)), spread, factor)


def _pages(rows: Sequence[Row], key: int, count: int = 12) -> list[Block]:
    chosen = stream(1, CHOICE, key).permutation(len(rows[0].examples))[:count]
    return [Page(f"{r.name} (at random)", tuple(r.examples[i] for i in chosen)) for r in rows]
