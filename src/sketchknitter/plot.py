"""Small line plots drawn with Pillow: enough to see a loss curve without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

COLORS = (
    *("#9db4c8", "#1f5f99", "#c8501e", "#3c8c40", "#7a4fa3", "#666666", "#d9a520", "#d1639a"),
    *("#2aa7a7", "#8c5a2b", "#9acd32", "#111111", "#e57373", "#5c6bc0", "#b39ddb", "#bbbbbb"),
)
_INK, _GRID = "#333333", "#dddddd"
Box = tuple[float, float, float, float]
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_SCALE = 2  # drawn twice as large and reduced, which smooths the lines


@dataclass(frozen=True)
class Series:
    """One line of a plot; points that are not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def points(self, log_x: bool = False, log_y: bool = False) -> list[tuple[float, float]]:
        pairs = zip(self.x, self.y, strict=True)
        return [
            (float(a), float(b))
            for a, b in pairs
            if math.isfinite(a)
            and math.isfinite(b)
            and (a > 0 or not log_x)
            and (b > 0 or not log_y)
        ]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within low … high."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(
    series: Sequence[Series],
    *,
    title: str = "",
    x_name: str = "",
    y_name: str = "",
    log_x: bool = False,
    log_y: bool = False,
    size: tuple[int, int] = (760, 440),
) -> Image.Image:
    """A plot of several lines with axes and a legend, as an RGB image of ``size`` px.

    Args:
        series: lines, drawn in order; without a finite point a line is only named.
        log_x, log_y: logarithmic axes; values <= 0 are left out.
    """
    width, height = size[0] * _SCALE, size[1] * _SCALE
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(12 * _SCALE)
    drawn = [s.points(log_x, log_y) for s in series]
    box = (64 * _SCALE, 34 * _SCALE, width - 16 * _SCALE, height - 46 * _SCALE)
    place = _axes(pen, font, box, [p for points in drawn for p in points], (log_x, log_y))
    for i, points in enumerate(drawn):
        color = COLORS[i % len(COLORS)]
        spots = [place(*p) for p in points]
        if len(spots) > 1:
            pen.line(spots, fill=color, width=round(1.6 * _SCALE), joint="curve")
        if 0 < len(spots) <= 60:
            for x, y in spots:
                r = 2.2 * _SCALE
                pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
    pen.text((box[0], 8 * _SCALE), title, fill=_INK, font=ImageFont.load_default(14 * _SCALE))
    pen.text((box[2], height - 8 * _SCALE), x_name, fill=_INK, font=font, anchor="rs")
    pen.text((6 * _SCALE, 14 * _SCALE), y_name, fill=_INK, font=font)
    _legend(pen, font, box, [s.name for s in series])
    return page.resize(size, Image.Resampling.LANCZOS)


def _axes(
    pen: ImageDraw.ImageDraw,
    font: Font,
    box: Box,
    points: Sequence[tuple[float, float]],
    logs: tuple[bool, bool],
) -> Callable[[float, float], tuple[float, float]]:
    """Draws grid and numbers; returns (x, y) -> pixel."""
    left, top, right, bottom = box
    warp_x, warp = (math.log10 if log else float for log in logs)
    xs, ys = (
        [warp_x(p[0]) for p in points] or [0.0, 1.0],
        [warp(p[1]) for p in points] or [0.0, 1.0],
    )
    x0, x1 = min(xs), max(xs)
    y0, y1 = min(ys), max(ys)
    pad = 0.05 * (y1 - y0) or 0.5
    y0, y1 = y0 - pad, y1 + pad
    x1 = x1 if x1 > x0 else x0 + 1

    def across(x: float) -> float:
        return left + (x - x0) / (x1 - x0) * (right - left)

    def down(y: float) -> float:
        return bottom - (y - y0) / (y1 - y0) * (bottom - top)

    for value in _marks(x0, x1, logs[0]):
        x = across(warp_x(value))
        pen.line([(x, top), (x, bottom)], fill=_GRID, width=_SCALE)
        pen.text((x, bottom + 4 * _SCALE), f"{value:,.6g}", fill=_INK, font=font, anchor="ma")
    for value in _marks(y0, y1, logs[1]):
        y = down(warp(value))
        pen.line([(left, y), (right, y)], fill=_GRID, width=_SCALE)
        pen.text((left - 5 * _SCALE, y), f"{value:.4g}", fill=_INK, font=font, anchor="rm")
    pen.line([(left, top), (left, bottom), (right, bottom)], fill=_INK, width=_SCALE)
    return lambda x, y: (across(warp_x(x)), down(warp(y)))


def _marks(low: float, high: float, log: bool) -> list[float]:
    """Round values between two ends of an axis, which are exponents on a logarithmic one."""
    if not log:
        return ticks(low, high)
    if high - low <= 1:  # within a power of ten there are still round values
        return [v for v in ticks(10**low, 10**high) if v > 0]
    powers = range(math.floor(low), math.ceil(high) + 1)
    round_ones = [(m * 10.0**k, math.log10(m) + k) for k in powers for m in (1, 2, 5)]
    return [value for value, place in round_ones if low - 1e-9 <= place <= high + 1e-9]


def _legend(pen: ImageDraw.ImageDraw, font: Font, box: Box, names: Sequence[str]) -> None:
    right, y = box[2], box[1] + 10 * _SCALE
    for i, name in enumerate(names):
        pen.text((right - 6 * _SCALE, y), name, fill=_INK, font=font, anchor="rm")
        x = right - 12 * _SCALE - pen.textlength(name, font=font)
        color = COLORS[i % len(COLORS)]
        pen.line([(x - 22 * _SCALE, y), (x, y)], fill=color, width=round(2.4 * _SCALE))
        y += 17 * _SCALE
