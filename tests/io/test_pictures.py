from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sketchknitter import Sketch, UserError, io
from sketchknitter.io.animation import partial
from sketchknitter.raster import grid, render

CAT = Sketch([[(0, 0), (10, 0), (10, 5)], [(3, 3)], [(-4, 2), (4, 4)]], "cat")


def frames_of(path: Path) -> list[np.ndarray]:
    with Image.open(path) as film:
        frames = []
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(np.asarray(film.convert("L")))
        return frames


def test_png_is_what_the_renderer_draws(tmp_path: Path) -> None:
    CAT.save(tmp_path / "one.png", size=96)
    with Image.open(tmp_path / "one.png") as image:
        np.testing.assert_array_equal(np.asarray(image), render(CAT, 96))
    io.write([CAT] * 3, tmp_path / "page.png", columns=2, size=50, captions=True)
    with Image.open(tmp_path / "page.png") as image:
        expected = grid([CAT] * 3, 2, 50, True)
        assert image.size == expected.size == (100, 120)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_gif_draws_in_order(tmp_path: Path) -> None:
    CAT.save(tmp_path / "a.gif", size=80, seconds=1, fps=10)
    frames = frames_of(tmp_path / "a.gif")
    assert len(frames) == 10
    ink = [int((255 - f.astype(int)).sum()) for f in frames]
    assert ink[0] == 0
    assert all(b > a for a, b in pairwise(ink))
    np.testing.assert_allclose(frames[-1], render(CAT, 80), atol=8)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.info["loop"] == 0


def test_partial_drawings() -> None:
    assert partial(CAT, 1) == CAT
    assert partial(CAT, 0) == Sketch([], "cat")
    lengths = [partial(CAT, share).ink_length for share in np.linspace(0, 1, 30)]
    assert (np.diff(lengths) >= 0).all()
    assert partial(CAT, 0.5).ink_length == pytest.approx(0.5 * CAT.ink_length, rel=0.05)
    half = partial(Sketch([[(0, 0), (10, 0)]]), 0.25)
    np.testing.assert_allclose(half.points, [(0, 0), (2.5, 0)])


NOISE = [
    [Sketch([np.random.default_rng((i, k)).normal(0, 5, (6, 2)) * i + CAT.strokes[0][:1]])
     for k in range(4)]
    for i in range(5, -1, -1)
]  # fmt: skip
FILM = [[Sketch([s.strokes[0] + (k, 0), CAT.strokes[2]]) for k, s in enumerate(f)] for f in NOISE]


def test_film_gif(tmp_path: Path) -> None:
    io.write_frames(FILM, tmp_path / "f.gif", size=40, seconds=1, hold=2)
    frames = frames_of(tmp_path / "f.gif")
    assert len(frames) == 6
    assert frames[0].shape == (80, 80)
    np.testing.assert_allclose(frames[-1], np.asarray(grid(FILM[-1], cell=40)), atol=8)
    with Image.open(tmp_path / "f.gif") as film:
        film.seek(5)
        assert film.info["duration"] == 2000


def test_film_svg(tmp_path: Path) -> None:
    io.write_frames(FILM, tmp_path / "f.svg", columns=4)
    root = ElementTree.parse(tmp_path / "f.svg").getroot()
    shown = [g.get("visibility") for g in root.iter() if g.get("class")]
    assert shown == ["hidden"] * 5 + [None]  # without animation the last frame alone is seen
    assert len(Sketch.open(tmp_path / "f.svg")) == 8


def test_animated_svg(tmp_path: Path) -> None:
    CAT.save(tmp_path / "a.svg", animate=True, seconds=3)
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    times = [
        [float(part.split(":")[1][:-1]) for part in e.get("style", "").split(";")]
        for e in root.iter()
        if e.get("pathLength")
    ]
    assert len(times) == 3
    starts = [0.0, *np.cumsum([d for _, d in times])]
    np.testing.assert_allclose([t for t, _ in times], starts[:-1], atol=0.01)
    assert starts[-1] == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize(
    ("frames", "name", "what"),
    [
        ([], "a.gif", "equally many"),
        ([[CAT], [CAT, CAT]], "a.gif", "equally many"),
        ([[CAT]], "a.mp4", r"a \.gif or an \.svg"),
    ],
)
def test_films_that_are_none(tmp_path: Path, frames: list, name: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        io.write_frames(frames, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# -- any suffix ----------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", ["npz", "ndjson", "svg", "png", "gif"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    def broken() -> Iterator[Sketch]:
        yield CAT
        raise RuntimeError("power cut")

    path = tmp_path / f"a.{suffix}"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"):
        io.write(broken(), path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"
    io.write([CAT], path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o444 == 0o444


def test_outputs_are_refused_before_work() -> None:
    for path, what in {
        "a.pdf": "no writer for '.pdf'",
        "a": "no writer",
        "no/x.svg": "no such",
    }.items():
        with pytest.raises(UserError, match=what):
            io.check_output(path)
        with pytest.raises(UserError, match=what):
            io.write(iter([CAT]), path)


def test_inputs_that_are_none(tmp_path: Path) -> None:
    for path, what in {tmp_path / "a.pdf": "no reader for .pdf", tmp_path: "no reader"}.items():
        with pytest.raises(UserError, match=what):
            list(io.read(path))
    (tmp_path / "f.svg").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        Sketch.open(tmp_path / "f.svg")


def test_open_takes_the_first_and_says_so(tmp_path: Path) -> None:
    io.write([CAT, CAT.with_label("dog")], tmp_path / "two.ndjson")
    with pytest.warns(UserWarning, match="more than one drawing"):
        assert Sketch.open(tmp_path / "two.ndjson") == CAT
    io.write([], tmp_path / "none.npz")
    with pytest.raises(UserError, match="holds no drawing"):
        Sketch.open(tmp_path / "none.npz")
