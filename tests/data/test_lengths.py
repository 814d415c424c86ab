"""Lengths of new drawings."""

from __future__ import annotations

import numpy as np

from sketchknitter.data.lengths import counts_of, drawn_length

COUNTS = np.array([[0, 0, 4, 0], [0, 0, 0, 0], [0, 2, 4, 2]])


def test_a_class_without_drawings_is_as_long_as_all_of_them() -> None:
    assert counts_of(COUNTS, 0).tolist() == [0, 0, 4, 0]
    assert counts_of(COUNTS, 1).tolist() == [0, 2, 4, 2]
    assert counts_of(COUNTS, 2).tolist() == [0, 2, 4, 2]


def test_lengths_come_as_often_as_they_weigh() -> None:
    rng = np.random.default_rng(0)
    drawn = [drawn_length(COUNTS[2], rng) for _ in range(400)]
    share = np.bincount(drawn, minlength=4) / 400
    assert share[0] == 0
    assert np.abs(share[1:] - [0.25, 0.5, 0.25]).max() < 0.08
    assert {drawn_length(COUNTS[0] / 7, rng) for _ in range(20)} == {2}
