from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchknitter import Sketch, UserError, io
from sketchknitter.io.svg_read import read_svg

CAT = Sketch([[(0, 0), (10, 0), (10, 5)], [(3, 3)], [(-4, 2.25), (4, 4)]], "cat")


def svg(tmp_path: Path, body: str, attributes: str = 'width="100" height="100"') -> Path:
    path = tmp_path / "a.svg"
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{body}</svg>')
    return path


def opened(tmp_path: Path, body: str, attributes: str = 'width="100" height="100"') -> list:
    return [s.tolist() for s in Sketch.open(svg(tmp_path, body, attributes)).strokes]


# -- reading -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "strokes"),
    [
        ('<line x1="1" y1="2" x2="3" y2="4" stroke="red"/>', [[[1, 2], [3, 4]]]),
        ('<polyline points="1,2 3,4 5 6"/>', [[[1, 2], [3, 4], [5, 6]]]),
        ('<polygon points="0,0 2,0 2,2"/>', [[[0, 0], [2, 0], [2, 2], [0, 0]]]),
        ('<rect x="1" y="2" width="3" height="4"/>', [[[1, 2], [4, 2], [4, 6], [1, 6], [1, 2]]]),
        ('<path d="M1 1 h2 v3 z m5 0 l1 1"/>',
         [[[1, 1], [3, 1], [3, 4], [1, 1]], [[6, 1], [7, 2]]]),
        ('<path d="M1 1 h0 M2 2 L3 3 M9 9"/>', [[[1, 1]], [[2, 2], [3, 3]]]),
        ('<g transform="translate(10,20)"><g transform="scale(2)"><path d="M1 1 h1"/></g></g>',
         [[[12, 22], [14, 22]]]),
        ('<path transform="rotate(90)" d="M1 0 L2 0"/>', [[[0, 1], [0, 2]]]),
        ('<defs><path id="p" d="M0 0 h1"/></defs><use href="#p" x="5" y="6"/>',
         [[[5, 6], [6, 6]]]),
        ('<symbol id="s"><path d="M0 0 h1"/></symbol><path d="M2 2 h1"/>', [[[2, 2], [3, 2]]]),
        ('<path d="M0 0h24v24H0z" fill="none"/><path d="M1 1 h1"/>', [[[1, 1], [2, 1]]]),
        ('<g display="none"><path d="M0 0 h9"/></g><path d="M1 1 h1"/>', [[[1, 1], [2, 1]]]),
        ('<g visibility="hidden"><path d="M0 0 h9"/></g><path d="M1 1 h1"/>', [[[1, 1], [2, 1]]]),
    ],
)  # fmt: skip
def test_shapes(tmp_path: Path, body: str, strokes: list) -> None:
    got = opened(tmp_path, body)
    assert len(got) == len(strokes)
    for ours, expected in zip(got, strokes, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('width="100" height="100" viewBox="0 0 10 10"', [[10, 20], [30, 20]]),
        ('width="100" height="100" viewBox="1 1 10 10"', [[0, 10], [20, 10]]),
        ('width="1in" height="1in" viewBox="0 0 96 96"', [[1, 2], [3, 2]]),
        ('viewBox="0 0 10 10"', [[1, 2], [3, 2]]),
        ('width="200" height="100" viewBox="0 0 10 10"', [[60, 20], [80, 20]]),
        ("", [[1, 2], [3, 2]]),
    ],
)
def test_view_box(tmp_path: Path, attributes: str, expected: list) -> None:
    np.testing.assert_allclose(opened(tmp_path, '<path d="M1 2 h2"/>', attributes), [expected])


ROUND = {
    "circle": '<circle cx="50" cy="40" r="30"/>',
    "ellipse": '<ellipse cx="50" cy="40" rx="30" ry="30"/>',
    "arcs": '<path d="M80 40 A30 30 0 0 1 20 40 A30 30 0 0 1 80 40"/>',
    "transformed": '<circle r="3" transform="translate(50 40) scale(10)"/>',
    "cubic": '<path d="M80 40 C80 56.5685 66.5685 70 50 70 C33.4315 70 20 56.5685 20 40'
    ' C20 23.4315 33.4315 10 50 10 C66.5685 10 80 23.4315 80 40"/>',
}


