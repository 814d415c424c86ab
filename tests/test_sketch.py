"""The one object that crosses every boundary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sketchknitter import Sketch
from sketchknitter.errors import UserError

points = st.integers(1, 12).flatmap(
    lambda n: arrays(np.float64, (n, 2), elements=st.floats(-1e6, 1e6, width=32))
)
sketches = st.lists(points, min_size=1, max_size=6).map(Sketch)


def house() -> Sketch:
    return Sketch(
        [[(0, 0), (40, 0), (40, 30), (0, 30), (0, 0)], [(0, 0), (20, -20), (40, 0)]], "house"
    )


def test_measures() -> None:
    s = house()
    assert (len(s), s.num_points, s.points.shape) == (2, 8, (8, 2))
    assert s.bounds == (0, -20, 40, 30)
    assert s.extent == 50
    assert s.ink_length == pytest.approx(140 + 2 * np.hypot(20, 20))
    assert repr(s) == "<Sketch 'house': 2 strokes, 8 points>"


def test_is_frozen_and_owns_its_points() -> None:
    mine = np.zeros((3, 2))
    s = Sketch([mine])
    mine[0] = 9
    assert s.strokes[0][0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        s.strokes[0][0] = 1
    with pytest.raises(ValueError, match="read-only"):
        s.points[0] = 1
    with pytest.raises(AttributeError):
        s.label = "x"  # type: ignore[misc]


def test_equality_and_hash() -> None:
    assert house() == house()
    assert hash(house()) == hash(house())
    assert house() != house().with_label("barn")
    assert house() != house().transformed(1.0, (1e-9, 0))
    assert house() != Sketch(house().strokes[:1], "house")
    assert (house() == "house") is False


def test_transformed() -> None:
    turned = house().transformed([[0, -1], [1, 0]], (5, 0))
    assert turned.strokes[0][1].tolist() == [5, 40]
    assert turned.label == "house"
    assert house().transformed(2.0).extent == 100


@pytest.mark.parametrize(
    ("strokes", "message"),
    [
        ([[(0, 0)], []], r"stroke 1 has shape \(0,\)"),
        ([np.zeros((0, 2))], r"stroke 0 has shape \(0, 2\)"),
        ([np.zeros((3, 3))], r"stroke 0 has shape \(3, 3\)"),
        ([[(0, 0), (1, np.nan)]], "stroke 0, point 1 is not finite"),
        ([[(0, 0)], [(np.inf, 0)]], "stroke 1, point 0 is not finite"),
    ],
)
def test_refuses(strokes: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Sketch(strokes)


def test_the_empty_sketch() -> None:
    empty = Sketch([])
    assert (len(empty), empty.num_points, empty.ink_length) == (0, 0, 0)
    assert empty.to_stroke3().shape == (0, 3)
    assert Sketch.from_stroke3(np.zeros((0, 3))) == empty
    with pytest.raises(UserError, match="no bounds"):
        _ = empty.bounds


# -- stroke-3 --------------------------------------------------------------------------------------
def test_the_first_row_is_ink() -> None:
    rows = house().to_stroke3()
    assert rows.shape == (7, 3)
    assert rows[0].tolist() == [40, 0, 0]
    assert np.flatnonzero(rows[:, 2]).tolist() == [3, 6]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sketches)
def test_stroke3_round_trip(sketch: Sketch) -> None:
    back = Sketch.from_stroke3(sketch.to_stroke3(), origin=sketch.points[0])
    wanted = list(sketch.strokes)
    if len(wanted[0]) == 1:  # the format's only way to say a dot at the start
        wanted[0] = np.repeat(wanted[0], 2, axis=0)
    assert [len(s) for s in back.strokes] == [len(s) for s in wanted]
    for a, b in zip(back.strokes, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9 * max(1.0, sketch.extent))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sketches)
def test_stroke3_is_stable(sketch: Sketch) -> None:
    rows = sketch.to_stroke3()
    again = Sketch.from_stroke3(rows).to_stroke3()
    np.testing.assert_array_equal(again[:, 2], rows[:, 2])
    assert rows[-1, 2] == 1


def test_a_trailing_run_is_a_stroke_with_or_without_its_lift() -> None:
    rows = np.array([[1, 0, 0], [1, 0, 1], [5, 5, 0], [1, 1, 0]])
    lifted = rows.copy()
    lifted[-1, 2] = 1
    assert Sketch.from_stroke3(rows) == Sketch.from_stroke3(lifted)
    assert [len(s) for s in Sketch.from_stroke3(rows).strokes] == [3, 2]


def test_from_stroke3_refuses_other_shapes() -> None:
    with pytest.raises(UserError, match=r"shape \(n, 3\), not \(4, 5\)"):
        Sketch.from_stroke3(np.zeros((4, 5)))


# -- files -----------------------------------------------------------------------------------------
def test_save_and_open(tmp_path) -> None:
    path = tmp_path / "house.ndjson"
    house().save(path)
    assert Sketch.open(path) == house()


def test_notebooks_show_svg() -> None:
    assert house()._repr_svg_().lstrip().startswith("<svg")


def test_equal_sketches_have_equal_hashes() -> None:
    a, b = Sketch([[(0.0, 0.0), (1, 1)]]), Sketch([[(-0.0, 0.0), (1, 1)]])
    assert a == b
    assert hash(a) == hash(b)


def test_one_stroke_needs_no_list() -> None:
    line = [[0, 0], [3, 4], [6, 0]]
    assert Sketch(line) == Sketch([line]) == Sketch(np.array(line)) == Sketch([line[0:3]])
    assert len(Sketch([(1, 2)])) == 1
    assert len(Sketch([line, line])) == len(Sketch(np.array([line, line]))) == 2
    with pytest.raises(UserError, match=r"Sketch.open\('cat.svg'\)"):
        Sketch("cat.svg")


def test_as_text_and_as_a_picture() -> None:
    sketch = Sketch([[0, 0], [30, 40]])
    assert sketch.to_svg(color="red").startswith("<svg")
    assert 'stroke="red"' in sketch.to_svg(color="red")
    picture = np.asarray(sketch.to_image(32))
    assert picture.shape == (32, 32)
    assert picture.min() < 64 < 250 < picture.max()  # ink, and paper
    assert repr(sketch) == "<Sketch: 1 stroke, 2 points>"
