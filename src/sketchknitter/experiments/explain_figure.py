"""The shortcut's evidence as one picture: curves over t, chosen steps, drawings along the way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sketchknitter.errors import UserError
from sketchknitter.experiments.explain import Evidence, across_levels, document
from sketchknitter.files import atomic
from sketchknitter.raster import render
from sketchknitter.reports.document import encode
from sketchknitter.sketch import Sketch

SCALE = 2  # drawn twice as large, then averaged down
WIDTH, LEFT, RIGHT, TOP, HEIGHT, CELL = 1100, 70, 30, 64, 380, 108
COLUMNS = 12  # of pictures, at most
INK, GRAY, PALE = (30, 30, 30), (120, 120, 120), (225, 225, 225)
COLORS = {
    "mean |eps| still estimated": (200, 60, 50),
    "accuracy on the predicted drawing": (30, 100, 190),
    "accuracy on the noisy drawing": (110, 160, 60),
    "recognizability score": (130, 80, 170),
}
Floats = NDArray[np.float64]


SUFFIXES = (".png", ".md", ".html", ".csv")


def check_output(path: str | os.PathLike[str]) -> None:
    """Refuse a file that :func:`save` could not write, before a long computation.

    Raises:
        UserError: another suffix, or no such folder.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise UserError(f"{target}: the evidence is written as one of {', '.join(SUFFIXES)}")
    if not target.parent.is_dir():
        raise UserError(f"{target}: no such folder: {target.parent}; make it first")


def save(evidence: Evidence, path: str | os.PathLike[str]) -> None:
    """The figure (.png), or the report with it (.md with the figure beside, .html, .csv).

    Raises:
        UserError: as :func:`check_output`.
    """
    check_output(path)
    target = Path(path)
    report = document(evidence, draw(evidence))
    files = {target: b""}
    if target.suffix.lower() == ".png":
        files[target] = next(iter(report.pictures().values()))
    else:
        files[target] = encode(report, target.suffix.lower())
    if target.suffix.lower() == ".md":
        files |= {target.parent / name: content for name, content in report.pictures().items()}
    for place, content in files.items():
        with atomic(place) as f:
            f.write(content)


def draw(evidence: Evidence) -> Image.Image:
    """The figure, mode RGB."""
    shown = sorted(evidence.pictures, reverse=True)
    if len(shown) > COLUMNS:
        shown = [shown[round(k)] for k in np.linspace(0, len(shown) - 1, COLUMNS)]
    rows = min(3, len(next(iter(evidence.pictures.values()))))
    base = TOP + HEIGHT + 40 + 22 * len(evidence.marks) + 30
    page = _Page(WIDTH, base + rows * 2 * CELL + 30)
    _curves(page, evidence)
    cell = min(CELL, (WIDTH - LEFT - RIGHT) // len(shown))
    for k, t in enumerate(shown):
        x = LEFT + k * cell
        page.text(x + cell / 2, base - 18, f"t = {t}", 14, INK, "mm")
        for row in range(rows):
            for half, sketch in enumerate(evidence.pictures[t][row]):
                page.paste(sketch, x, base + (2 * row + half) * CELL, cell - 8)
    for row in range(rows):
        page.text(LEFT - 8, base + (2 * row + 0.5) * CELL, "x_t", 14, GRAY, "rm")
        page.text(LEFT - 8, base + (2 * row + 1.5) * CELL, "x_0", 14, GRAY, "rm")
    return page.done()


def _curves(page: _Page, evidence: Evidence) -> None:
    total = len(evidence.warp)

    def x(t: float) -> float:
        # the square root makes room for the small t, where most marks are
        return LEFT + (WIDTH - LEFT - RIGHT) * (1 - (t / (total - 1)) ** 0.5)

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - value)

    for value in np.linspace(0, 1, 6):
        page.line([(LEFT, y(value)), (WIDTH - RIGHT, y(value))], PALE)
        page.text(LEFT - 8, y(value), f"{value:.1f}", 14, GRAY, "rm")
    for part in (1.0, 0.8, 0.55, 0.35, 0.2, 0.1, 0.05, 0.02, 0.005, 0.0):
        t = part * (total - 1)
        page.text(x(t), TOP + HEIGHT + 14, f"{t:.0f}", 14, GRAY, "mm")
    curves = dict(
        zip(
            COLORS,
            (
                evidence.noise,
                evidence.right["estimate"],
                evidence.right["state"],
                evidence.score,
            ),
            strict=True,
        )
    )
    for name, values in curves.items():
        mean = values.mean(axis=1)
        error = 1.96 * values.std(axis=1) / values.shape[1] ** 0.5
        low, high = np.clip(mean - error, 0, 1), np.clip(mean + error, 0, 1)
        rim = [(x(t), y(v)) for t, v in zip(evidence.t, high, strict=True)]
        rim += [(x(t), y(v)) for t, v in zip(evidence.t[::-1], low[::-1], strict=True)]
        page.area(rim, COLORS[name])
    for name, values in curves.items():
        mean = np.clip(values.mean(axis=1), 0, 1)
        page.line([(x(t), y(v)) for t, v in zip(evidence.t, mean, strict=True)], COLORS[name], 2)
    left = float(LEFT)
    for name, color in COLORS.items():
        page.line([(left, 44), (left + 22, 44)], color, 3)
        left += 28 + page.text(left + 28, 44, name, 14, INK, "lm") + 26
    title = "What the model still estimates as noise, and how recognizable its drawings already are"
    page.text(LEFT, 18, title, 17, INK, "lm")
    r = across_levels(evidence.noise, evidence.right["estimate"])
    page.text(WIDTH - RIGHT - 6, TOP + HEIGHT - 14, f"r = {r} over t", 14, INK, "rm")
    for k, (steps, levels) in enumerate(evidence.marks.items()):
        at = TOP + HEIGHT + 40 + 22 * k
        page.text(LEFT - 8, at, f"S = {steps}", 14, GRAY, "rm")
        for t in levels:
            page.dot(x(t), at, 3.5, INK)


class _Page:
    """A canvas in px that is drawn larger and averaged down."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), "white")
        self.pen = ImageDraw.Draw(self.image, "RGBA")

    def line(
        self, points: list[tuple[float, float]], color: tuple[int, int, int], width: float = 1
    ) -> None:
        flat = [(SCALE * x, SCALE * y) for x, y in points]
        self.pen.line(flat, color, round(SCALE * width), joint="curve")

    def area(self, points: list[tuple[float, float]], color: tuple[int, int, int]) -> None:
        self.pen.polygon([(SCALE * x, SCALE * y) for x, y in points], (*color, 36))

    def dot(self, x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
        box = [SCALE * v for v in (x - radius, y - radius, x + radius, y + radius)]
        self.pen.ellipse(box, color)

    def text(
        self, x: float, y: float, text: str, size: int, color: tuple[int, int, int], anchor: str
    ) -> float:
        """Write; returns the width in px."""
        font = ImageFont.load_default(size * SCALE)
        self.pen.text((SCALE * x, SCALE * y), text, color, font, anchor)
        return self.pen.textlength(text, font) / SCALE

    def paste(self, sketch: Sketch, x: float, y: float, size: int) -> None:
        picture = Image.fromarray(render(sketch, size * SCALE, width=0.02))
        self.image.paste(picture.convert("RGB"), (round(SCALE * x), round(SCALE * y)))

    def done(self) -> Image.Image:
        return self.image.reduce(SCALE)
