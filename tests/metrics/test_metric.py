"""Every metric by its name: what equal sets score, and that worse drawings score worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from real_drawings import jitter, lift_pens, quickdraw, shuffle_points

from sketchknitter import Sketch, UserError
from sketchknitter.metrics.judge.network import load_judge
from sketchknitter.metrics.metric import (
    Comparison,
    DrawingSet,
    Metric,
    all_metrics,
    choose,
    measure,
)

# name, what a set scores against itself (None: no fixed number), what spoils a drawing for it
jittered = lambda s: jitter(s, 0.06)  # noqa: E731
ROWS = {
    "fid_sketch": (0.0, jittered),
    "kid": (None, jittered),
    "geometry_score": (0.0, lambda s: shuffle_points(s, 1.0)),
    "precision": (1.0, jittered),
    "recall": (1.0, lambda s: [s[0], s[1]] * (len(s) // 2)),
    "density": (None, jittered),
    "coverage": (1.0, jittered),
    "is": (None, lambda s: jitter(s, 0.3)),
    "scribbles": (None, lambda s: jitter(s, 0.3)),
    "top1": (None, jittered),
    "top3": (None, lambda s: jitter(s, 0.3)),
    "top5": (None, lambda s: jitter(s, 0.3)),
    "top10": (None, lambda s: jitter(s, 0.3)),
    "w_strokes": (0.0, lambda s: lift_pens(s, 0.2)),
    "w_points": (0.0, lambda s: [Sketch([p[::2] for p in k.strokes], k.label) for k in s]),
    "w_ink_length": (0.0, jittered),
    "w_lift_rate": (0.0, lambda s: lift_pens(s, 0.2)),
    "w_segment_length": (0.0, jittered),
    "w_turning_angle": (0.0, jittered),
    "w_gap": (0.0, lambda s: lift_pens(s, 0.2)),
    "copied": (1.0, None),
    "nearest_training": (0.0, jittered),
    "map": (None, jittered),
    "retrieval1": (None, lambda s: jitter(s, 0.3)),
    "retrieval10": (None, lambda s: jitter(s, 0.3)),
    "chamfer": (0.0, jittered),
    "apart": (None, None),
}


def test_every_metric_has_its_row() -> None:
    assert set(ROWS) == set(all_metrics())
    places = [m.place for m in all_metrics().values()]
    assert places == sorted(places)


@pytest.fixture(scope="module")
def itself() -> Comparison:
    """180 test drawings of six classes against themselves."""
    judge = load_judge()
    drawings = DrawingSet(quickdraw("test", 30), judge)
    ends = tuple(((s, s), s) for s in drawings.sketches)
    return Comparison(drawings, drawings, drawings, drawings, ends, repeats=5)


@pytest.fixture(scope="module")
def values(itself: Comparison) -> dict[str, float]:
    return measure(itself)


@pytest.mark.parametrize("name", ROWS)
def test_metrics_keep_their_word(name: str, itself: Comparison, values: dict[str, float]) -> None:
    alike, spoil = ROWS[name]
    metric = all_metrics()[name]
    if alike is not None:
        assert values[name] == pytest.approx(alike, abs=1e-6)
    if spoil is None:
        return
    bad = DrawingSet(spoil(itself.drawn.sketches), itself.network)
    found = measure(replace(itself, drawn=bad), [metric])[name]
    if metric.better == "higher":
        assert found < values[name]
    else:
        assert found > values[name]


def test_endings_are_apart_when_they_differ(itself: Comparison) -> None:
    first, second, third = itself.drawn.sketches[:3]
    joined = tuple(Sketch([*first.strokes, *s.strokes]) for s in (second, third))
    assert measure(itself, choose(["apart"]))["apart"] == 0.0
    apart = replace(itself, endings=((joined, first),))
    assert measure(apart, choose(["apart"]))["apart"] > 1.0


def test_what_has_no_answer_is_left_out(itself: Comparison) -> None:
    plain = DrawingSet([s.with_label(None) for s in itself.drawn.sketches], itself.network)
    found = measure(Comparison(plain, itself.real, repeats=0))
    assert {"fid_sketch", "recall", "w_points"} <= set(found)
    assert not {"top1", "copied", "map", "chamfer", "apart", "geometry_score"} & set(found)


def test_features_are_computed_once_and_shared(itself: Comparison) -> None:
    class Counting:
        name, identity, classes = "n", "i", itself.network.classes
        calls = 0

        def embed(self, sketches: list[Sketch], progress: bool = False) -> object:
            self.calls += 1
            return itself.network.embed(sketches)

    network = Counting()
    every = DrawingSet(itself.drawn.sketches, network)  # type: ignore[arg-type]
    part = every[5:60]
    again = part[np.array([3, 1])]
    assert np.array_equal(again.features.vectors, every.features.vectors[[8, 6]])
    assert network.calls == 1
    assert again.sketches == [every.sketches[8], every.sketches[6]]


def test_a_figure_that_is_not_finite_is_refused(itself: Comparison) -> None:
    with pytest.raises(UserError, match="broken is not finite"):
        measure(itself, [Metric("broken", "broken", lambda c: float("nan"))])
    with pytest.raises(UserError, match="no metric 'bleu'; one of: fid_sketch"):
        choose(["fid_sketch", "bleu"])
