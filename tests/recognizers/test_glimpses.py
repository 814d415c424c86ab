"""What drawings look like that were taken apart and made rough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sketchknitter.data.batch import DRAW
from sketchknitter.data.conditions import plain_example
from sketchknitter.recognizers.glimpses import AS_DRAWN, CODEC, Glimpse, Glimpses, outside_cells

# two strokes: a line to the right in five points, a line down in three
ROWS = np.array([[10, 0, 0]] * 4 + [[0, 20, 0], [0, 20, 0], [0, 20, 1]], dtype=float)
ROWS[3, 2] = 1


def glimpse(law: Glimpses, seed: int = 0) -> Glimpse:
    return law(ROWS, np.random.default_rng(seed))


def test_a_prefix_says_how_much_is_missing_and_where_the_whole_lies() -> None:
    seen = glimpse(replace(AS_DRAWN, prefix=1, left=0.5))
    assert len(seen.rows) == seen.missing == 4
    # of a line 30 px long, of a drawing 40 wide and 60 high whose middle is (20, 30)
    np.testing.assert_allclose(seen.frame, [np.log(60 / 30), 5 / 60, 30 / 60])
    assert seen.counted
    assert seen.framed
    assert seen.rows[:, 4].tolist() == [0, 0, 0, 1]  # where it is cut a line ends


def test_a_cut_between_two_points_leaves_the_second_to_be_drawn() -> None:
    law = replace(AS_DRAWN, prefix=1, left=0.5)
    at, between = glimpse(law), glimpse(replace(law, between=1))
    assert between.missing == at.missing + 1
    assert len(between.rows) == len(at.rows)
    assert between.frame[0] > at.frame[0]  # less of the drawing is seen


@pytest.mark.parametrize("seed", range(6))
def test_a_prefix_of_whole_strokes_ends_where_the_first_of_two_does(seed: int) -> None:
    seen = glimpse(replace(AS_DRAWN, prefix=1, lifted=1, between=1), seed)
    assert (len(seen.rows), seen.missing) == (5, 3)
    assert seen.rows[:, 4].tolist() == [0, 0, 0, 0, 1]


def test_of_a_finished_drawing_nothing_is_missing() -> None:
    declared, open_ = glimpse(AS_DRAWN), glimpse(replace(AS_DRAWN, declared=0))
    for seen in (declared, open_):
        assert seen.missing == 0
        np.testing.assert_allclose(seen.frame, 0, atol=1e-12)
        assert not seen.framed  # there is nothing to guess
    assert (declared.counted, open_.counted) == (False, True)


def test_rough_drawings_are_said_to_be_and_exact_ones_now_and_then() -> None:
    rough = glimpse(replace(AS_DRAWN, rough=1, farthest=(0.3, 0.3)))
    assert (rough.rows[:, 5] == 1).all()
    assert rough.framed
    assert rough.frame[0] < 0  # noise makes the box wider than the drawing
    wary = [glimpse(replace(AS_DRAWN, wary=0.5), i).rows[0, 5] for i in range(40)]
    assert 8 < sum(wary) < 32
    exact = glimpse(AS_DRAWN)
    off = glimpse(replace(AS_DRAWN, rough=1, farthest=(0, 0)))
    np.testing.assert_allclose(off.rows[:, :5], exact.rows[:, :5], atol=1e-6)


@pytest.mark.parametrize("kind", ["prefix", "suffix", "strokes", "disk", "cells"])
def test_parts_are_seen_in_their_order(kind: str) -> None:
    whole = glimpse(AS_DRAWN).rows
    short = 0
    for seed in range(30):
        seen = glimpse(replace(AS_DRAWN, **{kind: 1.0}), seed)
        assert len(seen.rows) + seen.missing == len(whole)
        short += seen.missing > 0
        assert seen.rows[-1, 4] == 1
    assert short > 15


def test_blanked_cells_take_whole_neighborhoods() -> None:
    e = plain_example(ROWS, CODEC)
    rng = np.random.default_rng(0)
    seen = np.array([outside_cells(e, rng) for _ in range(50)])
    assert not seen.all(axis=1).any()
    assert seen.any(axis=1).all()
    assert (e.pens == DRAW).any()


def test_a_beginning_that_is_a_dot_is_seen_whole_instead() -> None:
    rows = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [30, 5, 1]], dtype=float)
    seen = replace(AS_DRAWN, prefix=1, left=0.5)(rows, np.random.default_rng(0))
    assert len(seen.rows) == 5
    assert seen.missing == 0


def test_a_glimpse_is_a_drawing_of_what_is_seen() -> None:
    whole = glimpse(AS_DRAWN).sketch()
    assert [len(stroke) for stroke in whole.strokes] == [5, 3]
    # 40 wide and 60 high, made 2 high about the origin
    np.testing.assert_allclose(whole.strokes[1][:, 1], [-1 / 3, 1 / 3, 1], atol=1e-6)
    assert whole.extent == pytest.approx(2)
    part = glimpse(replace(AS_DRAWN, prefix=1, left=0.5)).sketch()
    assert [len(stroke) for stroke in part.strokes] == [4]
