"""A sheet for a plotter: sizes in mm, ink within the margin, a short way of the lifted pen."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sketchknitter import io
from sketchknitter.errors import UserError
from sketchknitter.io.lettering import _GLYPHS, lettering
from sketchknitter.io.sheet import Sheet
from sketchknitter.io.travel import pen_up, shortened
from sketchknitter.sketch import Sketch

INKSCAPE = "{http://www.inkscape.org/namespaces/inkscape}"
MM = 96 / 25.4  # px that a foreign SVG is read in
CAT = Sketch([[(0, 0), (10, 0), (10, 5)], [(3, 3)], [(-4, 2.25), (4, 4)]], label="cat")
EEL = Sketch([[(0, 0), (5, 1), (40, 0)]], label="eel <3")


def scattered(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 8, (5, 2)).cumsum(axis=0) + rng.uniform(0, 400, 2) for _ in range(count)]


def same_ink(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    """The same strokes in any order and direction."""
    kinds = [sorted(min(s.tobytes(), s[::-1].tobytes()) for s in some) for some in (a, b)]
    return kinds[0] == kinds[1]


# -- paper ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("paper", "landscape", "size"),
    [
        ("A5", False, (148, 210)),
        ("a3", True, (420, 297)),
        ("Letter", False, (215.9, 279.4)),
        ("200x300", False, (200, 300)),
        ("300x200", True, (300, 200)),
        ("8x10in", False, (203.2, 254)),
        ("20cm x 300mm", True, (300, 200)),
    ],
)
def test_papers(paper: str, landscape: bool, size: tuple[float, float]) -> None:
    sheet = Sheet.named(paper, landscape)
    assert (sheet.width, sheet.height) == pytest.approx(size)


@pytest.mark.parametrize(
    ("paper", "options", "reason"),
    [
        ("A9", {}, "one of: A1"),
        ("", {}, "no paper ''"),
        ("0x5", {}, "between 0 and"),
        ("1e9x5", {}, "no paper"),
        ("99999999x5", {}, "between 0 and"),
        ("A5", {"margin": 74.0}, "leaves no room"),
        ("A5", {"margin": -1.0}, "leaves no room"),
        ("A5", {"margin": float("nan")}, "leaves no room"),
        ("A5", {"pen_width": 0.0}, "a pen of 0 mm"),
    ],
)
def test_papers_that_are_none(paper: str, options: dict[str, float], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        Sheet.named(paper, **options)


# -- the page ------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("captions", [False, True])
def test_size_and_margin(tmp_path: Path, count: int, captions: bool) -> None:
    sheet = Sheet.named("A5", margin=10, pen_width=0.5)
    io.write([CAT] * count, tmp_path / "a.svg", sheet=sheet, captions=captions)
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert (root.get("width"), root.get("height")) == ("148mm", "210mm")
    assert root.get("viewBox") == "0 0 148 210"  # so the user unit is the mm
    assert root[0].get("stroke-width") == "0.5"
    page = Sketch.open(tmp_path / "a.svg").transformed(1 / MM)
    x0, y0, x1, y1 = page.bounds
    assert min(x0, y0) > 10.24
    assert x1 < 137.76
    assert y1 < 199.76
    if count == 1:  # a single drawing has all the room
        assert (x0, x1) == pytest.approx((10.25, 137.75), abs=1e-2)
    else:
        assert page.extent > 70  # not a stamp in a corner


def test_each_drawing_keeps_its_shape_and_place() -> None:
    sheet = Sheet.named("A4", margin=10)
    root = ElementTree.fromstring(io.to_svg([CAT] * 4, sheet=sheet))
    strokes = [np.array([p.split(",") for p in e.get("points", "").split()], float) for e in root[0]
               if e.tag.endswith("polyline")]  # fmt: skip
    angles = [s for s in strokes if len(s) == 3]
    assert len(angles) == 4
    for s in angles:
        s = s if abs(s[1, 1] - s[0, 1]) < 1e-6 else s[::-1]
        assert (s[0, 1], s[1, 0]) == pytest.approx((s[1, 1], s[2, 0]), abs=2e-3)
        wide, high = abs(s[1, 0] - s[0, 0]), abs(s[2, 1] - s[1, 1])
        assert wide / high == pytest.approx(2, rel=1e-3)
    centers = np.array([(s.min(axis=0) + s.max(axis=0)) / 2 for s in angles])
    assert len({tuple(c > [105, 148.5]) for c in centers}) == 4  # one in each quarter


def test_degenerate_drawings_fit(tmp_path: Path) -> None:
    odd = [
        Sketch([]),
        Sketch([[(5, 5)]]),
        Sketch([[(0, 0), (9, 0)]]),
        Sketch([[(1e300, 0), (-1e300, 1)]]),
    ]
    io.write(odd, tmp_path / "a.svg", sheet=Sheet.named("A6"))
    assert len(Sketch.open(tmp_path / "a.svg")) == 3  # all but the empty one
    with pytest.raises(UserError, match="at least one"):
        io.to_svg([], sheet=Sheet.named("A6"))
    with pytest.raises(UserError, match="no option 'mm'; it has sheet, columns"):
        io.write([CAT], tmp_path / "b.svg", sheet=Sheet.named("A6"), mm=3)


def test_layers_for_pens_of_their_own() -> None:
    sheet = Sheet.named("A4", layers=True)
    text = io.to_svg([CAT, EEL, CAT, CAT.with_label(None)], sheet=sheet, captions=True)
    layers = list(ElementTree.fromstring(text))
    assert [g.get(f"{INKSCAPE}groupmode") for g in layers] == ["layer"] * 4
    labels = [g.get(f"{INKSCAPE}label") for g in layers]
    assert labels == ["cat", "eel <3", "no class", "captions"]
    assert [len(g) for g in layers[:3]] == [6, 1, 3]
    assert INKSCAPE not in io.to_svg([CAT], sheet=Sheet.named("A4"))


# -- captions ------------------------------------------------------------------------------------
def test_letters_are_strokes_of_the_right_height() -> None:
    for letter in _GLYPHS:
        assert lettering(letter, 6), letter
    points = np.concatenate(lettering("Ice Cream HX", 6))
    assert points[:, 1].min() == pytest.approx(-6)
    assert points[:, 1].max() == pytest.approx(0)
    low, high = np.concatenate(lettering("a b", 6)), np.concatenate(lettering("ab", 6))
    assert low[:, 0].max() == pytest.approx(high[:, 0].max() + 3)
    assert lettering(" \n", 6) == []


def test_letters_that_the_alphabet_lacks() -> None:
    assert same_ink(lettering("É", 6), lettering("E", 6))
    assert len(lettering("猫", 6)) == 1


def test_a_long_caption_stays_in_its_cell(tmp_path: Path) -> None:
    sheet = Sheet.named("A6", margin=5)
    io.write([CAT], tmp_path / "a.svg", sheet=sheet, captions=["a very long word " * 9])
    x0, _, x1, _ = Sketch.open(tmp_path / "a.svg").transformed(1 / MM).bounds
    assert x0 > 5
    assert x1 < 100


# -- the way of the lifted pen -------------------------------------------------------------------
def test_nothing_is_lost_and_the_way_is_short() -> None:
    for count in (0, 1, 2, 3, 60):
        strokes = scattered(count)
        better = shortened(strokes)
        assert same_ink(strokes, better)
        assert pen_up(better) <= pen_up(strokes)
    assert pen_up(better) < 0.2 * pen_up(strokes)


def test_the_best_order_of_a_few_strokes_is_found() -> None:
    from itertools import permutations, product

    strokes = scattered(5, seed=3)
    best = min(
        pen_up([s[::-1] if back else s for s, back in zip(order, ways, strict=True)])
        for order in permutations(strokes)
        for ways in product((False, True), repeat=5)
    )
    assert pen_up(shortened(strokes)) == pytest.approx(best)


def test_a_good_order_stays() -> None:
    line = [np.array([(i, 0.0), (i + 0.5, 0.0)]) for i in range(9)]
    assert pen_up(shortened(line)) == pytest.approx(pen_up(line))
    assert pen_up([]) == pen_up(line[:1]) == 0


def test_shorter_than_the_order_of_vpype() -> None:
    vpype, cli = pytest.importorskip("vpype"), pytest.importorskip("vpype_cli")
    for seed in range(3):
        strokes = scattered(80, seed)
        document = vpype.Document()
        document.add(vpype.LineCollection([s[:, 0] + 1j * s[:, 1] for s in strokes]), 1)
        greedy = cli.execute("linesort", document).layers[1].pen_up_length()[0]
        assert pen_up(shortened(strokes)) < 0.9 * greedy
