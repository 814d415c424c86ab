"""Whether a rival can learn at all: it is fitted to 32 drawings and draws them.

    python bench/overfit.py --data-dir DATA [--system sketchrnn …] [--seconds 600] [--json FILE]

Each system trains at size "cpu" on the first drawings of the training split that the judge
recognizes, for as much processor time as the list below says (``--seconds`` overrides it), without
a KL term, whose floor leaves room for 13 nats that an overfit model must not need. Drawings are
learned as they are, but for the decoders of SketchRNN and SketchPix2seq, which keep their authors'
stretching and dropping of points: more drawings come back with it than without. A system with a
code redraws each drawing from that, at the lowest temperature that it tries. A diffusion model has
no code: it draws new drawings of the same classes, and since its loss is a matter of noise, each
batch holds every drawing twice. 95 % recognized show that nothing is broken; less may be a matter
of time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

PLAIN = {"mirror": 0.0, "rotate": 0.0, "resize": 0.0, "point_drop": 0.0}
RIVALS: dict[str, tuple[float, dict[str, Any]]] = {
    "sketchrnn": (900, {"divergence": {"weight": 0.0, "start": 0.0}}),
    "pix2seq": (600, {}),
    "healer": (900, {}),
    "sketchode": (1200, {"augment": PLAIN}),
    "diffhw": (300, {"augment": PLAIN}),
    "chirodiff": (1200, {"augment": PLAIN}),
    "flow": (540, {"augment": PLAIN}),
}
"""Seconds of training and options of each."""
CODED = ("sketchrnn", "pix2seq", "healer", "sketchode")  # redraw a drawing from its code
CLASSES = ("airplane", "apple", "cat", "crab")
COUNT, ROWS = 32, 96


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("SKETCHKNITTER_DATA", "")
    parser.add_argument("--data-dir", default=f"{default}/quickdraw" if default else "")
    parser.add_argument("--system", nargs="*", default=list(RIVALS), choices=RIVALS)
    parser.add_argument("--seconds", type=float, default=0.0, help="of training, each; 0: its own")
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
    doubled = {k: np.tile(getattr(few, k), 2) for k in ("starts", "ends", "labels")}
    twice = dataclasses.replace(data, train=dataclasses.replace(few, **doubled))
    sketches = [few.sketch(i) for i in range(len(few))]
    labels = [s.label or "" for s in sketches]
    figures = {}
    for name in args.system:
        seconds, options = RIVALS[name]
        coded = name in CODED
        budget = {"seconds": args.seconds or seconds, "batch_size": COUNT if coded else 2 * COUNT}
        system = make(name, {"size": "cpu", "budget": budget, **options})
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            record = system.train(data if coded else twice, Path(folder))
            model = system.load(Path(folder))
            given = {"source": sketches, "task": "heal"} if coded else {}
            redrawn = list(model.generate(len(sketches), labels=labels, seed=1, **given))
        top = recognize(judge.embed(redrawn).probabilities, labels, judge.classes).top[1]
        figures[name] = {
            "recognized": round(float(top), 4),
            "updates": record.updates,
            "seconds": round(time.perf_counter() - start, 1),
            "loss": round(record.losses[-1][1], 4) if record.losses else None,
        }
        print(name, figures[name], flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
