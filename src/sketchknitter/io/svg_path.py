"""Outlines of SVG shapes as moves, lines and cubic curves, and these as polylines.

Everything becomes one of three segments in flat lists, so that a file of 300,000 moves costs no
more than its characters do; arcs are cubics of at most 45 degrees, off by 4e-6 of their radius.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sketchknitter.io.records import MAX_POINTS, BadDrawing

Points = NDArray[np.float64]

MOVE, LINE, CUBIC = 0, 1, 3  # codes of segments; a segment has max(code, 1) points
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_COMMAND = re.compile(r"([MmZzLlHhVvCcSsQqTtAa])([^MmZzLlHhVvCcSsQqTtAa]*)")
_BETWEEN = " ,\t\r\n\f"
_PLAIN = re.compile(r"[0-9\s,.eE+-]*")
_FAULT = re.compile(r"[^0-9\s,.eE+-]")
_GAP = re.compile(r"[\s,]*")
_TAKES = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7}
_MAX_PIECES = 1000  # lines that one curve may become


class Outline:
    """Grows segments in the units of one element.

    Attributes:
        codes: of each segment.
        coordinates: x, y of all their points after the start.
    """

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.coordinates: list[float] = []

    # -- shapes ----------------------------------------------------------------------------------
    def polyline(self, numbers: Sequence[float], closed: bool) -> None:
        """Lines through x, y, x, y …; an odd number at the end is passed over."""
        count = len(numbers) // 2
        if count:
            self.codes += [MOVE] + [LINE] * (count - 1)
            self.coordinates += numbers[: 2 * count]
            if closed:
                self._line(numbers[0], numbers[1])

    def rect(self, x: float, y: float, w: float, h: float, rx: float, ry: float) -> None:
        """A rectangle from its top left corner on; its corners rounded by ``rx``, ``ry``."""
        if not (rx > 0 and ry > 0):
            self.polyline([x, y, x + w, y, x + w, y + h, x, y + h], True)
            return
        rx, ry = min(rx, w / 2), min(ry, h / 2)
        self._move(x + rx, y)
        self._line(x + w - rx, y)
        right, bottom, left, top = x + w - rx, y + h - ry, x + rx, y + ry
        corners = ((right, top, -90), (right, bottom, 0), (left, bottom, 90), (left, top, 180))
        sides = ((x + w, y + h - ry), (x + rx, y + h), (x, y + ry), (x + rx, y))
        for (cx, cy, start), (to_x, to_y) in zip(corners, sides, strict=True):
            self._turn(cx, cy, rx, ry, 0.0, math.radians(start), math.pi / 2)
            self._line(to_x, to_y)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> None:
        """Once around from the right, clockwise on the screen."""
        self._move(cx + rx, cy)
        self._turn(cx, cy, rx, ry, 0.0, 0.0, math.tau)

    # -- path data -------------------------------------------------------------------------------
    def path(self, data: str) -> None:
        """The segments of a ``d`` attribute, up to the first fault in it, as SVG asks."""
        first = _COMMAND.search(data)
        if first is None or data[: first.start()].strip(_BETWEEN) or first[1] not in "Mm":
            return
        x = y = start_x = start_y = 0.0
        control: tuple[float, float] | None = None  # last control point, for S and T
        before, closed = "", False
        for match in _COMMAND.finditer(data):
            letter, text = match.groups()
            kind = letter.upper()
            if kind == "Z":
                self._line(start_x, start_y)
                x, y, before, closed = start_x, start_y, kind, True
                if text.strip(_BETWEEN):
                    return
                continue
            numbers, whole = _arc_numbers(text) if kind == "A" else _numbers(text)
            takes = _TAKES[kind]
            count = len(numbers) // takes
            for k in range(count):
                v = numbers[k * takes : (k + 1) * takes]
                if letter != kind and kind != "A":  # relative
                    if kind == "V":
                        v = [v[0] + y]
                    else:
                        v = [n + (y if i % 2 else x) for i, n in enumerate(v)]
                elif letter == "a":
                    v[5] += x
                    v[6] += y
                if kind == "M" and k == 0:
                    x, y = start_x, start_y = v
                    self._move(x, y)
                    before, closed = kind, False
                    continue
                if closed:  # what follows a close starts where that ended
                    self._move(x, y)
                    closed = False
                if kind in "MLHV":
                    x = v[0] if kind != "V" else x
                    y = v[-1] if kind != "H" else y
                    self._line(x, y)
                    before = "L"
                    continue
                if kind == "A":
                    self._arc(x, y, v)
                elif kind in "CS":
                    if kind == "S":
                        first_control = (x, y)
                        if before == "C" and control is not None:
                            first_control = (2 * x - control[0], 2 * y - control[1])
                        v = [*first_control, *v]
                    self._cubic(*v)
                    control = (v[2], v[3])
                else:
                    if kind == "T":
                        middle = (x, y)
                        if before == "Q" and control is not None:
                            middle = (2 * x - control[0], 2 * y - control[1])
                        v = [*middle, *v]
                    control = (v[0], v[1])
                    self._quadratic(x, y, *v)
                x, y = v[-2], v[-1]
                before = {"S": "C", "T": "Q"}.get(kind, kind)
            if not whole or len(numbers) % takes or not count:
                return

    # -- segments --------------------------------------------------------------------------------
    def _move(self, x: float, y: float) -> None:
        self.codes.append(MOVE)
        self.coordinates += (x, y)

    def _line(self, x: float, y: float) -> None:
        self.codes.append(LINE)
        self.coordinates += (x, y)

    def _cubic(self, *points: float) -> None:
        self.codes.append(CUBIC)
        self.coordinates += points

    def _quadratic(self, x0: float, y0: float, x1: float, y1: float, x2: float, y2: float) -> None:
        a, b = 2 / 3, 1 / 3
        self._cubic(x0 * b + x1 * a, y0 * b + y1 * a, x2 * b + x1 * a, y2 * b + y1 * a, x2, y2)

    def _turn(
        self, cx: float, cy: float, rx: float, ry: float, phi: float, start: float, sweep: float
    ) -> None:
        """Part of an ellipse whose x axis is turned by ``phi``; angles in radians."""
        count = max(1, math.ceil(abs(sweep) / (math.pi / 4) - 1e-9))
        step = sweep / count
        k = 4 / 3 * math.tan(step / 4)
        c, s = math.cos(phi), math.sin(phi)
        for i in range(count):
            a, b = start + i * step, start + (i + 1) * step
            local = (
                (math.cos(a) - k * math.sin(a), math.sin(a) + k * math.cos(a)),
                (math.cos(b) + k * math.sin(b), math.sin(b) - k * math.cos(b)),
                (math.cos(b), math.sin(b)),
            )
            points: list[float] = []
            for u, v in local:
                u, v = u * rx, v * ry
                points += (cx + c * u - s * v, cy + s * u + c * v)
            self._cubic(*points)

    def _arc(self, x0: float, y0: float, values: Sequence[float]) -> None:
        """From endpoints to center (SVG 1.1, appendix F.6)."""
        rx, ry, degrees, large, sweep, x1, y1 = values
        rx, ry = abs(rx), abs(ry)
        if (
            not (rx and ry)
            or (x0, y0) == (x1, y1)
            or not math.isfinite(x0 + y0 + rx + ry + x1 + y1)
        ):
            self._line(x1, y1)
            return
        phi = math.radians(degrees % 360.0) if math.isfinite(degrees) else 0.0
        c, s = math.cos(phi), math.sin(phi)
        dx, dy = (x0 - x1) / 2, (y0 - y1) / 2
        u, v = (c * dx + s * dy) / rx, (c * dy - s * dx) / ry
        apart = u * u + v * v
        if not math.isfinite(apart) or apart < 1e-300:
            self._line(x1, y1)
            return
        if apart > 1:  # too small to reach: as large as needed
            grow = math.sqrt(apart)
            rx, ry, u, v, apart = rx * grow, ry * grow, u / grow, v / grow, 1.0
        factor = math.sqrt(max(0.0, 1 / apart - 1)) * (-1 if large == sweep else 1)
        center_u, center_v = factor * v, -factor * u  # in units of the radii
        start = math.atan2(v - center_v, u - center_u)
        end = math.atan2(-v - center_v, -u - center_u)
        turn = (end - start) % math.tau
        if not sweep and turn:
            turn -= math.tau
        a, b = center_u * rx, center_v * ry
        cx, cy = c * a - s * b + (x0 + x1) / 2, s * a + c * b + (y0 + y1) / 2
        self._turn(cx, cy, rx, ry, phi, start, turn)
        self.coordinates[-2:] = (x1, y1)


def _numbers(text: str) -> tuple[list[float], bool]:
    """The numbers of a text up to the first fault, and whether there was none."""
    whole = _PLAIN.fullmatch(text) is not None
    if whole:
        with contextlib.suppress(ValueError):  # the usual way of writing them
            return list(map(float, text.replace(",", " ").split())), True
        whole = not NUMBER.sub("", text).strip(_BETWEEN)
    elif fault := _FAULT.search(text):
        text = text[: fault.start()]
    return list(map(float, NUMBER.findall(text))), whole


def numbers_of(text: str) -> list[float]:
    """The numbers of an attribute such as ``points``, up to the first fault in it."""
    return _numbers(text)[0]


def _arc_numbers(text: str) -> tuple[list[float], bool]:
    """As :func:`_numbers`, for arcs, whose two flags may stand without a gap: ``a1 1 0 01.5.5``."""
    out: list[float] = []
    at = _GAP.match(text).end()  # type: ignore[union-attr]
    while at < len(text):
        if len(out) % 7 in (3, 4):
            if text[at] not in "01":
                return out, False
            out.append(float(text[at]))
            at += 1
        else:
            match = NUMBER.match(text, at)
            if match is None:
                return out, False
            out.append(float(match[0]))
            at = match.end()
        at = _GAP.match(text, at).end()  # type: ignore[union-attr]
    return out, True


# -- to polylines --------------------------------------------------------------------------------
def flatten(codes: NDArray[np.int64], points: Points, allowed: float) -> tuple[Points, NDArray]:
    """Segments as polylines.

    Args:
        codes: (S,) of segments, beginning with a move.
        points: (P, 2) of all of them, finite.
        allowed: how far a line may stray from its curve; 0 makes every curve a line.

    Returns:
        (Q, 2) points without repeats, and (T,) how many each polyline has; a move that nothing
        follows draws nothing, a polyline without length is one point.

    Raises:
        BadDrawing: more than ``MAX_POINTS``.
    """
    sizes = np.maximum(codes, 1)
    ends = np.cumsum(sizes) - 1
    run = np.cumsum(codes == MOVE) - 1
    drawn = (np.bincount(run) > 1)[run]
    curves = np.flatnonzero(codes == CUBIC)
    # Wang's bound: sqrt(d (d - 1) / 8 * largest second difference / tolerance)
    control = points[ends[curves][:, None] + np.arange(-3, 1)]
    bend = np.hypot(*np.moveaxis(np.diff(control, n=2, axis=1), -1, 0)).max(axis=1, initial=0.0)
    pieces = np.sqrt(0.75 * bend / allowed) if allowed > 0 else np.ones(len(bend))
    count = np.ones(len(codes), np.int64)
    count[curves] = np.clip(np.ceil(pieces), 1, _MAX_PIECES)
    if count.sum() > MAX_POINTS:
        raise BadDrawing(f"more than {MAX_POINTS} points")
    starts = np.cumsum(count) - count
    out = np.repeat(points[ends], count, axis=0)
    many = np.flatnonzero(count[curves] > 1)
    if len(many):
        n = count[curves[many]]
        k = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + 1
        t = (k / np.repeat(n, n))[:, None]
        p0, p1, p2, p3 = np.moveaxis(np.repeat(control[many], n, axis=0), 1, 0)
        u = 1 - t
        place = np.repeat(starts[curves[many]], n) + k - 1
        last = k == np.repeat(n, n)
        curve = u * u * u * p0 + 3 * u * u * t * p1 + 3 * u * t * t * p2 + t * t * t * p3
        curve[last] = p3[last]
        out[place] = curve
    owner = np.repeat(run, count)
    keep = np.repeat(drawn, count)
    keep[1:] &= (owner[1:] != owner[:-1]) | (out[1:] != out[:-1]).any(axis=1)
    lengths = np.bincount(owner[keep], minlength=run[-1] + 1)
    return out[keep], lengths[lengths > 0]
