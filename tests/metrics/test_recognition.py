import numpy as np
import pytest

from sketchknitter import UserError
from sketchknitter.metrics.recognition import recognize, worst_confusions

NAMES = tuple("abcdefghijklm")


def test_rates_and_confusions_by_hand():
    p = np.full((4, 13), 0.01)
    p[0, 0] = p[1, 0] = p[2, 2] = p[3, 5] = 0.5
    p[1, 1], p[3, 9], p[3, 8], p[3, 7] = 0.2, 0.02, 0.3, 0.3
    found = recognize(p, ["a", "b", "c", "j"], NAMES)
    assert found.top == {1: 0.5, 3: 0.75, 5: 1.0, 10: 1.0}
    assert found.confusion[1, 0] == found.confusion[9, 5] == 1
    assert found.confusion.sum() == 4
    assert sorted(worst_confusions(found)) == [("b", "a", 1), ("j", "f", 1)]


def test_a_constant_answer_is_not_right():
    found = recognize(np.full((13, 13), 1 / 13), list(NAMES), NAMES)
    assert found.top[1] == 0
    assert found.top[10] == 1.0  # the label stands in the middle of thirteen
    assert 3 not in recognize(np.eye(3), list("abc"), "abc").top  # top-3 of three says nothing


def test_strangers_and_nan_are_refused():
    with pytest.raises(UserError, match="never saw 'zebra'"):
        recognize(np.full((1, 13), 1 / 13), ["zebra"], NAMES)
    with pytest.raises(UserError, match="2 labels for 1"):
        recognize(np.full((1, 13), 1 / 13), ["a", "b"], NAMES)
    with pytest.raises(UserError, match="not finite"):
        recognize(np.full((1, 13), np.nan), ["a"], NAMES)
