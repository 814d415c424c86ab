"""``sketchknitter complete``: a person's unfinished drawing, finished in several ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sketchknitter.cli import edits
from sketchknitter.cli.paper import Paper
from sketchknitter.errors import UserError
from sketchknitter.settings import Completing

DESCRIPTION = """Finish an unfinished drawing, n times; what was drawn stays as it is.

Reads any drawing file; the suffix of -o picks the format: .svg .png .npz .ndjson hold all endings
(a page in .svg and .png), .gif draws them.

examples:
  sketchknitter complete half.svg -n 6 -o done.svg
  sketchknitter complete half.svg -n 6 --class face --seed 3 -o done.ndjson
  sketchknitter complete tail.svg --where start -o whole.svg
  sketchknitter complete half.svg -n 1 --inside -o poster.svg
  sketchknitter complete half.svg -n 6 --paper A4 --landscape -o plot.svg
  sketchknitter complete rough.svg --heal 0.2 -o clean.svg
"""


@dataclass(frozen=True)
class CompleteOptions(edits.Drawing, edits.Method):
    """What to finish, and how."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")] = tyro.MISSING
    """the unfinished drawing"""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 6
    """how many endings"""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "completed.svg"
    """file to write"""
    where: Literal["end", "start", "anywhere"] = "end"
    """where in the drawing order something is missing"""
    goes_on: bool = False
    """strokes that were drawn may be continued, since parts of them are missing; where something is
    missing anywhere they always may"""
    more: int | None = None
    """points to add; the model decides unless this says otherwise"""
    heal: float = 0.0
    """redraw what was drawn as well, this strongly, 0 … 1"""
    inside: bool = False
    """.svg, with -n 1: add the new strokes to the file as it is, everything else in it stays"""
    captions: bool = False
    """write the class under each ending of a page"""


@dataclass(frozen=True)
class Complete:
    """All options, in groups."""

    what: CompleteOptions = field(default_factory=CompleteOptions)
    how: Completing = field(default_factory=Completing)
    paper: Paper = field(default_factory=Paper)


def run(argv: list[str]) -> None:
    """Finish the drawing as ``argv`` says, write the endings and say what they are."""
    options: Complete = edits.parse(Complete, "complete", DESCRIPTION, argv)
    what = options.what
    _check(what)
    paper = options.paper.options(what.output)
    if paper and what.inside:
        raise UserError("--inside keeps the file's own page; leave --paper out")
    sketch = edits.read(what.file)
    page = edits.svg_text(what.file) if what.inside else ""
    model = edits.load(what)
    from sketchknitter.editing.complete import complete
    from sketchknitter.editing.plain import evaluations
    from sketchknitter.metrics.spread import spread_of

    clock = edits.Clock()
    total = evaluations(model, options.how, what.method, what.n)
    with edits.progress(total, "complete") as watch:
        done = complete(
            model,
            sketch,
            what.n,
            label=what.label,
            where=what.where,
            goes_on=what.goes_on or None,
            heal=what.heal,
            more=what.more,
            seed=what.seed,
            method=what.method,
            watch=watch,
            **vars(options.how),
        )
    if what.inside:
        old = {s.tobytes() for s in sketch.strokes}
        new = [s for s in done[0].strokes if s.tobytes() not in old]
        edits.write_text(edits.into_svg(page, what.file, new, sketch.extent), what.output)
    else:
        edits.write(done, what.output, captions=what.captions, **paper)
    apart = ""
    if what.n > 1:
        kept = None if what.heal else sketch
        apart = f", new ink {spread_of(done, kept):.1%} of the size apart on average"
    taken = edits.taken_for(model, what, sketch, [d.label for d in done], what.where)
    print(f"finished {taken}: {what.n} ending{'s' * (what.n > 1)}{apart}, {clock}; {what.output}")
    if what.more is None and all(d.num_points == sketch.num_points for d in done):
        print("nothing was added: it looks finished; --more 12 adds so many points all the same")


def _check(what: CompleteOptions) -> None:
    from sketchknitter import io

    io.check_output(what.output)
    if what.n < 1:
        raise UserError(f"-n must be at least 1, not {what.n}")
    if what.inside and (what.n != 1 or what.heal or Path(what.output).suffix.lower() != ".svg"):
        raise UserError(
            "--inside writes one .svg: give -n 1, no --heal, and an -o that ends in .svg"
        )
