import numpy as np
import pytest

from sketchknitter import Sketch
from sketchknitter.metrics import geometry_score as gs
from sketchknitter.metrics.metric import Comparison, DrawingSet


def circle(n: int, around: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)]) + around


def test_living_times_by_hand():
    times = gs.relative_living_times([(0.0, 2.0), (1.0, np.inf), (3.0, 3.5)], 4.0)
    # alive: [0,1) one, [1,2) two, [2,3) one, [3,3.5) two, [3.5,4) one
    assert times[:4] == pytest.approx([0.0, 2.5 / 4, 1.5 / 4, 0.0])
    assert times.sum() == pytest.approx(1.0)
    assert gs.relative_living_times([], 4.0)[0] == 1.0
    late = gs.relative_living_times([(1.0, 2.0)], 4.0)
    assert late[:2] == pytest.approx([0.75, 0.25])
    crowd = gs.relative_living_times([(0.0, 4.0)] * 100, 4.0)
    assert crowd.sum() == 0.0  # i < 100
    assert gs.relative_living_times([(0.0, 4.0)] * 99, 4.0)[99] == 1.0


def test_square_of_four_landmarks_is_one_hole_by_hand():
    """Corners and the middles of the sides witness the four sides at 0.

    A corner lets in its diagonal, and the triangles beside it, at √2 − 1: its farthest landmark
    less the nearest one left out. There the hole is filled.
    """
    corners = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    middles = (corners + np.roll(corners, 1, axis=0)) / 2
    table = gs.distance_table(np.concatenate([corners, middles]), corners)
    young, largest = gs.holes(table, gamma=0.1)
    assert largest == pytest.approx(0.1 * np.sqrt(2))
    assert young == [(0.0, np.inf)]
    assert gs.relative_living_times(young, largest)[:3] == pytest.approx([0, 1, 0])
    old, largest = gs.holes(table, gamma=0.5)
    assert old == [(0.0, pytest.approx(np.sqrt(2) - 1))]
    share = (np.sqrt(2) - 1) / (0.5 * np.sqrt(2))
    assert gs.relative_living_times(old, largest)[:3] == pytest.approx([1 - share, share, 0])


def test_three_landmarks_are_a_filled_triangle():
    """No landmark is left out, so that the triangle costs nothing at any witness."""
    corners = circle(3)
    sides = (corners + np.roll(corners, 1, axis=0)) / 2
    assert gs.holes(gs.distance_table(sides, corners), gamma=0.1)[0] == []


def test_circle_has_one_hole_and_two_circles_two():
    one = gs.mean_relative_living_times(circle(400), repeats=10, gamma=1 / 8)
    assert one.argmax() == 1
    assert one[1] > 0.95
    far = np.concatenate([circle(400), circle(400, (8, 0))])
    two = gs.mean_relative_living_times(far, repeats=10, gamma=1 / 32)
    assert two[2] > 0.8
    disc = np.random.default_rng(0).uniform(-1, 1, size=(2000, 2))
    filled = gs.mean_relative_living_times(disc[(disc**2).sum(1) < 1], repeats=10, gamma=1 / 8)
    assert filled[0] > 0.5
    assert filled[1] < one[1]


def test_short_rows_give_the_same_complex_as_whole_ones(monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(150, 6))
    table = gs.distance_table(x, x[rng.integers(0, 150, 20)])
    short = {gamma: gs.holes(table, gamma) for gamma in (0.003, 0.05, 0.3)}
    whole = [sorted(enumerate(row), key=lambda pair: pair[1]) for row in table.tolist()]
    monkeypatch.setattr(gs, "_nearest", lambda table, largest: whole)
    assert any(len(intervals) for intervals, _ in short.values())
    for gamma, (intervals, largest) in short.items():
        assert (sorted(intervals), largest) == (sorted(gs.holes(table, gamma)[0]), largest)


def difference(x: np.ndarray, y: np.ndarray, **how: float) -> float:
    """Of two clouds, as the metric measures it."""
    first, second = (gs.mean_relative_living_times(z, **how) for z in (x, y))
    return float(((first - second) ** 2).sum())


def test_score_is_zero_with_itself_and_grows_with_difference():
    rng = np.random.default_rng(0)
    x = circle(300)
    assert difference(x, x, repeats=5) == 0.0
    ring = circle(300) + rng.normal(0, 0.01, (300, 2))
    blob = rng.normal(size=(300, 2))
    near, far = (difference(x, y, repeats=10, gamma=1 / 8) for y in (ring, blob))
    assert near < 0.1 < far
    assert difference(x, x, repeats=5, seed=3) == 0.0


def test_gamma_and_repeatability():
    x = np.random.default_rng(0).normal(size=(200, 4))
    a = gs.mean_relative_living_times(x, 4)
    assert np.array_equal(a, gs.mean_relative_living_times(x, 4))
    assert np.array_equal(a, gs.mean_relative_living_times(x, 4, gamma=200 / 5000 / 128))
    assert not np.array_equal(a, gs.mean_relative_living_times(x, 4, gamma=0.2))


def test_stroke_vectors_are_offsets_in_shares_of_the_side():
    sketch = Sketch([[(0, 0), (10, 0)], [(10, 20), (0, 20)]])
    vector = gs.stroke_vectors([sketch, sketch.transformed(3.0, (5, 5))], points=4)
    assert vector.shape == (2, 8)
    assert vector[0] == pytest.approx([0.5, 0, 0, 1, -0.5, 0, 0, 0])
    assert vector[1] == pytest.approx(vector[0])


def test_only_as_many_drawings_as_real_ones_have_a_score():
    rng = np.random.default_rng(0)
    real = DrawingSet([Sketch([rng.normal(size=(9, 2))]) for _ in range(11)], None)
    (metric,) = gs.METRICS
    assert metric.compute(Comparison(real, real, repeats=2)) == 0.0
    assert metric.compute(Comparison(real[:10], real, repeats=2)) is None
