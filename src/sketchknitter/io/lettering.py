"""Captions that a pen can draw: a plain single-stroke alphabet of our own.

A glyph is a few strokes of points on a grid, two digits a point, x then y: y is 2 on the baseline,
6 at the height of small letters, 8 at that of capitals, 0 under it. A bare stroke is straight from
point to point; ``~`` marks a curve and ``o`` a closed curve whose control points these are.
"""

from __future__ import annotations

import unicodedata

import numpy as np

from sketchknitter.sketch import Array

_BASE, _CAPITAL = 2.0, 8.0  # heights on the grid
_GAP, _SPACE = 1.6, 3.0  # grid units between letters, and the width of a space
_CURVE = 6  # lines that one piece of a curve becomes

_GLYPHS = {
    "a": "o02424606 4642",
    "b": "0802 o02424606",
    "c": "~453606023243",
    "d": "4842 o02424606",
    "e": "0444 ~444606023243",
    "f": "~38181612 0626",
    "g": "o02424606 ~4642401001",
    "h": "0802 ~0406464442",
    "i": "0602 08",
    "j": "~16121000 18",
    "k": "0802 3603 1432",
    "l": "0802",
    "m": "0602 ~0406363432 ~3436666462",
    "n": "0602 ~0406464442",
    "o": "o02424606",
    "p": "0600 o02424606",
    "q": "4640 o02424606",
    "r": "0602 ~04061636",
    "s": "~3526060434321203",
    "t": "~18141232 0626",
    "u": "~0604024244 4642",
    "v": "062246",
    "w": "0612355266",
    "x": "0642 4602",
    "y": "0622 4610",
    "z": "06460242",
    "A": "023862 1454",
    "B": "0802 ~082848452505 ~052555522202",
    "C": "~574808024253",
    "D": "0802 ~082858522202",
    "E": "48080242 0535",
    "F": "480802 0535",
    "G": "~574808025255 5535",
    "H": "0802 5852 0555",
    "I": "0802",
    "J": "~4844420204",
    "K": "0802 4804 1542",
    "L": "080242",
    "M": "0208346862",
    "N": "02085258",
    "O": "o02525808",
    "P": "0802 ~082858552505",
    "Q": "o02525808 3461",
    "R": "0802 ~082858552505 2552",
    "S": "~5748080555521203",
    "T": "0848 2822",
    "U": "~080402525458",
    "V": "083268",
    "W": "0822486288",
    "X": "0852 5802",
    "Y": "082548 2522",
    "Z": "08580252",
    "0": "o02424808",
    "1": "071812",
    "2": "~0608484602 0242",
    "3": "~0708484525 ~2545420203",
    "4": "380444 3832",
    "5": "480805 ~051646421203",
    "6": "~380804 o02424606",
    "7": "084812",
    "8": "o05454808 o02424505",
    "9": "o04444808 ~464212",
    ".": "02",
    ",": "0201",
    ":": "03 06",
    ";": "0201 06",
    "…": "02 22 42",
    "-": "0434",
    "–": "0444",
    "_": "0141",
    "'": "0807",
    "’": "0807",
    '"': "0807 1817",
    "!": "0804 02",
    "?": "~070848462524 22",
    "(": "~18060311",
    ")": "~08161301",
    "/": "0138",
    "&": "~521618383604023254",
    "+": "0444 2622",
    "=": "0343 0545",
    "%": "0248 o06262808 o22424424",
}
_UNKNOWN = "0206363202"  # an empty box


def _curve(control: Array, closed: bool) -> Array:
    """The quadratic B-spline of control points, from the first to the last, or around."""
    if closed:
        control = np.vstack([control[-1], control, control[:1]])
        ends = (control[:-1] + control[1:]) / 2
    else:
        ends = (control[:-1] + control[1:]) / 2
        ends[0], ends[-1] = control[0], control[-1]
    u = np.linspace(0, 1, _CURVE, endpoint=False)[:, None]
    pieces = [
        (1 - u) ** 2 * a + 2 * u * (1 - u) * b + u**2 * c
        for a, b, c in zip(ends[:-1], control[1:-1], ends[1:], strict=True)
    ]
    return np.vstack([*pieces, ends[-1:]])


def _glyph(letter: str) -> list[Array]:
    strokes = []
    for word in _GLYPHS.get(letter, _UNKNOWN).split():
        digits = word.lstrip("~o")
        points = np.array([int(d) for d in digits], float).reshape(-1, 2)
        strokes.append(points if digits == word else _curve(points, word[0] == "o"))
    return strokes


def _plain(text: str) -> str:
    """Letters without accents that the alphabet lacks, lines and tabs as spaces."""
    bare = []
    for letter in unicodedata.normalize("NFC", " ".join(text.split())):
        known = letter in _GLYPHS or letter == " "
        parts = letter if known else unicodedata.normalize("NFKD", letter)
        bare += [c for c in parts if known or not unicodedata.combining(c)]
    return "".join(bare)


def lettering(text: str, height: float) -> list[Array]:
    """A line of text as strokes.

    Args:
        text: any; a letter outside the alphabet loses its accents, or is an empty box.
        height: of a capital, in the unit of the result.

    Returns:
        Strokes (n, 2), y pointing down, from (0, -height) along the baseline y = 0; none for
        empty text.
    """
    scale = height / (_CAPITAL - _BASE)
    out: list[Array] = []
    x = 0.0
    for letter in _plain(text):
        if letter == " ":
            x += _SPACE
            continue
        strokes = _glyph(letter)
        out += [(s * [1, -1] + [x, _BASE]) * scale for s in strokes]
        x += max(float(s[:, 0].max()) for s in strokes) + _GAP
    return out
