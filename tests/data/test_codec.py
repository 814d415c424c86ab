"""Drawings survive the way to the model and back, whatever the representation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sketchknitter import io
from sketchknitter.data.batch import DRAW, END, LIFT
from sketchknitter.data.codec import Codec
from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch

CODECS = {
    "offset": Codec("offset", scale=23.7, max_rows=96),
    "leaky": Codec("leaky", 0.8, scale=23.7, max_rows=96),
    "nearly-offset": Codec("leaky", 0.99, scale=3.1, max_rows=96),
    "absolute": Codec("absolute", scale=61.0, max_rows=96),
}
each = pytest.mark.parametrize("name", CODECS)


@st.composite
def drawings(draw: st.DrawFn) -> np.ndarray:
    """Stroke-3 rows of 1 to 60 points with wild offsets and pens; the last row lifts."""
    n = draw(st.integers(1, 60))
    steps = draw(arrays(np.float64, (n, 2), elements=st.floats(-1e4, 1e4, width=64)))
    pens = draw(arrays(np.bool_, n))
    pens[-1] = True
    return np.column_stack([steps, pens])


def certain(pen: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (B, N, 3) of a model that is sure of ``pen`` (B, N)."""
    return torch.nn.functional.one_hot(pen, 3).float().clamp(min=1e-6).log()


def back(codec: Codec, rows: list[np.ndarray], *, learned: bool) -> list[Sketch]:
    batch = codec.encode(rows, [0] * len(rows))
    return codec.decode(batch.xy, certain(batch.pen), None if learned else batch.length)


# -- there and back --------------------------------------------------------------------------------
@each
@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=drawings())
def test_coordinates_round_trip(name: str, rows: np.ndarray) -> None:
    codec = CODECS[name]
    points = codec.points(codec.filter(rows) / codec.scale)
    size = max(1.0, np.abs(np.cumsum(rows[:, :2], axis=0)).max())
    assert len(points) == len(rows) + 1
    np.testing.assert_allclose(np.diff(points, axis=0), rows[:, :2], rtol=0, atol=1e-9 * size)


@each
@pytest.mark.parametrize("learned", [True, False], ids=["learned", "given"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(many=st.lists(drawings(), min_size=1, max_size=4))
def test_drawings_round_trip(name: str, learned: bool, many: list[np.ndarray]) -> None:
    for rows, sketch in zip(many, back(CODECS[name], many, learned=learned), strict=True):
        got = sketch.to_stroke3()
        np.testing.assert_array_equal(got[:, 2], rows[:, 2])
        size = max(1.0, np.abs(np.cumsum(rows[:, :2], axis=0)).max())
        # the model's own numbers are float32
        np.testing.assert_allclose(got[:, :2], rows[:, :2], rtol=0, atol=2e-5 * size)


@each
@pytest.mark.parametrize("learned", [True, False], ids=["learned", "given"])
def test_real_drawings_come_back_to_the_pixel(name: str, learned: bool, data_dir: Path) -> None:
    rows = []
    for word in ("cat", "airplane", "spider"):
        path = data_dir / "quickdraw" / f"{word}.npz"
        rows += [s.to_stroke3() for s in io.read(path, split="test")] if path.exists() else []
    rows = [r for r in rows if len(r) <= 96]
    assert len(rows) > 60
    for before, sketch in zip(rows, back(CODECS[name], rows, learned=learned), strict=True):
        np.testing.assert_array_equal(sketch.to_stroke3().round(), before)


def test_all_real_classes_in_float64(data_dir: Path) -> None:
    count = 0
    for path in sorted((data_dir / "quickdraw").glob("*.npz"))[:8]:
        for sketch in io.read(path, split="valid"):
            rows = sketch.to_stroke3()
            for codec in CODECS.values():
                points = codec.points(codec.filter(rows) / codec.scale)
                np.testing.assert_allclose(
                    np.diff(points, axis=0), rows[:, :2], rtol=0, atol=1e-9 * codec.scale
                )
            count += 1
    assert count > 200


# -- what the model sees ---------------------------------------------------------------------------
@each
def test_shapes_pens_and_padding(name: str, random_rows) -> None:
    codec, rows = CODECS[name], random_rows(5, 2, 15)
    extra = 0 if name == "offset" else 1
    batch = codec.encode(rows, [3, 1, 4, 1, 5], points=40)
    assert batch.xy.shape == (5, 40, 2)
    assert batch.xy.dtype == torch.float32
    assert batch.length.tolist() == [len(r) + extra for r in rows]
    assert batch.label.tolist() == [3, 1, 4, 1, 5]
    assert (batch.xy[~batch.mask] == 0).all()
    assert (batch.pen[~batch.mask] == END).all()
    for pen, r, n in zip(batch.pen, rows, batch.length.tolist(), strict=True):
        assert pen[n - 1] == END
        lifts = [LIFT if lift else DRAW for lift in r[:-1, 2]]
        assert pen[: n - 1].tolist() == [DRAW] * extra + lifts
    assert codec.max_points == 96 + extra


def test_representations_are_what_they_say(random_rows) -> None:
    rows = random_rows(1, 12, 12)[0]
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(rows[:, :2].astype(float), axis=0)])
    centered = points - (points.min(axis=0) + points.max(axis=0)) / 2
    np.testing.assert_array_equal(Codec("offset").filter(rows), rows[:, :2])
    np.testing.assert_allclose(Codec("absolute").filter(rows), centered)
    z = Codec("leaky", 0.6).filter(rows)
    np.testing.assert_allclose(z[0], 0.8 * centered[0])
    np.testing.assert_allclose(z[1:], centered[1:] - 0.6 * centered[:-1])


