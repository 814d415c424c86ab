"""What the page and the server say to each other; docs/studio.md describes it.

A message comes as JSON. A point is ``[x, y]`` in px, y pointing down; a stroke is a list of points;
a drawing is a list of strokes in drawing order. Whoever adds to a message leaves :data:`VERSION`;
whoever changes what is there raises it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sketchknitter.io.records import digits_for
from sketchknitter.sketch import Array, Sketch

VERSION = 1
MAX_STROKES = 500  # of one drawing
MAX_POINTS = 20_000  # of one drawing
FARTHEST = 1e6  # px: no coordinate lies farther out
MAX_SEED = 2**32 - 1

Coordinate = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST, allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]
Stroke = Annotated[list[Point], Field(min_length=1, max_length=MAX_POINTS)]
Strokes = Annotated[list[Stroke], Field(min_length=1, max_length=MAX_STROKES)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Label = Annotated[str, Field(max_length=100)]
Millimeters = Annotated[float, Field(gt=0, le=5000, allow_inf_nan=False)]


class Message(BaseModel):
    """What every message has."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    v: Literal[1] = 1
    """version of the messages"""


def _sketch(strokes: list[list[Point]], label: str | None = None) -> Sketch:
    return Sketch([np.array(s) for s in strokes], label)


def _check_points(strokes: list[list[Point]]) -> None:
    count = sum(len(s) for s in strokes)
    if count > MAX_POINTS:
        raise ValueError(f"a drawing of {count} points; at most {MAX_POINTS} are taken")


class Guess(Message):
    """Which class a drawing shows, or will show."""

    strokes: Strokes
    finished: bool = False
    """whether nothing is missing"""

    @model_validator(mode="after")
    def _points(self) -> Guess:
        _check_points(self.strokes)
        return self

    def sketch(self) -> Sketch:
        return _sketch(self.strokes)


class Asked(Message):
    """What every request to draw has."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    """same seed, same answer"""
    frames: bool = True
    """whether to send the drawings as they stand while noise is removed"""


class Complete(Asked):
    """Endings of an unfinished drawing."""

    strokes: Strokes
    n: Annotated[int, Field(ge=1, le=12)] = 6
    """how many endings"""
    label: Label | None = "guess"
    """a class, "guess", or null for no class at all"""
    where: Literal["end", "start", "anywhere"] = "end"
    """where in the drawing order something is missing"""
    tidy: Share = 0.0
    """how strongly what was drawn is healed first; 0 leaves it untouched"""
    keep: Annotated[list[int], Field(max_length=MAX_STROKES)] = []
    """strokes that stay exactly as they are even so, counted from 0"""

    @model_validator(mode="after")
    def _points(self) -> Complete:
        _check_points(self.strokes)
        _check_keep(self.keep, self.strokes)
        return self

    def sketch(self) -> Sketch:
        return _sketch(self.strokes)


class Heal(Asked):
    """A clumsy drawing, redrawn."""

    strokes: Strokes
    strength: Share = 0.3
    """0 is the drawing itself; at 1 hardly anything binds"""
    keep: Annotated[list[int], Field(max_length=MAX_STROKES)] = []
    """strokes that stay exactly as they are, counted from 0"""
    label: Label | None = "guess"
    """a class (another one turns the drawing into it), "guess", or null"""

    @model_validator(mode="after")
    def _points(self) -> Heal:
        _check_points(self.strokes)
        _check_keep(self.keep, self.strokes)
        return self

    def sketch(self) -> Sketch:
        return _sketch(self.strokes)


class Vary(Asked):
    """Variations of a drawing."""

    strokes: Strokes
    n: Annotated[int, Field(ge=1, le=12)] = 9
    strength: Share = 0.5
    """how far they stray"""
    label: Label | None = "guess"

    @model_validator(mode="after")
    def _points(self) -> Vary:
        _check_points(self.strokes)
        return self

    def sketch(self) -> Sketch:
        return _sketch(self.strokes)


class Interpolate(Asked):
    """The drawings between two drawings, both included."""

    a: Strokes
    b: Strokes
    n: Annotated[int, Field(ge=3, le=17)] = 9
    label_a: Label | None = "guess"
    label_b: Label | None = "guess"

    @model_validator(mode="after")
    def _points(self) -> Interpolate:
        _check_points(self.a)
        _check_points(self.b)
        return self

    def sketches(self) -> tuple[Sketch, Sketch]:
        return _sketch(self.a), _sketch(self.b)


class Sample(Asked):
    """New drawings."""

    label: Label | None = None
    """a class; null takes the usual classes in turn"""
    n: Annotated[int, Field(ge=1, le=24)] = 9


class Paper(Message):
    """A sheet for a pen plotter, mm."""

    width: Millimeters
    height: Millimeters
    margin: Annotated[float, Field(ge=0, le=2500, allow_inf_nan=False)] = 10.0
    pen: Millimeters = 0.3
    """width of the lines"""

    @model_validator(mode="after")
    def _room(self) -> Paper:
        if 2 * self.margin >= min(self.width, self.height):
            raise ValueError("the margins leave no paper")
        return self


class Export(Message):
    """A drawing as a file."""

    strokes: Strokes
    format: Literal["svg", "png", "gif", "ndjson"]
    label: Label | None = None
    size: Annotated[int, Field(ge=16, le=2048)] = 512
    """longer side of a picture, px"""
    width: Annotated[float, Field(gt=0, le=0.2, allow_inf_nan=False)] = 0.01
    """of the lines, as a share of the longer side"""
    seconds: Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)] = 4.0
    """how long a GIF draws"""
    paper: Paper | None = None
    """a sheet to place an SVG on"""

    @model_validator(mode="after")
    def _points(self) -> Export:
        _check_points(self.strokes)
        return self

    def sketch(self) -> Sketch:
        return _sketch(self.strokes, self.label)


class Film(Message):
    """Frames of one drawing as an animated file."""

    frames: Annotated[list[list[Stroke]], Field(min_length=1, max_length=120)]
    format: Literal["gif", "svg"] = "gif"
    size: Annotated[int, Field(ge=16, le=1024)] = 384
    seconds: Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)] = 3.0

    @model_validator(mode="after")
    def _points(self) -> Film:
        for frame in self.frames:
            _check_points(frame)
        return self

    def sketches(self) -> list[Sketch]:
        return [_sketch(frame) for frame in self.frames]


def _check_keep(keep: list[int], strokes: list[list[Point]]) -> None:
    if bad := [i for i in keep if not 0 <= i < len(strokes)]:
        raise ValueError(f"no stroke {bad[0]} to keep: strokes are 0 to {len(strokes) - 1}")


# -- reading -------------------------------------------------------------------------------------
class BadMessage(Exception):
    """A message that cannot be obeyed, with the place of the fault and what is wrong there."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


