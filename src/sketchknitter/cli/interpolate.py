"""``sketchknitter interpolate``: the way from one drawing to another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from sketchknitter.cli import edits
from sketchknitter.cli.paper import Paper

DESCRIPTION = """The drawings between two drawings, both included.

examples:
  sketchknitter interpolate a.svg b.svg -n 9 -o between.svg
  sketchknitter interpolate cat.svg pig.svg -n 24 -o morph.gif
"""


@dataclass(frozen=True)
class InterpolateOptions(edits.Drawing):
    """From where to where."""

    first: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FIRST")] = tyro.MISSING
    """the drawing to start from"""
    second: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SECOND")] = tyro.MISSING
    """the drawing to end with"""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 9
    """how many drawings, both ends included"""
    steps: int = 30
    """noise levels on the way to the noise, and back; both are DDIM's, without guidance"""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "between.svg"
    """file to write"""


@dataclass(frozen=True)
class Interpolate:
    """All options, in groups."""

    what: InterpolateOptions = field(default_factory=InterpolateOptions)
    paper: Paper = field(default_factory=Paper)


def run(argv: list[str]) -> None:
    """Draw the way between two drawings and write it."""
    options: Interpolate = edits.parse(Interpolate, "interpolate", DESCRIPTION, argv)
    what = options.what
    from sketchknitter import io

    io.check_output(what.output)
    paper = options.paper.options(what.output)
    first, second = edits.read(what.first), edits.read(what.second)
    model = edits.load(what)
    from sketchknitter.editing.interpolate import interpolate

    clock = edits.Clock()
    with edits.progress(what.steps, "interpolate") as watch:
        path = interpolate(
            model,
            first,
            second,
            what.n,
            label=what.label,
            seed=what.seed,
            steps=what.steps,
            watch=watch,
        )
    edits.write(path, what.output, **paper)
    between = path[1:-1] or path
    names = dict.fromkeys(s.label or "no class" for s in (between[0], between[-1]))
    print(
        f"{len(path)} drawings from {what.first} to {what.second}, drawn as {' and '.join(names)},"
        f" {clock}; {what.output}"
    )
