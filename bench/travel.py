"""The way of a plotter's lifted pen: our order of strokes beside vpype's ``linesort``.

    python bench/travel.py [--model-path FILE] [--json FILE]

Pages of drawn sketches, every class in turn, on A4; mm from the end of each stroke to the start of
the next, and seconds to find the order. Needs vpype (``pip install '.[vpype]'``).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import vpype
import vpype_cli

from sketchknitter import SketchKnitter
from sketchknitter.io.sheet import A4, place
from sketchknitter.io.travel import pen_up, shortened

Strokes = list


def by_vpype(command: str) -> Callable[[Strokes], Strokes]:
    def sort(strokes: Strokes) -> Strokes:
        document = vpype.Document()
        document.add(vpype.LineCollection([s[:, 0] + 1j * s[:, 1] for s in strokes]), 1)
        lines = vpype_cli.execute(command, document).layers[1]
        return [vpype.as_vector(line) for line in lines]

    return sort


WAYS: dict[str, Callable[[Strokes], Strokes]] = {
    "as drawn": list,
    "vpype linesort": by_vpype("linesort"),
    "vpype linesort --two-opt": by_vpype("linesort --two-opt"),
    "ours": shortened,
}


def page(sketches: list) -> Strokes:
    placed, _ = place(sketches, A4)
    return [stroke for strokes in placed for stroke in strokes if len(stroke) > 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-path", help="a model file; default: the shipped one")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    drawn = SketchKnitter.from_pretrained(args.model_path).sample(n=256, seed=0)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':<26}{'sketches':>9}{'strokes':>9}{'mm up':>9}{'seconds':>9}")
    for count in (1, 9, 64, 256):
        strokes = page(drawn[:count])
        for name, sort in WAYS.items():
            start = time.perf_counter()
            way = pen_up(sort(strokes))
            row = {"strokes": len(strokes), "mm": way, "seconds": time.perf_counter() - start}
            figures.setdefault(str(count), {})[name] = row
            print(f"{name:<26}{count:>9}{len(strokes):>9}{way:>9.0f}{row['seconds']:>9.3f}")
    if args.json:
        args.json.write_text(json.dumps({"travel": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