@each
def test_scale_makes_the_deviation_exactly_1(name: str, random_rows) -> None:
    rows = random_rows(60, 2, 40)
    codec = CODECS[name].fitted(rows)
    z = np.concatenate([codec.filter(r) / codec.scale for r in rows])
    assert z.std() == pytest.approx(1, abs=1e-12)
    batch = codec.encode(rows, [0] * 60)
    assert batch.xy[batch.mask].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    # pens have no part in it
    flipped = [np.column_stack([r[:, :2], 1 - r[:, 2]]) for r in rows]
    assert codec.fitted(flipped).scale == codec.scale


# -- decoding what a model is unsure of ------------------------------------------------------------
@each
def test_the_first_end_closes_the_drawing(name: str) -> None:
    codec = CODECS[name]
    xy, pen = torch.randn(3, 12, 2), torch.full((3, 12), DRAW)
    pen[0, 5] = pen[0, 9] = pen[1, 1] = END
    sketches = codec.decode(xy, certain(pen), None, ["a", None, "c"])
    more = 1 if name == "offset" else 0  # the implied first point
    assert [s.num_points for s in sketches] == [6 + more, 2 + more, 12 + more]
    assert [s.label for s in sketches] == ["a", None, "c"]


@each
def test_given_lengths_overrule_the_pen(name: str) -> None:
    pen = torch.full((2, 9), DRAW)
    pen[0, 2] = END
    sketches = CODECS[name].decode(torch.randn(2, 9, 2), certain(pen), torch.tensor([7, 4]))
    more = 1 if name == "offset" else 0
    assert [s.num_points for s in sketches] == [7 + more, 4 + more]
    assert [len(s) for s in sketches] == [1, 1]  # an end inside is no lift


@each
def test_strokes_grow_fewer_as_pen_break_rises(name: str) -> None:
    xy, logits = torch.randn(8, 50, 2), torch.randn(8, 50, 3).log_softmax(dim=-1)
    lengths = torch.full((8,), 50)
    counts = []
    for cut in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        sketches = CODECS[name].decode(xy, logits, lengths, pen_break=cut)
        counts.append([len(s) for s in sketches])
        assert {s.num_points for s in sketches} == {51 if name == "offset" else 50}
    assert (np.diff(counts, axis=0) <= 0).all()
    assert min(counts[0]) >= 49
    assert set(counts[-1]) == {1}
    assert len({tuple(c) for c in counts}) == len(counts)


def test_pen_break_is_the_probability_of_a_lift() -> None:
    # 0.3 against 0.5: P(lift | not end) = 0.375
    log_p = torch.tensor([0.5, 0.3, 0.2]).log().expand(1, 6, 3)
    given_ = (torch.randn(1, 6, 2), log_p, torch.tensor([6]))
    codec = CODECS["leaky"]
    assert len(codec.decode(*given_, pen_break=0.37)[0]) == 6
    assert len(codec.decode(*given_, pen_break=0.38)[0]) == 1
    calibrated = Codec("leaky", pen_break=0.37)
    assert len(calibrated.decode(*given_)[0]) == 6


# -- refusals --------------------------------------------------------------------------------------
def test_refuses_drawings_it_cannot_hold(random_rows) -> None:
    good = random_rows(1, 5, 5)[0]
    with pytest.raises(UserError, match="drawing 1 has 0 rows; this model takes 1 to 10"):
        Codec(max_rows=10).encode([good, good[:0]], [0, 0])
    with pytest.raises(UserError, match="drawing 0 has 11 rows"):
        Codec(max_rows=10).encode(random_rows(1, 11, 11), [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"representation": "polar"}, "no representation 'polar'"),
        ({"leak": 1.0}, "between 0 and 1, not 1.0"),
        ({"leak": 0.0}, "between 0 and 1, not 0.0"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"scale": float("nan")}, "scale must be positive"),
    ],
)
def test_refuses_settings(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Codec(**options)


def test_a_scale_of_dots_alone() -> None:
    with pytest.raises(UserError, match="single dot"):
        Codec().fitted([np.zeros((1, 3))])


def test_to_dict_rebuilds() -> None:
    for codec in CODECS.values():
        assert Codec(**codec.to_dict()) == codec
