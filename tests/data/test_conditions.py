"""Conditions: what the network sees, and what of the state they determine."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sketchknitter.data.batch import DRAW, LIFT
from sketchknitter.data.codec import Codec
from sketchknitter.data.conditions import (
    CHANNELS,
    STRENGTH_UNIT,
    Example,
    Mixture,
    collate,
    cut_at_stroke,
    deformed,
    length_groups,
    misplaced,
    plain_example,
    stroke_of,
    warped,
    white,
    wobbly,
)

CODEC = Codec("leaky", 0.5, scale=40.0)
NONE = {
    k: 0.0
    for k in ("prefix", "suffix", "strokes", "patch", "deformed", "deformed_prefix", "repaired")
}


def drawing(seed: int = 0, n: int = 30) -> np.ndarray:
    """Stroke-3 rows of three strokes."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack([rng.normal(0, 25, (n, 2)), np.zeros(n)])
    rows[[n // 3, 2 * n // 3, n - 1], 2] = 1
    return rows


def example(kind: str, seed: int = 0, **changes: float) -> Example:
    return Mixture(**{**NONE, kind: 1.0, **changes})(drawing(), CODEC, np.random.default_rng(seed))


def test_nothing_seen_is_the_codecs_own_batch() -> None:
    rows = [drawing(1), drawing(2, 20)]
    batch = collate([plain_example(r, CODEC) for r in rows], [0, 1], CODEC)
    own = CODEC.encode(rows, [0, 1])
    torch.testing.assert_close(batch.batch.xy, own.xy)
    assert torch.equal(batch.batch.pen, own.pen)
    assert torch.equal(batch.batch.mask, own.mask)
    assert not batch.condition.any()
    assert batch.free.all()
    assert batch.plain.all()


@pytest.mark.parametrize("kind", ["prefix", "suffix", "strokes", "patch"])
@pytest.mark.parametrize("seed", range(5))
def test_known_points_are_seen_where_they_are(kind: str, seed: int) -> None:
    e = example(kind, seed)
    assert e.known.any()
    assert not e.known.all()
    assert not e.rough.any()
    batch = collate([e], [0], CODEC)
    unit = (1 - CODEC.rho**2) ** 0.5 / CODEC.scale
    seen = batch.condition[0, :, 2:4].numpy()
    np.testing.assert_allclose(seen[e.known], e.points[e.known] * unit, atol=1e-5)
    assert not seen[~e.known].any()
    assert not batch.plain.any()


def test_an_offset_after_a_gap_is_not_determined_though_its_point_is_known() -> None:
    e = plain_example(drawing(), CODEC)
    known = np.ones(len(e.points), bool)
    known[10] = False
    free = collate([dataclasses.replace(e, known=known)], [0], CODEC).free[0]
    assert free[10, :2].all()
    assert free[11, :2].all()
    assert not free[12, :2].any()
    assert not free[9, :2].any()
    # what the pen does after point 9 depends on the point that is missing
    assert free[9, 2:].all()
    assert free[10, 2:].all()
    assert not free[11, 2:].any()


def test_a_pen_that_is_known_to_lift_is_seen_though_what_follows_is_not() -> None:
    e = plain_example(drawing(), CODEC)
    lift = int(np.flatnonzero(e.pens == LIFT)[0])
    e = dataclasses.replace(e, known=np.arange(len(e.points)) <= lift)
    index = np.arange(len(e.points))
    for lifted, pen in ((None, 0.0), (index == lift, 1.0)):
        batch = collate([dataclasses.replace(e, lifted=lifted)], [0], CODEC)
        assert batch.condition[0, lift, 4] == pen
        assert batch.free[0, lift, 2:].all() == (lifted is None)
        assert not batch.free[0, :lift].any()
        assert batch.free[0, lift + 1 :].all()


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_at_a_stroke_leaves_whole_strokes(seed: int) -> None:
    pens, rng = plain_example(drawing(), CODEC).pens, np.random.default_rng(seed)
    k = cut_at_stroke(pens, rng)
    assert pens[k - 1] == LIFT
    assert 0 < cut_at_stroke(np.full(9, DRAW), rng) < 9


def test_rough_points_leave_places_free_and_settle_pens() -> None:
    e = example("deformed", 3, clean=0.0)
    batch = collate([e], [0], CODEC)
    assert e.rough.all()
    assert batch.free[0, :, :2].all()
    assert not batch.free[0, :, 2:].any()
    lifts = batch.condition[0, :, 4].numpy() > 0
    np.testing.assert_array_equal(np.flatnonzero(lifts), np.flatnonzero(e.pens == 1))


def test_strength_is_shown_unless_the_network_is_blind() -> None:
    e = dataclasses.replace(example("deformed", 1, clean=0.0, blind=0.0))
    assert e.strength is not None
    shown = collate([e], [0], CODEC).condition[0]
    assert shown[:, 5].numpy() == pytest.approx(e.strength / STRENGTH_UNIT)
    assert not shown[:, 6].any()
    blind = collate([dataclasses.replace(e, strength=None)], [0], CODEC).condition[0]
    assert not blind[:, 5].any()
    assert (blind[:, 6] == 1).all()


def test_nothing_wrong_shows_the_drawing_itself() -> None:
    e = example("deformed", 2, clean=1.0, blind=0.0)
    np.testing.assert_array_equal(e.shown, e.points)
    assert e.strength == 0.0


@pytest.mark.parametrize("kind", [white, warped, misplaced, wobbly])
def test_deformations_move_what_is_seen_and_not_what_is_meant(kind) -> None:  # type: ignore[no-untyped-def]
    e = plain_example(drawing(4), CODEC)
    out = kind(e, np.random.default_rng(5), 97)
    assert len(out.points) == len(out.pens) == len(out.shown) <= 97
    assert np.abs(out.shown - out.points).max() > 0.5
    assert stroke_of(out.pens)[-1] == stroke_of(e.pens)[-1]
    # every point that is meant lies on the drawing's own line
    for i in range(int(stroke_of(e.pens)[-1]) + 1):
        line = e.points[stroke_of(e.pens) == i]
        for p in out.points[stroke_of(out.pens) == i]:
            a, b = line[:-1], line[1:]
            along = ((p - a) * (b - a)).sum(1) / np.maximum(((b - a) ** 2).sum(1), 1e-12)
            nearest = a + np.clip(along, 0, 1)[:, None] * (b - a)
            assert np.hypot(*(nearest - p).T).min() < 1e-6


def test_strength_is_the_rms_displacement_along_each_axis() -> None:
    e = plain_example(drawing(6), CODEC)
    out = deformed(e, np.random.default_rng(7), 97)
    size = np.ptp(out.points, axis=0).max()
    assert out.strength == pytest.approx(np.sqrt(((out.shown - out.points) ** 2).mean()) / size)


def test_mixture_keeps_its_proportions() -> None:
    mixture = Mixture()
    made = [mixture(drawing(), CODEC, np.random.default_rng(i)) for i in range(600)]
    plain = np.mean([not e.seen.any() for e in made])
    rough = np.mean([e.rough.any() for e in made])
    assert plain == pytest.approx(0.35, abs=0.06)
    assert rough == pytest.approx(0.25, abs=0.06)


def test_length_groups_cover_a_batch_once_and_cost_less() -> None:
    lengths = np.random.default_rng(0).integers(20, 40, 64)
    lengths[:5] = 97
    groups = length_groups(lengths)
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(64))
    cost = sum(len(g) * lengths[g].max() for g in groups)
    assert cost < 0.7 * 64 * 97


def test_a_batch_is_cut_and_narrowed_as_one() -> None:
    batch = collate(
        [plain_example(drawing(i, n), CODEC) for i, n in ((0, 12), (1, 30))], [0, 1], CODEC
    )
    short = batch[torch.tensor([0])].narrowed(13)
    assert short.condition.shape == (1, 13, CHANNELS)
    assert short.batch.mask.all()
