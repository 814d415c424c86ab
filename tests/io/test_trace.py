"""Pictures of drawings back to strokes, clean ones and photographed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sketchknitter import io
from sketchknitter.cli import main
from sketchknitter.errors import UserError
from sketchknitter.geometry import resample
from sketchknitter.io.trace import trace
from sketchknitter.raster import fit, render
from sketchknitter.sketch import Sketch

pytest.importorskip("skimage")
SIDE = 320
FACE = Sketch(
    [
        [(100 + 80 * np.cos(a), 100 + 80 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40)],
        [(60, 70), (80, 60), (90, 75)],
        [(110, 72), (140, 66)],
        [(70, 130), (100, 145), (130, 125)],
        [(20, 20), (180, 190)],  # crosses the circle twice
    ]
)


def chamfer(a: Sketch, b: Sketch) -> tuple[float, float]:
    """Mean distance from the lines of each to the other's nearest, px, both ways."""
    from scipy.spatial import cKDTree

    lines = [np.vstack([resample(s, 0.5) for s in one.strokes]) for one in (a, b)]
    trees = [cKDTree(points) for points in lines]
    return trees[1].query(lines[0])[0].mean(), trees[0].query(lines[1])[0].mean()


def drawn(sketch: Sketch) -> tuple[np.ndarray, Sketch]:
    """A picture of a sketch, and where its lines are in it."""
    scale, shift = fit(sketch.points, SIDE, 0.06)
    return render(sketch, SIDE, 0.014), sketch.transformed(scale, shift)


def photographed(picture: np.ndarray) -> np.ndarray:
    """Gray pencil on a page in uneven light, noisy and not quite sharp."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    page = np.pad(picture / 255, ((60, 80), (40, 50)), constant_values=1.0)
    y, x = np.mgrid[0 : 1 : complex(len(page)), 0 : 1 : complex(page.shape[1])]
    light = 0.95 - 0.5 * x * y - 0.15 * ((x - 0.5) ** 2 + y**2)
    photo = light * (0.3 + 0.7 * page) + rng.normal(0, 0.03, page.shape)
    return (gaussian_filter(np.clip(photo, 0, 1), 0.8) * 255).astype(np.uint8)


def test_a_drawing_comes_back(tmp_path: Path) -> None:
    picture, source = drawn(FACE)
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = trace(tmp_path / "a.png", label="face")
    assert max(chamfer(source, found)) < 0.004 * SIDE
    assert found.label == "face"
    assert len(found) == 5  # and none is cut where two cross
    assert found.num_points < 90


def test_real_drawings_come_back(data: Path, tmp_path: Path) -> None:
    for name in ("cat", "bicycle"):
        for sketch in list(io.read(data / f"quickdraw/{name}.npz", split="test"))[:4]:
            picture, source = drawn(sketch)
            Image.fromarray(picture).save(tmp_path / "a.png")
            there, back = chamfer(source, trace(tmp_path / "a.png"))
            assert there < 0.01 * SIDE  # dots that other ink covers may be lost
            assert back < 0.004 * SIDE


def test_a_photograph(tmp_path: Path) -> None:
    picture, source = drawn(FACE)
    Image.fromarray(photographed(picture)).save(tmp_path / "a.jpg", quality=80)
    found = trace(tmp_path / "a.jpg")
    assert max(chamfer(source.transformed(1.0, (40, 60)), found)) < 0.008 * SIDE
    assert len(found) < 9


def test_dark_ground_alpha_and_size(tmp_path: Path) -> None:
    picture, source = drawn(FACE)
    Image.fromarray(255 - picture).save(tmp_path / "board.png")
    clear = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    clear.putalpha(Image.fromarray(255 - picture))
    clear.save(tmp_path / "clear.png")
    for name in ("board", "clear"):
        assert max(chamfer(source, trace(tmp_path / f"{name}.png"))) < 0.004 * SIDE
    Image.fromarray(picture).resize((4 * SIDE, 4 * SIDE)).save(tmp_path / "large.png")
    large = trace(tmp_path / "large.png").transformed(1 / 4)
    assert max(chamfer(source, large)) < 0.004 * SIDE


def test_dots_and_rings(tmp_path: Path) -> None:
    ring = [(100 + 80 * np.cos(a), 100 + 80 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 90)]
    Image.fromarray(render(Sketch([ring, [(100, 100)]]), SIDE, 0.03)).save(tmp_path / "a.png")
    found = trace(tmp_path / "a.png")
    assert sorted(len(s) > 1 for s in found.strokes) == [False, True]
    closed = max(found.strokes, key=len)
    assert closed[0] == pytest.approx(closed[-1], abs=3)


def test_what_is_no_drawing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(UserError, match="no picture that can be read"):
        trace(tmp_path / "a.png")
    Image.new("L", (200, 100), "white").save(tmp_path / "white.png")
    with pytest.raises(UserError, match="no line was found"):
        trace(tmp_path / "white.png")
    Image.new("1", (9_000, 9_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match="9000 x 9000 px; scale it down"):
        trace(tmp_path / "bomb.png")
    with pytest.raises(UserError, match="no such file"):
        trace(tmp_path / "none.png")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(drawn(FACE)[0]).save(tmp_path / "a.png")
    out = tmp_path / "drawing.svg"
    main(["data", "trace", str(tmp_path / "a.png"), "-o", str(out), "--label", "face"])
    assert capsys.readouterr().out.startswith(f"{out}: 5 strokes")
    assert Sketch.open(out).label == "face"
