import numpy as np
import pytest
from real_drawings import drop_strokes, jitter, lift_pens, shuffle_points

from sketchknitter import Sketch, UserError
from sketchknitter.metrics.statistics import (
    STATISTICS,
    statistic_distances,
    stroke_statistics,
    wasserstein,
)

TENT = Sketch([[(0, 0), (50, 0), (100, 0)], [(100, 10), (100, 60), (40, 60)]])


def test_a_drawing_by_hand():
    found = stroke_statistics([TENT])
    assert set(found) == {s.name for s in STATISTICS}
    assert found["strokes"].tolist() == [2]
    assert found["points"].tolist() == [6]
    assert found["ink_length"] == pytest.approx([100 + 110])
    assert found["lift_rate"] == pytest.approx([100 / 5])
    assert found["segment_length"] == pytest.approx([50, 50, 50, 60])
    assert found["turning_angle"] == pytest.approx([0, 90])
    # (0,0) to (40,60), (100,0) to (100,10) and back, (40,60) to (50,0)
    assert found["gap"] == pytest.approx([np.hypot(40, 60), 10, 10, np.hypot(10, 60)])


def test_size_and_place_do_not_matter():
    moved = stroke_statistics([TENT.transformed(0.03, (7, -2))])
    for name, values in stroke_statistics([TENT]).items():
        assert moved[name] == pytest.approx(values), name


def test_dots_and_repeated_points_count_without_nan():
    found = stroke_statistics([Sketch([[(3, 3)]]), Sketch([[(0, 0), (0, 0), (5, 0), (5, 5)]])])
    assert found["ink_length"] == pytest.approx([0, 200])
    assert found["turning_angle"] == pytest.approx([90])
    assert len(found["gap"]) == 0
    assert statistic_distances(found, found)["gap"] is None


def test_wasserstein_by_hand_and_by_quantiles():
    assert wasserstein([0, 0], [3, 5]) == pytest.approx(4)
    assert wasserstein([1, 2, 3], [3, 1, 2]) == 0
    assert wasserstein([0, 1], [0, 0, 0, 1]) == pytest.approx(0.25)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=700), rng.gamma(2, size=500)
    u = (np.arange(35_000) + 0.5) / 35_000
    inverse = [np.quantile(v, u, method="inverted_cdf") for v in (x, y)]
    assert wasserstein(x, y) == pytest.approx(np.abs(inverse[0] - inverse[1]).mean(), rel=1e-3)
    with pytest.raises(UserError, match="both sides"):
        wasserstein([], [1])
    with pytest.raises(UserError, match="finite"):
        wasserstein([np.nan], [1])


@pytest.mark.parametrize(
    ("spoil", "degrees", "names"),
    [
        (jitter, (0.005, 0.015, 0.04), ("turning_angle", "segment_length", "ink_length")),
        (lift_pens, (0.05, 0.15, 0.4), ("strokes", "lift_rate", "ink_length", "gap")),
        (drop_strokes, (0.1, 0.3, 0.6), ("strokes", "points", "ink_length", "lift_rate")),
        (shuffle_points, (0.1, 0.3, 0.8), ("turning_angle", "segment_length", "ink_length")),
    ],
)
def test_what_a_person_sees_grows_with_the_damage(real, spoil, degrees, names):
    whole = stroke_statistics(real)
    distances = [
        statistic_distances(whole, stroke_statistics(spoil(real, degree))) for degree in degrees
    ]
    for name in names:
        values = [d[name][0] for d in distances]
        assert 0 < values[0] < values[1] < values[2], name
