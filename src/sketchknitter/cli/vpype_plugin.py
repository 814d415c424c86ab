"""``vpype sketchknitter``: a generator for vpype's pipelines, found by its entry point.

vpype loads its plug-ins whatever command runs, so the model is imported only when it draws.
"""

from __future__ import annotations

import click
import vpype
import vpype_cli

from sketchknitter.errors import UserError

_MM = 96 / 25.4  # vpype's unit, the CSS px, to the mm


@click.command("sketchknitter")
@click.option(
    "--class", "label", metavar="CLASS", help="What to draw; without it the usual classes."
)
@click.option("-n", "--count", type=vpype_cli.IntegerType(), default=1, help="How many sketches.")
@click.option(
    "-s",
    "--size",
    type=vpype_cli.LengthType(),
    default="5cm",
    help="Side of the square that each sketch is fitted into.",
)
@click.option("-c", "--columns", type=int, help="Of the page; about square without it.")
@click.option("--captions", is_flag=True, help="Write the class under each sketch.")
@click.option("--seed", type=vpype_cli.IntegerType(), default=0, help="Same seed, same drawings.")
@click.option("--steps", type=int, help="Network evaluations for each sketch.")
@click.option("--model", help="A .safetensors file, a run's folder or a hub id.")
@vpype_cli.generator
def sketchknitter(
    label: str | None,
    count: int,
    size: float,
    columns: int | None,
    captions: bool,
    seed: int,
    steps: int | None,
    model: str | None,
) -> vpype.LineCollection:
    """Draw new sketches with a diffusion model over pen strokes.

    Examples:

        vpype sketchknitter --class cat -n 9 layout a4 write cats.svg

        vpype sketchknitter -n 30 --size 3cm --captions layout -m 1cm a3 write page.svg
    """
    try:
        return _lines(label, count, size / _MM, columns, captions, seed, steps, model)
    except UserError as error:
        raise click.ClickException(str(error)) from None


def _lines(
    label: str | None,
    count: int,
    size: float,
    columns: int | None,
    captions: bool,
    seed: int,
    steps: int | None,
    model: str | None,
) -> vpype.LineCollection:
    """A page of sketches as vpype's lines; ``size`` in mm."""
    from sketchknitter import SketchKnitter
    from sketchknitter.io.sheet import Sheet, place
    from sketchknitter.io.travel import shortened
    from sketchknitter.raster import grid_shape

    rows, across = grid_shape(max(count, 1), columns)
    sheet = Sheet(across * size, rows * size, margin=0.0, pen_width=min(size, 1.0) / 100)
    drawn = SketchKnitter.from_pretrained(model).sample(label, count, seed=seed, steps=steps)
    placed, lettered = place(drawn, sheet, across, captions)
    strokes = shortened([*(s for strokes in placed for s in strokes), *lettered])
    # a dot is a line of no length
    pairs = [s if len(s) > 1 else s.repeat(2, axis=0) for s in strokes]
    return vpype.LineCollection([(s[:, 0] + 1j * s[:, 1]) * _MM for s in pairs])
