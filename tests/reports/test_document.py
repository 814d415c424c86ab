"""Pictures in reports."""

import io

import numpy as np
from PIL import Image

from sketchknitter import plot
from sketchknitter.reports.document import as_png


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