@pytest.mark.parametrize("name", list(ROUND))
@pytest.mark.parametrize("tolerance", [1e-3, 1e-2])
def test_curves_stay_within_the_tolerance(tmp_path: Path, name: str, tolerance: float) -> None:
    (stroke,) = read_svg(svg(tmp_path, ROUND[name]), tolerance).strokes
    middles = (stroke[1:] + stroke[:-1]) / 2
    inside = 30 - np.hypot(*(middles - (50, 40)).T)
    np.testing.assert_allclose(np.hypot(*(stroke - (50, 40)).T), 30, atol=0.02)
    assert inside.max() <= tolerance * 60 * 1.01 + 0.02
    # and without waste: a circle needs pi / acos(1 - tolerance / radius) lines
    least = math.pi / math.acos(1 - tolerance * 60 / 30)
    assert len(stroke) <= 2.2 * least + 6


def test_quadratic(tmp_path: Path) -> None:
    (stroke,) = read_svg(svg(tmp_path, '<path d="M0 0 Q50 100 100 0"/>')).strokes
    assert stroke[0].tolist() == [0, 0]
    assert stroke[-1].tolist() == [100, 0]
    t = stroke[:, 0] / 100
    np.testing.assert_allclose(stroke[:, 1], 200 * t * (1 - t), atol=1e-9)


def test_other_peoples_files(tmp_path: Path) -> None:
    """What Illustrator, potrace and Inkscape write around their paths."""
    public = '"-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"'
    text = (
        f'<?xml version="1.0" encoding="iso-8859-1"?>\n<!DOCTYPE svg PUBLIC {public}>'
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        ' width="10mm" height="10mm" viewBox="0 0 10 10"><title>été</title>'
        '<metadata>by potrace</metadata><image xlink:href="scan.png" width="10" height="10"/>'
        "<style>/* thin */ .st0{fill:none;stroke:#000} .gone, #x{display:none}</style>"
        '<path class="st0" d="M1 1h1"/><path class="gone" d="M0 0h9"/><path id="x" d="M0 0h9"/>'
        '<switch><foreignObject requiredExtensions="x"/><g><path d="M3,3l1-1"/></g></switch></svg>'
    )
    for encoding in ("iso-8859-1", "utf-16"):
        (tmp_path / "a.svg").write_bytes(text.replace("iso-8859-1", encoding).encode(encoding))
        sketch = Sketch.open(tmp_path / "a.svg")
        assert sketch.label == "été"
        px = 96 / 25.4
        np.testing.assert_allclose(
            np.concatenate(sketch.strokes) / px, [[1, 1], [2, 1], [3, 3], [4, 2]]
        )


