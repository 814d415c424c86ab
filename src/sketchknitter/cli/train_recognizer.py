"""Training of the recognizers: the judge (metrics), the guide and the reader (generation).

    python -m sketchknitter.cli.train_recognizer judge --data DATA --out judge.safetensors
    python -m sketchknitter.cli.train_recognizer guide --data DATA --out guide.safetensors
    python -m sketchknitter.cli.train_recognizer reader --data DATA --out reader.safetensors

All see the training split of DATA only, and the validation split picks the best epoch.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sketchknitter.errors import UserError
from sketchknitter.metrics.judge.training import train_judge
from sketchknitter.recognizers.picture_training import train_guide


def main(argv: Sequence[str] | None = None) -> None:
    """``judge``, ``guide`` or ``reader``, where the data are, and where the weights go."""
    from sketchknitter.recognizers.points_training import train_reader

    parser = argparse.ArgumentParser(prog="python -m sketchknitter.cli.train_recognizer")
    parser.add_argument("which", choices=("judge", "guide", "reader"))
    parser.add_argument("--data", required=True, help="training data: a folder or file we read")
    parser.add_argument("--out", required=True, help="where the .safetensors file goes")
    parser.add_argument(
        "--seconds", type=float, help="processor time (judge 1700, guide 600, reader 900)"
    )
    parser.add_argument("--seed", type=int, help="default: judge 1, guide 2, reader 4")
    parser.add_argument("--start", help="weights to go on from (judge and reader)")
    parser.add_argument("--lr", type=float, help="highest learning rate (judge and reader)")
    parser.add_argument("--scribbled", type=float, help="scribbles for each drawing (judge only)")
    parser.add_argument("--margin", type=float, help="how far noise is kept off (judge only)")
    options = vars(parser.parse_args(argv))
    trainers: dict[str, Callable[..., dict[str, Any]]] = {
        "judge": train_judge,
        "guide": train_guide,
        "reader": train_reader,
    }
    train = trainers[options.pop("which")]
    options = {name: value for name, value in options.items() if value is not None}
    known = set(inspect.signature(train).parameters)
    if strange := set(options) - known:
        parser.error(f"--{min(strange)} is not for this one")
    try:
        record = train(**options)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"top-1 on test {record['test_top1']:.2%}")


if __name__ == "__main__":
    main()
