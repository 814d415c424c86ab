"""``sketchknitter heal``: a person's clumsy drawing, redrawn; it stays itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from sketchknitter.cli import edits
from sketchknitter.cli.paper import Paper
from sketchknitter.errors import UserError
from sketchknitter.settings import Healing

DESCRIPTION = """Redraw a clumsy drawing so that it stays itself.

examples:
  sketchknitter heal clumsy.svg --strength 0.3 -o ok.svg
  sketchknitter heal clumsy.svg --keep 0,2 -o ok.svg
  sketchknitter heal cat.svg --class pig --strength 0.7 -o pig.svg
"""


@dataclass(frozen=True)
class HealOptions(edits.Drawing, edits.Method):
    """What to redraw, and how strongly."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")] = tyro.MISSING
    """the clumsy drawing"""
    strength: float | None = None
    """0 (the drawing itself) … 1; twice the share of its size by which points may be off; the model
    judges for itself unless this says otherwise"""
    keep: str = ""
    """strokes that stay exactly as they are, counted from 0 (0,2)"""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "healed.svg"
    """file to write"""


@dataclass(frozen=True)
class Heal:
    """All options, in groups."""

    what: HealOptions = field(default_factory=HealOptions)
    how: Healing = field(default_factory=Healing)
    paper: Paper = field(default_factory=Paper)


def strokes_of(text: str) -> tuple[int, ...]:
    """Stroke numbers from "0,2".

    Raises:
        UserError: something else.
    """
    words = [w for w in text.replace(",", " ").split() if w]
    if bad := [w for w in words if not w.isdecimal()]:
        raise UserError(f"--keep takes stroke numbers such as 0,2, not {bad[0]!r}")
    return tuple(int(w) for w in words)


def run(argv: list[str]) -> None:
    """Heal the drawing as ``argv`` says, write it and say what it was taken for."""
    options: Heal = edits.parse(Heal, "heal", DESCRIPTION, argv)
    what = options.what
    from sketchknitter import io

    io.check_output(what.output)
    paper = options.paper.options(what.output)
    keep = strokes_of(what.keep)
    if what.strength is not None and not 0 <= what.strength <= 1:
        raise UserError(f"--strength must lie in 0 … 1, not {what.strength}")
    sketch = edits.read(what.file)
    model = edits.load(what)
    from sketchknitter.editing.heal import heal
    from sketchknitter.editing.plain import evaluations
    from sketchknitter.metrics.spread import spread_of

    clock = edits.Clock()
    with edits.progress(evaluations(model, options.how, what.method), "heal") as watch:
        healed = heal(
            model,
            sketch,
            what.strength,
            label=what.label,
            keep=keep,
            seed=what.seed,
            method=what.method,
            watch=watch,
            **vars(options.how),
        )
    edits.write([healed], what.output, **paper)
    moved = spread_of([sketch, healed])
    if what.strength == 0:
        print(f"strength 0 changes nothing; {what.output}")
    else:
        taken = edits.taken_for(model, what, sketch, [healed.label])
        print(f"healed {taken}: {moved:.1%} of its size from the input, {clock}; {what.output}")
    if what.strength is None and not keep and healed == sketch.with_label(healed.label):
        print("nothing was changed: it looks clean; --strength 0.2 redraws it all the same")
