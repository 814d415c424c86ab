from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import Sketch, UserError, io
from sketchknitter.raster import fit, grid, grid_shape, render, render_batch

LINE = Sketch([[(0, 0), (10, 0)]])
SQUARE = Sketch([[(0, 0), (8, 0), (8, 8), (0, 8), (0, 0)]], "square")


def ink(image: np.ndarray) -> float:
    """Inked area as a share of the paper."""
    return float((255 - image.astype(float)).mean() / 255)


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("SKETCHKNITTER_DATA")
    if not folder:
        pytest.skip("SKETCHKNITTER_DATA is not set")
    return Path(folder)


def random_sketch(seed: int) -> Sketch:
    rng = np.random.default_rng(seed)
    return Sketch([rng.normal(0, 30, (int(rng.integers(1, 9)), 2)) for _ in range(4)])


def test_line_lies_where_it_should() -> None:
    image = render(LINE, 100, width=0.1, margin=0.2)
    rows, columns = np.nonzero(image < 128)
    assert (rows.min(), rows.max()) == (45, 54)
    # from margin to margin, and half the width more for each round cap
    assert (columns.min(), columns.max()) == pytest.approx((15, 84), abs=1)
    assert image[50, 50] == 0
    assert image[0, 0] == 255
    corner = image[45:47, 15:17]  # a round cap leaves the corners of the line's end free
    assert corner.mean() > 200


@pytest.mark.parametrize("size", [28, 64, 256])
@pytest.mark.parametrize("angle", [0, 17, 30, 45, 80])
def test_ink_is_length_times_width(size: int, angle: float) -> None:
    a = np.deg2rad(angle)
    image = render(Sketch([[(0, 0), (np.cos(a), np.sin(a))]]), size, width=0.06)
    length = 0.88 / max(np.cos(a), np.sin(a))
    expected = length * 0.06 + np.pi * 0.03**2
    assert ink(image) == pytest.approx(expected, rel=0.15 if size < 100 else 0.05)


def test_dot_is_a_disc() -> None:
    image = render(Sketch([[(5, 5)]]), 200, width=0.2)
    assert ink(image) == pytest.approx(np.pi * 0.1**2, rel=0.02)
    y, x = np.nonzero(image < 128)
    assert (y.mean(), x.mean()) == pytest.approx((99.5, 99.5), abs=0.5)


def test_every_stroke_has_its_caps() -> None:
    """Also where the next stroke goes on in the same direction."""
    image = render(Sketch([[(0, 0), (4, 0)], [(6, 0), (10, 0)]]), 100, width=0.1, margin=0.1)
    gap = np.flatnonzero(image[50, 20:80] > 128) + 20
    assert (gap.min(), gap.max()) == pytest.approx((10 + 32 + 5, 10 + 48 - 6), abs=1)


def test_joins_are_round() -> None:
    """At a sharp bend the ink reaches half a width beyond the corner, in every direction."""
    image = render(Sketch([[(0, 0), (10, 0), (0, 1)]]), 200, width=0.1, margin=0.2)
    tip = np.nonzero((image < 128).any(axis=0))[0].max()
    assert tip == pytest.approx(200 * 0.8 + 10, abs=1.5)


def test_scale_and_place_do_not_matter() -> None:
    for seed in range(5):
        sketch = random_sketch(seed)
        for scale, shift in ((1e-3, 5), (8, -100), (1e4, 1e6)):
            moved = render(sketch.transformed(scale, (shift, shift)))
            assert np.abs(moved.astype(int) - render(sketch)).mean() < 0.5


def test_aspect_is_kept_and_the_box_is_centered() -> None:
    image = render(Sketch([[(0, 0), (20, 0), (20, 5), (0, 5), (0, 0)]]), 200, margin=0.1)
    y, x = np.nonzero(image < 128)
    assert (x.min(), x.max()) == pytest.approx((17.5, 182.5), abs=1.5)
    assert (y.min(), y.max()) == pytest.approx((77.5, 122.5), abs=1.5)


def test_size_does_not_matter() -> None:
    for seed in range(3):
        large = render(random_sketch(seed), 256)
        small = render(random_sketch(seed), 64)
        averaged = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
        assert np.abs(averaged - small).mean() < 8
        assert np.corrcoef(averaged.ravel(), small.ravel())[0, 1] > 0.97


def test_fixed_bounds() -> None:
    image = render(LINE, 100, margin=0, width=0.02, bounds=(0, -10, 20, 10))
    y, x = np.nonzero(image < 128)
    assert (x.min(), x.max()) == pytest.approx((0, 50), abs=2)
    assert abs(y.mean() - 49.5) < 1
    assert (render(LINE, 50, bounds=(100, 100, 110, 110)) == 255).all()


