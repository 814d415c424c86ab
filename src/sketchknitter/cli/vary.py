"""``sketchknitter vary``: variations of one drawing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from sketchknitter.cli import edits
from sketchknitter.cli.paper import Paper
from sketchknitter.settings import Varying

DESCRIPTION = """Variations of one drawing.

examples:
  sketchknitter vary cat.svg -n 9 -o cats.svg
  sketchknitter vary cat.svg --strength 0.8 --class pig -o pigs.svg
"""


@dataclass(frozen=True)
class VaryOptions(edits.Drawing, edits.Method):
    """What to vary, and how far."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")] = tyro.MISSING
    """the drawing"""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 6
    """how many variations"""
    strength: float = 0.5
    """0 (the drawing itself) … 1 (hardly bound to it)"""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "variations.svg"
    """file to write"""
    captions: bool = False
    """write the class under each variation of a page"""


@dataclass(frozen=True)
class Vary:
    """All options, in groups."""

    what: VaryOptions = field(default_factory=VaryOptions)
    how: Varying = field(default_factory=Varying)
    paper: Paper = field(default_factory=Paper)


def run(argv: list[str]) -> None:
    """Vary the drawing as ``argv`` says and write the variations."""
    options: Vary = edits.parse(Vary, "vary", DESCRIPTION, argv)
    what = options.what
    from sketchknitter import io

    io.check_output(what.output)
    paper = options.paper.options(what.output)
    sketch = edits.read(what.file)
    model = edits.load(what)
    from sketchknitter.editing.plain import evaluations
    from sketchknitter.editing.vary import vary
    from sketchknitter.metrics.spread import spread_of

    clock = edits.Clock()
    total = evaluations(model, options.how, what.method, what.n)
    with edits.progress(total, "vary") as watch:
        new = vary(
            model,
            sketch,
            what.n,
            what.strength,
            label=what.label,
            seed=what.seed,
            method=what.method,
            watch=watch,
            **vars(options.how),
        )
    edits.write(new, what.output, captions=what.captions, **paper)
    if what.strength == 0:
        print(f"strength 0 changes nothing; {what.output}")
        return
    taken = edits.taken_for(model, what, sketch, [new[0].label])
    count = "1 drawing"
    if len(new) > 1:
        count = f"{len(new)} drawings, on average {spread_of(new):.1%} of their size apart"
    print(f"varied {taken}: {count}, {clock}; {what.output}")
