"""The protocols of conditional generation: rectified and completed test drawings, as a table.

Every row is a system's answer to the same damaged drawings (see ``damage``), beside the damaged
drawings themselves and the clean ones. Nothing that generates uses the judge that measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sketchknitter.errors import UserError
from sketchknitter.experiments.declare import CLEAN, REAL, Measure, Model, Row, Table
from sketchknitter.experiments.results import Measured
from sketchknitter.experiments.sets import ALL
from sketchknitter.metrics.metric import all_metrics
from sketchknitter.reports.document import Block, Bullets, Text
from sketchknitter.settings import Completing, Healing

ENDINGS = 3  # drawn for each unfinished drawing, to see how they differ
MODEL = "model"  # of the table
# the paper's table: level -> (recognition@1, @10, mAP, retrieval@1, @10), before and after
PUBLISHED = {
    10: ((45.7, 82.3, 0.724, 66.9, 92.1), (48.9, 82.4, 0.788, 73.1, 96.8)),
    20: ((33.0, 68.2, 0.607, 55.8, 81.8), (47.3, 81.9, 0.772, 72.8, 94.7)),
    30: ((20.6, 51.5, 0.496, 46.9, 68.9), (48.2, 81.9, 0.787, 72.8, 95.0)),
    50: ((7.29, 27.1, 0.328, 28.6, 47.8), (50.1, 84.3, 0.786, 74.9, 96.3)),
}
ABOUT = """
Test drawings drawn at random, the same for every row, are damaged and then healed or completed; the
class is never given unless a row says so. Retrieval: cosine similarity of the judge's features, the
gallery is the clean test drawings without the query's own original, a hit is one of its class.
Chamfer: mean distance to the clean original's ink and back, percent of the original's longer side.
"""


@dataclass(frozen=True)
class Protocol:
    """How much is measured.

    Attributes:
        levels: deformations, percent of the longer side.
        masks: shares of patches masked, percent.
        cuts: shares of points cut off the end, percent.
        per_class: test drawings of each class.
        seeds: of damage and sampling.
        settings: further settings, fields of :class:`settings.Completing` or ``Healing``; each edit
            takes those it has a use for.
    """

    levels: tuple[int, ...] = (10, 20, 30, 50)
    masks: tuple[int, ...] = (10, 30)
    cuts: tuple[int, ...] = (25, 50)
    per_class: int = 5
    seeds: int = 3
    source: str = ""
    settings: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.per_class < 1:
            raise UserError("seeds and drawings of each class are counts: give positive numbers")
        if not all(0 < v < 100 for v in (*self.levels, *self.masks, *self.cuts)):
            raise UserError("levels, masks and cuts are percentages between 0 and 100")

    def table(self, classes: Sequence[str]) -> Table:
        """The protocols as a table over the classes that model, judge and drawings share.

        Raises:
            UserError: they share none.
        """
        if not classes:
            raise UserError("model, judge and test drawings share no class")
        rows = [*self._healing(len(classes)), *self._completing(len(classes))]
        if not rows:
            raise UserError("nothing to do: give levels, masks or cuts")
        measure = Measure(
            self.per_class * len(classes), self.seeds, copies=False, shown=12, folds=False
        )
        model = Model(MODEL, "pretrained", {"source": self.source})
        return Table(
            "Conditional generation",
            ABOUT.strip(),
            tuple(classes),
            measure,
            {MODEL: model},
            tuple(rows),
        )

    def _settings_of(self, edit: type) -> dict[str, Any]:
        """Those of the settings that an edit has a use for."""
        known = {f.name for f in fields(edit)}
        return {name: value for name, value in self.settings if name in known}

    def _healing(self, classes: int) -> Iterator[Row]:
        for level in self.levels:
            # healing is given the level, as strength, but never the class
            how = {"strength": min(1.0, level / 50), **self._settings_of(Healing)}
            free = {"method": "guided", "anchor": False, "perceptual": 0.0, "label": None}
            common: dict[str, Any] = {
                "group": f"Rectification, deformation {level} %",
                "damage": f"deformed {level}",
                "drawings": self.per_class * classes,
                "task": "heal",
            }
            yield Row("clean", CLEAN, **common)
            yield Row("deformed", REAL, **common)
            yield Row("noised and denoised", MODEL, how | free, **common)
            yield Row("healed", MODEL, how, **common)
            yield Row("class only", MODEL, how | {"anew": True}, **common)

    def _completing(self, classes: int) -> Iterator[Row]:
        for kind, shares, where in (
            ("masked", self.masks, "anywhere"),
            ("cut", self.cuts, "end"),
        ):
            for share in shares:
                common: dict[str, Any] = {
                    "group": f"Completion, {kind} {share} %",
                    "damage": f"{kind} {share}",
                    "drawings": self.per_class * classes,
                    "task": "complete",
                }
                yield Row(kind, REAL, **common)
                # what is left of a drawing breaks off within strokes
                how = {"where": where, "goes_on": True, **self._settings_of(Completing)}
                yield Row("completed", MODEL, how, endings=ENDINGS, **common)


# -- what a report says of a group -----------------------------------------------------------------
def conditional_blocks(rows: list[Measured]) -> Iterator[Block]:
    """Published figures and the aims, for a group of rows with one damage."""
    damages = {r.row.damage for r in rows}
    if len(damages) != 1 or not (damage := damages.pop()):
        return
    kind, _, percent = damage.partition(" ")
    if kind == "deformed" and int(percent) in PUBLISHED:
        before, after = PUBLISHED[int(percent)]
        names = ("recognition@1", "recognition@10", "mAP", "retrieval@1", "retrieval@10")
        pairs = zip(names, before, after, strict=True)
        shown = ", ".join(f"{n} {b} → {a}" for n, b, a in pairs)
        yield Text(f"Published (other classes, judge and gallery): {shown}.")
    if said := tuple(verdicts(rows)):
        yield Bullets(said)


def verdicts(rows: Sequence[Measured]) -> Iterator[str]:
    """The aims of healing, each met or missed in words."""
    at = {r.row.name: {k: float(np.mean(v)) for k, v in r.figures[ALL].items()} for r in rows}
    if not {"clean", "healed", "deformed", "noised and denoised"} <= set(at):
        return
    healed = at["healed"]
    kept = healed["top1"] / max(at["clean"]["top1"], 1e-9)
    yield f"healed drawings are recognized {kept:.0%} as often as the clean originals"
    for name in ("retrieval1", "chamfer"):
        metric = all_metrics()[name]
        sign = 1 if metric.better == "higher" else -1
        for other in ("deformed", "noised and denoised"):
            better = sign * (healed[name] - at[other][name]) > 0
            yield f"{metric.title}: healed is {'better' if better else 'NOT better'} than {other}"
