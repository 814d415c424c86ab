"""Shuffles keep what they promise and lose what they should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.loader import Loader
from sketchknitter.data.shuffle import SHUFFLES, Chain, PointShuffle, StrokeShuffle, reconnect
from sketchknitter.errors import UserError
from sketchknitter.settings import OptimConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.config import ModelConfig
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer

Rows = list[np.ndarray]


def shapes(sketch: Sketch) -> Counter[bytes]:
    """Strokes, wherever they stand."""
    return Counter((s - s[0]).round(6).tobytes() for s in sketch.strokes)


def places(sketch: Sketch) -> np.ndarray:
    """Points relative to their mean, sorted."""
    points = sketch.points - sketch.points.mean(axis=0)
    return points[np.lexsort(points.round(6).T)]


def segments(sketch: Sketch) -> np.ndarray:
    """Lengths of all inked segments, sorted."""
    return np.sort(np.concatenate([np.hypot(*np.diff(s, axis=0).T) for s in sketch.strokes]))


def test_stroke_shuffle_keeps_strokes_and_picture(random_rows: Callable[..., Rows]) -> None:
    orders = set()
    for i, rows in enumerate(random_rows(30, 4, 20, lift=0.4)):
        before = Sketch.from_stroke3(rows)
        changed = StrokeShuffle()(rows, np.random.default_rng(i))
        after = Sketch.from_stroke3(changed)
        assert changed.shape == rows.shape
        assert shapes(after) == shapes(before)
        np.testing.assert_allclose(places(after), places(before), atol=1e-6)
        if len(before) > 2:
            orders.add((after.strokes[0] - after.strokes[0][0]).tobytes())
    assert len(orders) > 5


def test_a_dot_never_comes_first() -> None:
    rows = Sketch([[[0, 0], [9, 0]], [[5, 5]], [[7, 7]]]).to_stroke3()
    for seed in range(12):
        changed = StrokeShuffle()(rows, np.random.default_rng(seed))
        assert len(changed) == len(rows)
        assert len(Sketch.from_stroke3(changed).strokes[0]) == 2


def test_points_shuffled_in_strokes_keep_the_ink(random_rows: Callable[..., Rows]) -> None:
    moved = 0
    for i, rows in enumerate(random_rows(30, 4, 20)):
        changed = PointShuffle("in-stroke")(rows, np.random.default_rng(i))
        assert changed.shape == rows.shape
        before, after = Sketch.from_stroke3(rows), Sketch.from_stroke3(changed)
        np.testing.assert_allclose(segments(after), segments(before), atol=1e-9)
        moved += not np.allclose(changed, rows)
    assert moved > 15


def test_a_closed_stroke_may_start_anywhere() -> None:
    turn = np.linspace(0, 2 * np.pi, 9)
    ring = np.column_stack([np.cos(turn), np.sin(turn)]) * 50
    rows = Sketch([ring]).to_stroke3()
    starts = set()
    for seed in range(40):
        out = Sketch.from_stroke3(PointShuffle()(rows, np.random.default_rng(seed))).strokes[0]
        assert len(out) == 9
        np.testing.assert_allclose(out[0], out[-1], atol=1e-9)
        np.testing.assert_allclose(np.hypot(*np.diff(out, axis=0).T), segments(Sketch([ring])))
        first, second = out[1] - out[0], out[2] - out[1]
        turns = first[0] * second[1] - first[1] * second[0] > 0
        starts.add((*first.round(3), turns))
    assert len(starts) == 16  # eight points, two directions


def test_all_points_shuffled_keep_points_and_nothing_else(
    random_rows: Callable[..., Rows],
) -> None:
    rows = random_rows(1, 20, 20, seed=3)[0]
    changed = PointShuffle("full")(rows, np.random.default_rng(0))
    before, after = Sketch.from_stroke3(rows), Sketch.from_stroke3(changed)
    assert changed.shape == rows.shape
    np.testing.assert_allclose(places(after), places(before), atol=1e-6)
    assert not np.allclose(segments(after)[:5], segments(before)[:5])


def test_reconnect_finds_a_line_again() -> None:
    line = np.column_stack([np.arange(12.0), np.zeros(12)])
    mixed = Sketch([line], "line").to_stroke3()
    # a shuffle that happens to begin at an end of the line
    seed = next(s for s in range(200) if np.random.default_rng(s).permutation(12)[0] == 0)
    changed = Sketch.from_stroke3(PointShuffle("full")(mixed, np.random.default_rng(seed)))
    found = reconnect(changed)
    assert found.num_points == 12
    drawn = np.concatenate(found.strokes)
    np.testing.assert_allclose(np.diff(drawn, axis=0), np.diff(line, axis=0))
    assert len(found) <= 2  # lifted at most once: after the point that ended the stroke


def test_reconnect_keeps_points_label_and_dots() -> None:
    dot = Sketch([[[3, 4]]], "dot")
    assert reconnect(dot) == dot
    two = reconnect(Sketch([[[0, 0], [5, 0]], [[1, 0]]], "x"))
    assert two.label == "x"
    np.testing.assert_array_equal(two.points, [[0, 0], [1, 0], [5, 0]])
    assert [len(s) for s in two.strokes] == [2, 1]  # (1, 0) ended a stroke


def test_an_unknown_reading_is_refused() -> None:
    with pytest.raises(UserError, match="in-stroke or full"):
        PointShuffle("some")  # type: ignore[arg-type]


def prepared(rows: Rows) -> PreparedSet:
    ends = np.cumsum([len(r) for r in rows])
    starts = ends - [len(r) for r in rows]
    labels = np.zeros(len(rows), dtype=np.int16)
    flat = np.concatenate(rows)
    parts = {s: Split(s, flat, starts, ends, labels, ("a",)) for s in ("train", "valid", "test")}
    return PreparedSet(None, **parts, classes=("a",), fingerprint="x", info={})  # type: ignore[arg-type]


def test_the_loader_shuffles_afresh_and_repeatably(random_rows: Callable[..., Rows]) -> None:
    data = prepared(random_rows(4, 10, 10)).train
    loader = Loader(data, Codec("offset"), 4, 1, augment=SHUFFLES["strokes"])
    first, again, later = (loader(i).xy for i in (0, 0, 1))
    assert (first == again).all()
    assert sorted(map(float, first.sum(dim=(1, 2)))) != sorted(map(float, later.sum(dim=(1, 2))))


def test_the_scale_is_that_of_shuffled_drawings() -> None:
    rng = np.random.default_rng(0)
    walk = [np.column_stack([rng.normal(0, 2, (40, 2)), np.zeros(40)]) for _ in range(8)]
    for r in walk:
        r[:, 0] += 5  # a long drift: shuffled points are far apart
    model = ModelConfig(codec=Codec("offset"))
    optim = OptimConfig(batch_size=4)
    scales = [
        DenoiserTrainer(prepared(walk), model, optim, change).model.codec.scale
        for change in (PointShuffle("in-stroke"), Chain((PointShuffle("full"),)))
    ]
    assert scales[1] > 5 * scales[0]
