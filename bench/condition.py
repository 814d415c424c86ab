"""Seconds of a completion, and what guidance costs.

    python bench/condition.py [MODEL] [--json FILE]

Completion: 6 endings of a half drawing with a given class, after start-up, at default settings
and with one try each. Guidance: seconds of healing in the guided way with anchors, leaning and
perceptual guidance against the same steps without them, in turns, so the ratio holds on a busy
machine too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="weights; default: the shipped ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from sketchknitter.editing.complete import complete
    from sketchknitter.editing.heal import heal_all
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.sketch import Sketch

    model = SketchKnitter.from_pretrained(options.model)
    label = "face" if "face" in model.classes else model.classes[0]
    turn = np.linspace(0, 6.1, 40)
    half = Sketch([np.column_stack([np.cos(turn), np.sin(turn)]), [[-0.3, -0.3], [-0.25, -0.2]]])
    whole = Sketch([*half.strokes, [[-0.4, 0.4], [0, 0.6], [0.4, 0.4]]])

    def completion(**settings: int) -> None:
        complete(model, half, 6, label=label, **settings)

    def heal(**settings: float | bool) -> None:
        how = {"label": label, "method": "guided", **settings}
        heal_all(model, [whole] * 6, 0.5, **how)  # type: ignore[arg-type]

    def plain() -> None:
        heal(anchor=False, perceptual=0.0, lean=False)

    completion()  # start-up: caches, allocations
    times: dict[str, list[float]] = {"completion": [], "once": [], "plain": [], "guided": []}
    for _ in range(options.rounds):
        times["completion"].append(seconds(completion))
        times["once"].append(seconds(lambda: completion(tries=1)))
        times["plain"].append(seconds(plain))
        times["guided"].append(seconds(heal))
    best = {name: min(values) for name, values in times.items()}
    figures = {
        "completion of 6, s": best["completion"],
        "the same with --tries 1, s": best["once"],
        "guided healing / the same unguided": best["guided"] / best["plain"],
    }
    for name, value in figures.items():
        print(f"{name:<32}{value:8.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
