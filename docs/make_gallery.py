"""Makes the pictures of docs/gallery.md: what the model does with people's drawings.

    make gallery DATA=…/quickdraw

The drawings come from the test split, drawn by lot with a fixed seed; nothing is picked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sketchknitter import Sketch, SketchKnitter, raster
from sketchknitter.data.conditions import (
    Example,
    misplaced,
    plain_example,
    stroke_of,
    warped,
    wobbly,
)
from sketchknitter.data.prepare import open_data
from sketchknitter.experiments.damage import cut, deformed, masked
from sketchknitter.io import write

PICTURES = Path(__file__).parent / "pictures"
SEED = 0


def page(name: str, rows: list[list[Sketch]], cell: int = 110, columns: int = 0) -> None:
    """Rows of drawings on one picture."""
    flat = [sketch.with_label(None) for row in rows for sketch in row]
    picture = raster.grid(flat, columns=columns or len(rows[0]), cell=cell)
    picture.save(PICTURES / f"gallery-{name}.png", optimize=True)
    print(f"gallery-{name}.png", flush=True)


def begun(sketch: Sketch) -> Sketch:
    """Its first strokes, with about half of its points; of one stroke alone, half of it."""
    if len(sketch) == 1:
        return cut(sketch, 0.5)
    ends = np.cumsum([len(stroke) for stroke in sketch.strokes])[:-1]
    return Sketch(sketch.strokes[: int(np.abs(ends - sketch.num_points / 2).argmin()) + 1])


def clumsy(model: SketchKnitter, sketch: Sketch, rng: np.random.Generator) -> Sketch:
    """The drawing as a less steady hand might have drawn it: wobbly, warped or with strokes out of
    place, one of the three by lot."""
    codec = model.config.codec
    kinds: tuple[Callable[[Example, np.random.Generator, int], Example], ...]
    kinds = (wobbly, warped, misplaced)
    e = kinds[rng.integers(3)](plain_example(sketch.to_stroke3(), codec), rng, codec.max_points)
    stroke = stroke_of(e.pens)
    return Sketch([e.shown[stroke == i] for i in range(int(stroke[-1]) + 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="drawings with a test split")
    test = open_data([str(parser.parse_args().data)]).test
    rng = np.random.default_rng(SEED)
    lot = iter(rng.permutation(len(test)).tolist())
    model = SketchKnitter.from_pretrained()

    def some(count: int) -> list[Sketch]:
        return [test.sketch(next(lot)) for _ in range(count)]

    halves = [(whole, begun(whole)) for whole in some(8)]
    page(
        "complete",
        [
            [half, *model.complete(half, 5, label=whole.label, seed=SEED), whole]
            for whole, half in halves
        ],
    )
    many = [begun(whole) for whole in some(40)]
    pairs = [[half, model.complete(half, 1, seed=SEED)[0]] for half in many]
    page("forty-completions", pairs, columns=10)
    rough = [clumsy(model, whole, rng) for whole in some(40)]
    pairs = [[bad, model.heal(bad, seed=SEED)] for bad in rough]
    page("forty-healings", pairs, columns=10)
    torn = [(whole, masked(whole, 0.3, rng)) for whole in some(4)]
    page(
        "repair",
        [
            [part, *model.complete(part, 5, where="anywhere", seed=SEED), whole]
            for whole, part in torn
        ],
    )
    bad = [(whole, deformed(whole, 0.1, rng)) for whole in some(12)]
    page(
        "heal",
        [
            [x for whole, b in bad[i : i + 3] for x in (b, model.heal(b, 0.2, seed=SEED), whole)]
            for i in range(0, len(bad), 3)
        ],
    )
    page("vary", [[s, *model.vary(s, 6, 0.5, seed=SEED)] for s in some(4)])
    page("interpolate", [model.interpolate(*some(2), 9, seed=SEED) for _ in range(4)])
    whole, half = halves[0]
    endings = model.complete(half, 4, label=whole.label, seed=SEED)
    write(endings, PICTURES / "completion.gif")


if __name__ == "__main__":
    main()