BODIES = {
    "circle": '<g transform="scale(2) rotate(3)"><circle cx="50" cy="50" r="30"/></g>',
    "rect": '<g transform="rotate(10 3 4) scale(1 2)"><rect x="1" y="2" width="9" height="9"/></g>',
    "round": '<rect x="1" y="2" width="30" height="9" rx="4" ry="2" transform="rotate(20)"/>',
    "ellipse": '<ellipse cx="5" cy="6" rx="30" ry="10" transform="matrix(1 2 -2 1 4 5)"/>',
    "arcs": '<path transform="rotate(30)"'
    ' d="M10 10a30 20 15 01 50 10A9 9 0 1 0 70 80.5.5 0 0,0 9 9"/>',
    "curves": '<path d="M1 2c3 4 5-6 7 8s9 1 2 3q4 5 6 7t8 9T1 2"/>'
    '<path d="M1 2C1 2 5 5 6 6H3v-4zm5 5l1 1z l 2 2"/>',
    "nested": '<svg x="10" y="20" width="50" height="80" viewBox="0 0 10 10"'
    ' preserveAspectRatio="xMaxYMin slice"><path d="M1 2 L7 3"/></svg>',
    "use": '<defs><g id="s" transform="scale(3)"><path d="M0 1 L3 2"/></g></defs>'
    '<use href="#s" x="5" y="6" transform="scale(2)"/>',
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_shapes_lie_where_svgelements_puts_them(tmp_path: Path, name: str) -> None:
    import svgelements

    path = svg(tmp_path, BODIES[name], 'width="200" height="200" viewBox="0 0 100 100"')
    theirs = [
        abs(svgelements.Path(e))
        for e in svgelements.SVG.parse(str(path), ppi=96).elements()
        if isinstance(e, svgelements.Shape)
    ]
    boxes = np.array([p.bbox() for p in theirs], float)
    expected = [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]
    ours = read_svg(path, 1e-5)
    assert ours.bounds == pytest.approx(expected, abs=0.02)
    assert ours.ink_length == pytest.approx(sum(p.length(error=1e-6) for p in theirs), rel=2e-4)


def test_a_skewed_ellipse_and_a_symbol(tmp_path: Path) -> None:
    """Two that svgelements misplaces, by hand."""
    ellipse = '<ellipse cx="5" cy="6" rx="30" ry="10" transform="matrix(1 2 -1 1 4 5)"/>'
    sketch = read_svg(svg(tmp_path, ellipse), 1e-5)
    half = np.hypot(30 * 1, 10 * 1), np.hypot(30 * 2, 10 * 1)
    assert sketch.bounds == pytest.approx(
        (3 - half[0], 21 - half[1], 3 + half[0], 21 + half[1]), abs=0.01
    )
    symbol = '<symbol id="s" viewBox="0 0 4 4"><path d="M0 1 L3 2"/></symbol>'
    use = '<use href="#s" x="5" y="6" width="40" height="40" transform="scale(2)"/>'
    assert opened(tmp_path, symbol + use) == [[[10, 32], [70, 52]]]


def test_a_turned_circle(tmp_path: Path) -> None:
    sketch = Sketch.open(svg(tmp_path, BODIES["circle"], 'viewBox="0 0 200 200"'))
    c, s = np.cos(np.radians(3)), np.sin(np.radians(3))
    center = 2 * np.array([c * 50 - s * 50, s * 50 + c * 50])
    np.testing.assert_allclose(np.hypot(*(sketch.points - center).T), 60, atol=1e-3)


@pytest.mark.parametrize(
    "body",
    [
        '<path d="M' + "1" * 2_000_000 + '"/><path d="M0 0h1"/>',
        '<path d="' + "1" * 1_000_000 + '"/><path d="M0 0h1"/>',
        '<path d="M0 0a' + "1" * 1_000_000 + '"/><path d="M0 0h1"/>',
        '<path d="M0 0 ' + "L1 1z" * 100_000 + '"/>',
        '<path d="' + "M1 1" * 300_000 + 'h1"/>',
        '<path d="M0 0' + "C1 1 2 2 3 3" * 50_000 + '"/>',
        '<g transform="' + "rotate(" * 100_000 + '"/>',
        '<g transform="' + "rotate(1)" * 100_000 + '"/>',
        "<style>" + ".a{" * 300_000 + "</style><path d='M0 0h1'/>",
        "<style>" + "/*" * 500_000 + "</style><path d='M0 0h1'/>",
        "<style>" + "a" * 1_000_000 + "</style><path d='M0 0h1'/>",
        '<rect width="' + "1" * 1_000_000 + '" height="9"/><path d="M0 0h1"/>',
        '<polyline points="' + "1 " * 500_000 + '"/>',
        '<path class="' + "a " * 500_000 + '" d="M0 0h1"/>' * 2,
    ],
    ids=range(14),
)
@pytest.mark.timeout(30)
def test_work_is_bounded_by_size(tmp_path: Path, body: str) -> None:
    """Quadratic ways of reading these take minutes to days."""
    path = svg(tmp_path, body)
    begin = time.process_time()
    with contextlib.suppress(UserError):
        list(io.read_counted(path))
    assert time.process_time() - begin < 12


# -- refusing ------------------------------------------------------------------------------------
HREF = 'xmlns:xlink="http://www.w3.org/1999/xlink"'


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("<!DOCTYPE svg [<!ATTLIST g id CDATA 'a'>]>\n<svg/>", "line 1: a document type"),
        ('<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n<svg>&a;</svg>', "document type"),
        (f'<svg {HREF}>\n<use xlink:href="http://h/a.svg#b"/></svg>', "line 2: an external ref"),
        ('<svg><image href="file:///etc/passwd"/></svg>', "draws no line"),
        ("<svg><style>@\\69mport 'http://h/x.css';</style></svg>", "style that loads"),
        ("<svg><style>p{fill:u\\72l(http://h)}</style></svg>", "style that loads"),
        ('<?xml version="1.0" encoding="utf-7"?><svg/>', "text encoding 'utf-7' is refused"),
        ('<?xml version="1.0" encoding="idna"?><svg/>', "text encoding 'idna' is refused"),
        ('<?xml version="1.0" encoding="utf-8"?><svg a="\xff"/>', "its text is not utf-8"),
        ('<svg><x:path d="M0 0h1"/></svg>', "not well-formed XML .unbound prefix"),
        ('<svg x:y="1"><path d="M0 0h1"/></svg>', "not well-formed XML .unbound prefix"),
        ('<svg><path transform="spin(3)" d="M0 0h1"/></svg>', "transform 'spin' cannot be read"),
        ('<svg><path transform="rotate(rotate(3))" d="M0 0h1"/></svg>', "cannot be read"),
        ('<svg><path d="M0 0h1" style="fill:url(http://h/x)"/></svg>', "external reference"),
        ("<svg><style>@import 'http://h/x.css';</style></svg>", "style that loads"),
        ("<svg><style>p{fill:url( 'x.svg#a')}</style></svg>", "style that loads"),
        ('<?xml-stylesheet href="http://h/x.css"?><svg/>', "external style sheet"),
        ('<svg><path d="M0 0h1"></svg>', "line 1: not well-formed XML"),
        ("<html><body/></html>", "outermost element is <html>"),
        ("<svg>" + "<g>" * 300 + "</g>" * 300 + "</svg>", "200 deep"),
        ('<svg><g id="a"><use href="#a"/></g></svg>', "refers to itself"),
        ("<svg><text>hi</text></svg>", "draws no line"),
        ("<svg/>", "draws no line"),
        ("\x89PNG", "not an SVG"),
        ("", "empty file"),
        ('<svg><path d="M0 0 L1e999 5"/></svg>', "not finite"),
    ],
)
def test_refused(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "a.svg").write_text(content, encoding="latin1")
    with pytest.raises(UserError, match=rf"a\.svg.*{what}") as caught:
        list(io.read_counted(tmp_path / "a.svg"))
    assert "\n" not in str(caught.value)


