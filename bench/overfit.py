"""Whether a rival can learn at all: it is fitted to 32 drawings and redraws them.

    python bench/overfit.py --data-dir DATA [--system sketchrnn …] [--seconds 240] [--json FILE]

Each system trains at size "cpu" on the first drawings of the training split that the judge
recognizes, and redraws them from their codes at the lowest temperature that it tries. A system that
cannot do that for 95 % of them is crippled, and its row in a table means nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

RIVALS = ("sketchrnn", "pix2seq", "healer")
CLASSES = ("airplane", "apple", "cat", "crab")
COUNT, ROWS = 32, 96


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("SKETCHKNITTER_DATA", "")
    parser.add_argument("--data-dir", default=f"{default}/quickdraw" if default else "")
    parser.add_argument("--system", nargs="*", default=list(RIVALS), choices=RIVALS)
    parser.add_argument("--seconds", type=float, default=240.0, help="of training, each")
    parser.add_argument("--json")
    args = parser.parse_args()
    if not args.data_dir:
        parser.error("--data-dir takes drawings of " + ", ".join(CLASSES))
    torch.set_num_threads(1)

    from sketchknitter.data.prepare import open_data
    from sketchknitter.metrics.judge.network import load_judge
    from sketchknitter.metrics.recognition import recognize
    from sketchknitter.systems.registry import make

    judge = load_judge()
    data = open_data(args.data_dir, CLASSES)
    train = data.train
    each = COUNT // len(CLASSES)
    chosen = []
    for name in CLASSES:
        own = [int(i) for i in train.of_class(name) if len(train.rows(int(i))) <= ROWS][:64]
        seen = judge.embed([train.sketch(i) for i in own]).probabilities.argmax(axis=1)
        known = [i for i, k in zip(own, seen, strict=True) if judge.classes[k] == name]
        chosen += known[:each]
    few = dataclasses.replace(
        train,
        starts=np.asarray(train.starts)[chosen],
        ends=np.asarray(train.ends)[chosen],
        labels=np.asarray(train.labels)[chosen],
    )
    none = dataclasses.replace(
        data.valid,
        starts=data.valid.starts[:0],
        ends=data.valid.ends[:0],
        labels=data.valid.labels[:0],
    )
    data = dataclasses.replace(data, train=few, valid=none)
    sketches = [few.sketch(i) for i in range(len(few))]
    labels = [s.label or "" for s in sketches]
    figures = {}
    for name in args.system:
        budget = {"seconds": args.seconds, "batch_size": COUNT}
        system = make(name, {"size": "cpu", "budget": budget})
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            record = system.train(data, Path(folder))
            model = system.load(Path(folder))
            redrawn = list(
                model.generate(len(sketches), labels=labels, source=sketches, task="heal", seed=1)
            )
        top = recognize(judge.embed(redrawn).probabilities, labels, judge.classes).top[1]
        figures[name] = {
            "recognized": round(float(top), 4),
            "updates": record.updates,
            "seconds": round(time.perf_counter() - start, 1),
            "loss": round(record.losses[-1][1], 4),
        }
        print(name, figures[name], flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