@pytest.mark.parametrize(
    "strokes",
    [
        [[(1e308, 0), (-1e308, 1)]],
        [[(1e-320, 0), (0, 1e-320)]],
        [[(3, 3)] * 4],
        [[(0, 0)], [(0, 0)]],
        [[(1e15, 1e15), (1e15 + 1, 1e15)]],
    ],
)
def test_degenerate_drawings_leave_some_ink(strokes: list) -> None:
    image = render(Sketch(strokes))
    assert 0 < ink(image) < 0.1


def test_empty_is_white() -> None:
    assert (render(Sketch([])) == 255).all()
    batch = render_batch([Sketch([]), SQUARE, Sketch([])], 32)
    assert [int((b < 255).any()) for b in batch] == [0, 1, 0]
    assert render_batch([], 16).shape == (0, 16, 16)


def test_margin_never_cuts_ink() -> None:
    image = render(SQUARE, 64, width=0.2, margin=0)
    assert ink(image) == pytest.approx(0.8 * 0.2 * 4, rel=0.03)


def test_batch_equals_one_by_one() -> None:
    sketches = [random_sketch(i) for i in range(300)]  # more than one chunk
    seen: list[int] = []
    batch = render_batch(sketches, 40, width=0.04, margin=0.1, progress=seen.append)
    assert batch.dtype == np.uint8
    assert sum(seen) == 300
    for i in (0, 1, 17, 255, 256, 299):
        np.testing.assert_array_equal(batch[i], render(sketches[i], 40, 0.04, 0.1))


def test_golden() -> None:
    expected = """\
        255 255 255 255 255 255 255 255
        255   0   0   0   0   0   0 255
        255   0 255 255 255 255   0 255
        255   0 255 255 255 255   0 255
        255   0 255 255 255 255   0 255
        255   0 255 255 255 255   0 255
        255   0   0   0   0   0   0 255
        255 255 255 255 255 255 255 255"""
    image = render(SQUARE, 8, width=0.125, margin=1.5 / 8).astype(float)
    want = np.array(expected.split(), float).reshape(8, 8)
    assert np.abs(image - want).max() <= 140  # corners are round
    assert np.abs(image - want).mean() < 24


def test_real_drawings(data: Path) -> None:
    sketches = list(io.read(data / "quickdraw/apple.npz", split="test"))
    batch = render_batch(sketches)
    assert all(0.02 < ink(image) < 0.4 for image in batch)


# -- pages ---------------------------------------------------------------------------------------
def test_grid_places_cells_row_by_row() -> None:
    page = np.asarray(grid([SQUARE, LINE, Sketch([]), SQUARE, LINE], columns=3, cell=32))
    assert page.shape == (64, 96)
    np.testing.assert_array_equal(page[:32, 32:64], render(LINE, 32))
    np.testing.assert_array_equal(page[32:, :32], render(SQUARE, 32))
    assert (page[:32, 64:] == 255).all()
    assert (page[32:, 64:] == 255).all()


def test_captions() -> None:
    plain = np.asarray(grid([SQUARE, LINE], 2, 64))
    page = np.asarray(grid([SQUARE, LINE], 2, 64, captions=True))
    np.testing.assert_array_equal(page[:64], plain)
    assert (page[64:, :64] < 128).any()  # "square"
    assert (page[64:, 64:] == 255).all()  # no label
    long = np.asarray(grid([SQUARE, LINE], 2, 64, captions=["long " * 40, None]))
    assert (long[64:, 65:] == 255).all()  # cut, not run into the neighbor
    with pytest.raises(UserError, match="3 captions for 2 sketches"):
        grid([SQUARE, LINE], captions=["a", "b", "c"])


def test_grid_shape() -> None:
    assert [grid_shape(n) for n in (1, 2, 5, 9, 10)] == [(1, 1), (1, 2), (2, 3), (3, 3), (3, 4)]
    assert grid_shape(5, 10) == (1, 5)
    with pytest.raises(UserError, match="no sketches"):
        grid([])
    with pytest.raises(UserError, match="at least 1"):
        grid_shape(3, 0)


@pytest.mark.parametrize(
    ("size", "width", "margin"),
    [(0, 0.1, 0.1), (10**6, 0.1, 0.1), (64, 0, 0.1), (64, 2, 0.1), (64, 0.1, 0.5), (64, 0.1, -1)],
)
def test_refused(size: int, width: float, margin: float) -> None:
    with pytest.raises(UserError):
        render(LINE, size, width, margin)


def test_fit_centers() -> None:
    points = np.array([(2.0, 4.0), (6.0, 6.0)])
    scale, shift = fit(points, 100, 0.1)
    np.testing.assert_allclose(points * scale + shift, [(10, 30), (90, 70)])
