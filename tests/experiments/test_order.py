"""Rank correlations against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sketchknitter.experiments import published
from sketchknitter.experiments.order import compare, kendall, ranks, spearman


def test_ranks_share_ties() -> None:
    np.testing.assert_array_equal(ranks([3, 1, 3, 2]), [3.5, 1, 3.5, 2])


def test_correlations_by_hand() -> None:
    x, y = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]
    assert spearman(x, y) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert kendall(x, y) == pytest.approx((8 - 2) / 10)
    assert spearman(x, x[::-1]) == pytest.approx(-1)
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / np.sqrt(2 * 3))
    assert spearman([1, 1, 1], [1, 2, 3]) == kendall([1, 1, 1], [1, 2, 3]) == 0


def test_chance_is_the_share_of_orders_as_good() -> None:
    found = compare(["a", "b", "c"], [1, 2, 3], [10, 20, 30])
    assert found.p == pytest.approx(1 / 6)
    assert found.disagreements == ()
    many = compare([str(i) for i in range(9)], list(range(9)), list(range(9)))
    assert many.p < 0.001


def test_every_turned_pair_is_named() -> None:
    found = compare(["a", "b", "c"], [1, 3, 2], [1, 2, 3], [0.1, 0.2, None])
    assert [(d.first, d.second, d.ours, d.theirs) for d in found.disagreements] == [
        ("b", "c", (3, 2), (2, 3))
    ]
    assert found.disagreements[0].spread == pytest.approx(0.2)
    assert found.disagreements[0].clear
    assert not compare(["a", "b"], [1, 1.1], [2, 1], [0.5, 0.5]).disagreements[0].clear


def test_published_figures() -> None:
    assert published.figure("Linear-DDIM", "fid_sketch", ("Simple", "Moderate")) == pytest.approx(
        (11.9 + 13.3) / 2
    )
    assert published.figure("Abs", "recall", ("Complex",)) == 0.39
    assert published.figure("SketchKnitter", "top1", ("Simple",)) is None
    assert published.figure("nobody", "recall", ("Simple",)) is None
    assert published.seconds("SketchKnitter") == 1.29
    assert all(len(row) == 4 for row in published.rows().values())
    assert len(published.rows()) == 12
