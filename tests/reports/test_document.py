"""Pictures in reports."""

import io

import numpy as np
import pytest
from PIL import Image

from sketchknitter import plot
from sketchknitter.errors import UserError
from sketchknitter.reports.document import (
    Bars,
    Bullets,
    Counts,
    Document,
    Heading,
    Page,
    Plot,
    Table,
    Text,
    as_png,
    encode,
    to_html,
    to_markdown,
    to_text,
    write_folder,
)
from sketchknitter.sketch import Sketch


def test_lines_of_a_plot_keep_colors_of_their_own():
    rng = np.random.default_rng(0)
    count = len(plot.COLORS)
    series = [plot.Series(f"s{i}", range(200), i + rng.random(200)) for i in range(count)]
    drawn = plot.lines(series)
    again = Image.open(io.BytesIO(as_png(drawn))).convert("RGB")
    assert np.array_equal(np.asarray(again), np.asarray(drawn.convert("RGB")))
    seen = {tuple(p) for p in np.asarray(again).reshape(-1, 3)}
    wanted = {tuple(int(c[k : k + 2], 16) for k in (1, 3, 5)) for c in plot.COLORS}
    assert wanted <= seen


def report(*blocks, data=None):
    return Document("A <title>", blocks, data)


def test_html_in_text_is_text_in_markdown():
    table = Table(("a|b", "<i>"), (("<img src=x onerror=alert(1)>", "2\n3"),))
    text = to_markdown(report(Heading("<b>x</b>"), Text("1 < 2 & `a<b>c`"), table))
    assert "<b>" not in text.replace("`a<b>c`", "")
    assert "<img" not in text
    assert "1 &lt; 2 &amp; `a<b>c`" in text
    assert r"| a\|b | &lt;i> |" in text
    assert "| 2 3 |" in text
    page = to_html(report(table))
    assert "<img src=x" not in page
    assert "<title>A &lt;title&gt;</title>" in page


def test_every_table_of_a_page_scrolls_by_itself():
    wide = Table(tuple(f"column {i}" for i in range(60)), (("cell",) * 60,))
    page = to_html(report(Heading("x"), wide, wide))
    assert page.count("<table>") == page.count('<div class="wide" tabindex="0"><table>') == 2
    assert ".wide{overflow-x:auto;max-width:100%" in page


def test_each_form_shows_what_it_can():
    series = (plot.Series("s", [1, 2], [3, 4]),)
    bars = [Bars(f"b{i}", "px", "means", (0, 1, 2), (0.5, 0.5), (0.1, 0.9), 1.0, 2.0) for i in "ab"]
    sketches = (Sketch([[(0, 0), (9, 9)]], "cat"),)
    whole = report(
        Text("one\n\ntwo", warning=True),
        Bullets(("first", "second")),
        Plot("curve.png", series, "curve"),
        *bars,
        Page("at random", sketches),
        Counts("confusions", ("a", "b"), ((3, 1), (0, 0))),
        data=Table(("x", "y"), (("1,5", 'say "hi"'),)),
    )
    markdown, page, text = to_markdown(whole), to_html(whole), to_text(whole)
    assert "![curve.png](curve.png)" in markdown
    assert "| ba | px | 1 | 2 | means |\n| bb | px" in markdown
    assert page.count("<figure>") == 2
    assert page.count('<div class="bars">') == 1
    assert "a seen as b: 1 of 4" in page
    assert "Warning: one" in markdown
    assert text.startswith("warning: one")
    assert encode(whole, ".csv") == b'x,y\n"1,5","say ""hi"""\n'
    with pytest.raises(UserError, match=r"one of \.md"):
        encode(whole, ".pdf")
    with pytest.raises(UserError, match=r"one of \.md"):
        encode(report(), ".csv")


def test_a_folder_holds_every_file(tmp_path):
    whole = report(Plot("c.png", (plot.Series("s", [1, 2], [3, 4]),)), data=Table(("a",), ()))
    paths = write_folder(whole, tmp_path / "new", timing_csv=b"t\n")
    assert {p.name for p in paths} == {
        *("results.md", "results.csv", "timing.csv", "report.html", "c.png"),
    }
    assert {p.name for p in (tmp_path / "new").iterdir()} == {p.name for p in paths}
    assert (tmp_path / "new" / "timing.csv").read_bytes() == b"t\n"
