"""What the verbs that take a person's own drawing have in common."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sketchknitter.cli.process import use_threads
from sketchknitter.errors import UserError

if TYPE_CHECKING:
    from sketchknitter.diffusion.sampler import Frame
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.editing.posing import Where
    from sketchknitter.sketch import Sketch

NOT_NAMED = "guess"
MANY_POINTS = 1000  # above which a person is warned that the model sees a simplified copy
MANY_STROKES = 48  # above which it does not see all of them
MANY_CLASSES = 6  # classes named in one line


@dataclass(frozen=True)
class Drawing:
    """Options of every verb that starts from a drawing."""

    label: Annotated[str, tyro.conf.arg(name="class", metavar="CLASS")] = NOT_NAMED
    """what it is or shall become; "guess" (the file's own word, or the likeliest) or "none" """
    seed: int = 0
    """same seed, same result"""
    model_path: str = ""
    """a .safetensors file, a run's folder, a hub id; nothing (or shipped) is the shipped model"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


@dataclass(frozen=True)
class Method:
    """Which way a drawing is edited."""

    method: Literal["auto", "guided"] = "auto"
    """auto (one plain run, where the model was trained for it) or guided (the paper's way)"""


def load(options: Drawing) -> SketchKnitter:
    """The model asked for."""

    from sketchknitter.cli.process import pick_device
    from sketchknitter.editing.model import SketchKnitter

    use_threads(options.threads)
    return SketchKnitter.from_pretrained(options.model_path or None, pick_device(options.device))


def read(path: str) -> Sketch:
    """The drawing of a file, refused before any model is loaded when nothing can be made of it.

    Raises:
        UserError: it cannot be read, or is empty or a dot.
    """
    from sketchknitter import io
    from sketchknitter.data.outline import check

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sketch = io.read_one(path)
    for warning in caught:
        print(f"note: {warning.message}", file=sys.stderr)
    check(sketch, path)
    if sketch.num_points > MANY_POINTS:
        print(
            f"note: {path} has {sketch.num_points} points; the model sees a simplified copy",
            file=sys.stderr,
        )
    if len(sketch) > MANY_STROKES:
        print(
            f"note: {path} has {len(sketch)} strokes; the model sees the longest, the others stay",
            file=sys.stderr,
        )
    return sketch


def write(sketches: Sequence[Sketch], path: str, **options: Any) -> None:
    """Write results; in ndjson and npz with all the digits that kept strokes need."""
    from sketchknitter import io

    suffix = Path(path).suffix.lower()
    if suffix == ".ndjson":
        options = {"decimals": digits(sketches)}
    elif suffix == ".svg" and "sheet" not in options:
        # one drawing keeps its coordinates; a page has cells of its own
        options |= {"decimals": digits(sketches)} if len(sketches) == 1 else {}
    elif suffix == ".npz":
        options = {}
    io.write(sketches, path, **options)


def write_text(text: str, path: str) -> None:
    """A text file, whole or not at all."""
    from sketchknitter.files import atomic

    with atomic(path) as f:
        f.write(text.encode())


def digits(sketches: Sequence[Sketch]) -> int:
    """Decimals that keep a thousandth of a px, and a millionth of a small drawing."""
    import math

    extent = max(s.extent for s in sketches)
    return int(min(15, max(4, 6 - math.floor(math.log10(extent)))))


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[Frame], None]]:
    """A callback for ``watch`` that moves a bar on stderr; silent where nobody looks."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, leave=False, disable=not sys.stderr.isatty()) as bar:

        def step(frame: Frame) -> None:
            bar.update(1)

        yield step


class Clock:
    """Seconds since it was made, for the last line on stdout."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __str__(self) -> str:
        return f"{time.perf_counter() - self.start:.1f} s"


def taken_for(
    model: SketchKnitter,
    what: Drawing,
    sketch: Sketch,
    found: Sequence[str | None],
    where: Where | None = None,
) -> str:
    """What a drawing was taken for, in words.

    Args:
        found: class of each result, None is no class.
        where: something is missing of the drawing; None where nothing is.
    """
    from sketchknitter.editing.classify import label_index
    from sketchknitter.editing.plain import guess_of

    names = [name or "no class" for name in dict.fromkeys(found)]
    words = "without a class"
    if names != ["no class"]:
        words = f"as {', '.join(names[:MANY_CLASSES])}"
    if len(names) > MANY_CLASSES:
        words += f" and {len(names) - MANY_CLASSES} more"
    if what.label != NOT_NAMED:
        return words
    if label_index(model, NOT_NAMED, sketch) is not None:  # not guessed
        return f"{words} (the file's own word; --class names another)" if sketch.label else words
    method = what.method if isinstance(what, Method) else "guided"
    if (guess := guess_of(model, sketch, where, method)) is not None:
        return f"{words} ({guess}; --class names one)"
    return f"{words} (guessed; --class names another)"


def svg_text(source: str) -> str:
    """The text of an SVG file that strokes can be added to.

    Raises:
        UserError: the file is no SVG in UTF-8, or does not end in </svg>.
    """
    needs = f"{source}: --inside needs an .svg file"
    if Path(source).suffix.lower() != ".svg":
        raise UserError(needs)
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{needs} in UTF-8") from None
    if "svg" not in text[max(0, text.rfind("</")) :]:
        raise UserError(f"{needs} that ends in </svg>")
    return text


def into_svg(
    text: str, source: str, new: Sequence[Any], extent: float, color: str = "black"
) -> str:
    """The text of an SVG file with strokes (n, 2) added on top, everything else as it was.

    Args:
        text: of the file (:func:`svg_text`).
        source: the file, which our reader has accepted; the strokes are in the px it reads.
        extent: the drawing's longer side, px; lines are a hundredth as wide.
    """
    from sketchknitter.io.svg_read import viewport
    from sketchknitter.io.svg_write import stroke_svg

    end = text.rfind("</")
    view = ""
    if 'data-units="px"' not in text:
        # what is read are px of the viewport; the file counts in units of its viewBox
        a, _, _, d, e, f = viewport(source)  # a viewBox scales and shifts, no more
        view = f' transform="matrix({1 / a:g},0,0,{1 / d:g},{-e / a:g},{-f / d:g})"'
    width = 0.01 * extent
    # the file may call its own elements by a prefix
    style = 'xmlns="http://www.w3.org/2000/svg" fill="none"'
    style += ' stroke-linecap="round" stroke-linejoin="round"'
    body = "".join(stroke_svg(s, 6) for s in new)
    group = f'<g {style} stroke="{color}" stroke-width="{width:g}"{view}>{body}</g>\n'
    return text[:end] + group + text[end:]


def parse(kind: type, verb: str, description: str, argv: list[str]) -> Any:
    """Options of a verb from the command line."""
    return tyro.cli(
        kind,
        args=argv,
        prog=f"sketchknitter {verb}",
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
    )
