import numpy as np
import pytest
from real_drawings import jitter, quickdraw

from sketchknitter import Sketch, UserError
from sketchknitter.metrics.copying import chamfer, ink_points, nearest_training


def test_points_are_even_along_the_ink_and_moves_leave_none():
    corner = Sketch([[(0, 0), (100, 0)], [(100, 50), (0, 50)]])
    points = ink_points([corner], 4)[0]
    assert points == pytest.approx(np.array([[-25, -25], [25, -25], [25, 25], [-25, 25]]))
    dot = ink_points([Sketch([[(7, 7)]])], 4)[0]
    assert dot == pytest.approx(np.zeros((4, 2)))


def test_chamfer_by_hand():
    a = np.array([[0.0, 0], [2, 0]])
    b = np.array([[0.0, 1], [0, 1]])
    assert chamfer(a, b[None])[0] == pytest.approx(((1 + np.sqrt(5)) / 2 + 1) / 2)
    assert chamfer(a, np.stack([a, b]))[0] == 0


def test_copies_are_found_wherever_and_however_large():
    train = quickdraw("train", 60)
    copies = [s.transformed(0.3, (40, -9)) for s in train[::3]]
    found = nearest_training(copies, train)
    assert np.array_equal(found.index, np.arange(0, len(train), 3))
    assert found.copied == 1.0
    assert found.median < 0.01


def test_nearly_copied_lies_between_copied_and_new(other):
    train = quickdraw("train", 60)
    near = nearest_training(jitter(train[::3], 0.003), train)
    new = nearest_training(other[::3], train)
    assert near.copied > 0.9
    assert new.copied < 0.02
    assert 0 < near.median < 1 < new.median


def test_order_and_direction_of_strokes_do_not_hide_a_copy():
    train = quickdraw("train", 20)
    turned = [Sketch([p[::-1] for p in s.strokes[::-1]], s.label) for s in train]
    assert nearest_training(turned, train).copied > 0.98


def test_nothing_to_compare_is_refused():
    with pytest.raises(UserError, match="at least one"):
        nearest_training([], [Sketch([[(0, 0)]])])