M = TypeVar("M", bound=BaseModel)


def parse(kind: type[M], body: bytes) -> M:
    """A message of a kind, from JSON.

    Raises:
        BadMessage: no JSON, a field missing, unknown or out of range.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:6])
        raise BadMessage(first["msg"].removeprefix("Value error, ")[:300], where) from None


# -- answers -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Event:
    """One event of an answer; its name on the wire is the class's, in lower case."""

    def encode(self) -> bytes:
        """As a server-sent event."""
        name = type(self).__name__.lower().encode()
        return b"event: " + name + b"\ndata: " + orjson.dumps(self) + b"\n\n"


@dataclass(frozen=True)
class Queued(Event):
    """The request waits for its turn."""

    ahead: int
    """how many requests are served before"""
    v: int = VERSION


@dataclass(frozen=True)
class Likely:
    """A class and its probability."""

    label: str
    p: float


@dataclass(frozen=True)
class Guessed(Event):
    """What the drawing is taken for: the three likeliest classes."""

    classes: list[Likely]
    sure: bool
    """whether the first of them is likelier than not"""


@dataclass(frozen=True)
class Drawing:
    """A drawing on the wire.

    Attributes:
        index: its number in the answer, from 0.
        strokes: in drawing order.
        new: which of the strokes were not in the request.
        label: what it shows, if known.
    """

    index: int
    strokes: list[list[list[float]]]
    new: list[int]
    label: str | None = None


@dataclass(frozen=True)
class Frame(Event):
    """The drawings as they stand after one more evaluation of the network."""

    drawings: list[Drawing]
    evaluation: int


@dataclass(frozen=True)
class Drawn(Event):
    """One finished drawing of the answer."""

    drawing: Drawing
    of: int
    """how many there will be"""
    seed: int


@dataclass(frozen=True)
class Done(Event):
    """The answer is complete."""

    seconds: float
    evaluations: int
    seed: int


@dataclass(frozen=True)
class Error(Event):
    """The request cannot be obeyed, or is not obeyed any further."""

    code: str
    message: str
    where: str = ""
    v: int = field(default=VERSION)


def error_body(error: Error) -> bytes:
    """An error as the body of an answer that is no stream."""
    return orjson.dumps(error)


def drawing(index: int, sketch: Sketch, source: Sketch | None = None, fine: bool = True) -> Drawing:
    """A sketch on the wire; strokes of ``source`` keep every digit, new ones are rounded."""
    old = {s.tobytes() for s in source.strokes} if source is not None else set()
    extent = sketch.extent if sketch.num_points else 0.0
    digits = digits_for(extent) if fine else max(0, digits_for(extent) - 1)
    strokes, new = [], []
    for i, stroke in enumerate(sketch.strokes):
        if stroke.tobytes() in old:
            strokes.append(stroke.tolist())
        else:
            new.append(i)
            strokes.append(_rounded(stroke, digits))
    return Drawing(index, strokes, new, sketch.label)


def _rounded(stroke: Array, digits: int) -> list[list[float]]:
    """Points rounded, those that fall together left out."""
    points = np.round(stroke, digits) + 0.0
    moved = np.append(True, np.any(np.diff(points, axis=0) != 0, axis=1))
    return points[moved].tolist()
