"""Unpicked drawings of every row side by side, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sketchknitter.raster import render
from sketchknitter.sketch import Sketch

CELL, LEFT, COLUMNS = 84, 250, 12  # px, px, drawings of each row


def sheet(rows: Sequence[tuple[str, Sequence[Sketch]]]) -> Image.Image:
    """A gray picture: a name and up to twelve drawings for each row."""
    page = Image.new("L", (LEFT + COLUMNS * CELL, max(1, len(rows)) * CELL), 255)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for k, (name, sketches) in enumerate(rows):
        top = k * CELL
        pen.text((LEFT - 10, top + CELL // 2), name, fill=40, font=font, anchor="rm")
        for i, sketch in enumerate(sketches[:COLUMNS]):
            picture: np.ndarray = render(sketch, CELL - 6)
            page.paste(Image.fromarray(picture), (LEFT + i * CELL + 3, top + 3))
        pen.line([(0, top), (page.width, top)], fill=225)
    return page