def test_use_bomb(tmp_path: Path) -> None:
    """Ten levels of ten: ten billion paths in a kilobyte."""
    levels = "".join(f'<g id="l{i + 1}">' + f'<use href="#l{i}"/>' * 10 + "</g>" for i in range(10))
    with pytest.raises(UserError, match="unfold to more than"):
        Sketch.open(svg(tmp_path, f'<path id="l0" d="M0 0h1"/>{levels}'))


def test_inner_references_and_links_are_fine(tmp_path: Path) -> None:
    body = (
        '<a href="http://h/"><path id="p" d="M0 0h1" style="fill:url(#g)"/></a>'
        '<image href="data:image/png;base64,AAAA"/>'
    )
    assert opened(tmp_path, body) == [[[0, 0], [1, 0]]]


# -- writing -------------------------------------------------------------------------------------
def test_golden() -> None:
    assert io.to_svg(CAT) == (
        '<svg xmlns="http://www.w3.org/2000/svg" width="256" height="111.177"'
        ' viewBox="-4.95 -0.95 15.91 6.91" data-units="px">\n'
        "<title>cat</title>\n"
        '<g fill="none" stroke-linecap="round" stroke-linejoin="round" stroke="black"'
        ' stroke-width="0.4">\n'
        '<polyline points="0,0 10,0 10,5"/>\n'
        '<path d="M3,3h0"/>\n'
        '<polyline points="-4,2.25 4,4"/>\n'
        "</g>\n</svg>\n"
    )


