"""A random order that is never written down: each number once, and no pattern to see."""

from __future__ import annotations

import numpy as np
import pytest

from sketchknitter.data import order
from sketchknitter.data.order import Permutation, some
from sketchknitter.seeds import Stream, stream


@pytest.mark.parametrize("count", [1, 2, 5, 64, 65, 1000, 4097])
def test_each_number_once(count: int) -> None:
    shuffle = Permutation.random(count, stream(3, Stream.ORDER, count))
    assert sorted(shuffle(np.arange(count))) == list(range(count))


def test_any_part_alone() -> None:
    shuffle = Permutation.random(50_000_000, stream(0, Stream.ORDER))
    whole = shuffle(np.arange(40_000_000, 40_001_000))
    np.testing.assert_array_equal(shuffle(np.arange(40_000_500, 40_000_600)), whole[500:600])
    assert len(set(whole.tolist())) == 1000
    assert whole.max() < 50_000_000


def test_neighbors_go_anywhere() -> None:
    count = 20_000
    at = np.arange(count)
    out = Permutation.random(count, stream(1, Stream.ORDER))(at)
    other = Permutation.random(count, stream(2, Stream.ORDER))(at)
    for a, b in ((at, out), (out[1:], out[:-1]), (out, other)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / count**0.5
    # as many land in each tenth as chance would have it
    table = np.histogram2d(at, out, bins=10)[0]
    assert abs(table - count / 100).max() < 5 * (count / 100) ** 0.5


def test_some_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    np.testing.assert_array_equal(
        some(stream(4, Stream.ORDER), 30, 12), stream(4, Stream.ORDER).permutation(30)[:12]
    )
    assert sorted(some(stream(4, Stream.ORDER), 7, 12)) == list(range(7))
    monkeypatch.setattr(order, "WHOLE", 20)
    found = some(stream(4, Stream.ORDER), 30, 12)
    assert len(set(found.tolist())) == 12
    assert found.max() < 30
