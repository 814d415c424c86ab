"""What the outlook is shown in training, and that it learns from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sketchknitter.data.batch import DRAW
from sketchknitter.data.conditions import plain_example
from sketchknitter.recognizers.outlook import LONGEST, Outlook, OutlookShape
from sketchknitter.recognizers.outlook_training import (
    AS_DRAWN,
    CODEC,
    OUTLOOK_CONFIG,
    Glimpse,
    GlimpseBatch,
    Glimpses,
    OutlookLesson,
    outside_cells,
)
from sketchknitter.recognizers.training import Splits, teach
from sketchknitter.sketch import Sketch
from sketchknitter.training.objective import Streams

SHAPE = OutlookShape(widths=(16, 24), heads=2, frames=2)
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


def test_a_batch_is_sorted_by_length_and_no_part_is_wider_than_it_must_be() -> None:
    law = replace(AS_DRAWN, prefix=1)
    seen = [glimpse(law, i) for i in range(12)]
    batch = GlimpseBatch.of(seen, np.arange(12))
    lengths = (~batch.rows[..., 0].isnan()).sum(dim=1)
    assert (lengths.diff() >= 0).all()
    for row, label in enumerate(batch.label.tolist()):
        assert int(batch.missing[row]) == seen[label].missing
    part = batch[:3]
    assert part.inputs[0].shape[1] == int(lengths[2])


def drawings(count: int, seed: int) -> list[Sketch]:
    """Zigzags and rounds."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        n = int(rng.integers(8, 20))
        u = np.arange(n) / n
        if i % 2:
            points = np.column_stack([100 * u, 40 * (np.arange(n) % 2)])
        else:
            angle = 2 * np.pi * u
            points = 60 * np.column_stack([np.cos(angle), np.sin(angle)])
        out.append(Sketch([points + rng.normal(0, 2, (n, 2))], "zigzag" if i % 2 else "round"))
    return out


def test_a_beginning_that_is_a_dot_is_seen_whole_instead() -> None:
    rows = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [30, 5, 1]], dtype=float)
    seen = replace(AS_DRAWN, prefix=1, left=0.5)(rows, np.random.default_rng(0))
    assert len(seen.rows) == 5
    assert seen.missing == 0


@pytest.fixture(scope="module")
def sets() -> Splits:
    return Splits(("round", "zigzag"), drawings(192, 0), drawings(24, 1), drawings(24, 2))


def test_it_learns_class_and_missing_points(sets: Splits, tmp_path: Path) -> None:
    config = replace(OUTLOOK_CONFIG, iterations=48, batch_size=16, microbatch=8)
    record = teach(lambda: OutlookLesson(sets, shape=SHAPE), config, tmp_path / "o.safetensors")
    assert record is not None
    assert record["test_top1"] > 0.9
    assert record["test_top3_half"] == 1  # of two classes
    assert record["missing_labeled"] > -np.log(LONGEST)
    assert record["optimizer"] == "muon"
    assert Outlook.load(tmp_path / "o.safetensors").record["test_top1"] == record["test_top1"]


def test_the_told_label_never_reaches_what_is_said_of_the_class(sets: Splits) -> None:
    torch.manual_seed(0)
    lesson = OutlookLesson(sets, shape=SHAPE)
    lesson.network.eval()
    read = lesson.network.read(*lesson.valid.inputs)
    lesson.network.named(read).sum().backward()
    assert lesson.network.label.weight.grad is None
    # while the other losses do teach it, with the class and without
    rows = np.arange(len(lesson.valid))
    lesson.loss(lesson.valid, Streams(0, 0, rows, len(rows))).total.sum().backward()
    assert lesson.network.label.weight.grad is not None
    assert (lesson.network.label.weight.grad.abs().sum(dim=1) > 0).all()