coordinates = st.floats(-500, 500).map(lambda x: round(x, 2) + 0.0)
strokes = st.lists(st.tuples(coordinates, coordinates), min_size=2, max_size=5, unique=True)
drawings = st.lists(strokes | coordinates.map(lambda x: [(x, 600.0)]), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(drawings, st.text(max_size=5), st.booleans())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, drawing: list, word: str, animate: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "trip.svg"
    sketch = Sketch(drawing)
    sketch.with_label(word).save(path, mm=80, animate=animate)
    assert Sketch.open(path).with_label(None) == sketch


@pytest.mark.parametrize("word", ["cat", "a<b>&\"'", "ß 猫", None])
def test_label_round_trip(tmp_path: Path, word: str | None) -> None:
    CAT.with_label(word).save(tmp_path / "a.svg")
    assert Sketch.open(tmp_path / "a.svg").label == word


def test_real_drawings_round_trip(data: Path, tmp_path: Path) -> None:
    for sketch in list(io.read(data / "quickdraw/apple.npz", split="test"))[:10]:
        sketch.save(tmp_path / "a.svg")
        again = Sketch.open(tmp_path / "a.svg")
        if all((np.diff(s, axis=0) != 0).any(axis=1).all() for s in sketch.strokes):
            assert again == sketch
        assert again.ink_length == pytest.approx(sketch.ink_length)


def test_for_a_plotter(tmp_path: Path) -> None:
    io.write([CAT], tmp_path / "a.svg", mm=150)
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.get("width") == "150mm"
    view = [float(v) for v in root.get("viewBox", "").split()]
    assert float(root.get("height", "")[:-2]) == pytest.approx(150 * view[3] / view[2], rel=1e-3)
    long = Sketch([np.linspace((0, 100), (0.05, 100.05), 50), [(0, 0), (9, 9)]])
    assert io.to_svg(long).count(",") < 15  # points that round to the same place stand once


def test_page(tmp_path: Path) -> None:
    io.write([CAT] * 5, tmp_path / "page.svg", columns=3, captions=True)
    root = ElementTree.parse(tmp_path / "page.svg").getroot()
    assert root.get("viewBox") == "0 0 300 225"
    page = list(io.read(tmp_path / "page.svg"))
    assert len(page) == 5
    for i in range(5):
        assert (len(page[i]), page[i].label) == (3, "cat")
        x, y = i % 3 * 100, i // 3 * 112.5
        cell = page[i].transformed(100 * 3 / 384)  # px to units
        x0, y0, x1, y1 = cell.bounds
        assert (x0, x1) == pytest.approx((x + 6, x + 94), abs=0.02)
        assert (y0 + y1) / 2 == pytest.approx(y + 50, abs=0.02)
    assert [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")] == ["cat"] * 5


def test_degenerate_drawings() -> None:
    for sketch in (
        Sketch([]),
        Sketch([[(5, 5)]]),
        Sketch([[(0, 0), (9, 0)]]),
        Sketch([[(1e9, 0)]]),
    ):
        root = ElementTree.fromstring(io.to_svg(sketch))
        assert min(float(v) for v in root.get("viewBox", "").split()[2:]) > 0
    assert Sketch([[(0, 0), (9, 0)]])._repr_svg_().startswith("<svg")


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no option 'colour'; it has columns, captions"):
        io.write([CAT], tmp_path / "a.svg", colour="red")
    with pytest.raises(UserError, match="at least one"):
        io.write([], tmp_path / "a.svg")
    with pytest.raises(UserError, match="margin"):
        io.write([CAT], tmp_path / "a.svg", margin=0.5)
    assert list(tmp_path.iterdir()) == []
