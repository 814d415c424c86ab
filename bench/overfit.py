"""Can each rival learn 32 drawings by heart? One that cannot is crippled, whatever a table says.

Each system of size "cpu" learns eight drawings of each of four classes, without augmentation, for
at most so many processor seconds; then it draws them again (autoencoders from the drawings' own
codes, the others new ones of the same classes), and the judge says which class it sees. The 32
drawings are such that the judge recognizes.

    python bench/overfit.py --seconds 300 diffhw sketchode chirodiff flow
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from sketchknitter import io
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.prepare import open_data
from sketchknitter.metrics.judge.network import Judge, load_judge
from sketchknitter.metrics.recognition import recognize
from sketchknitter.settings import AugmentConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems import registry
from sketchknitter.systems.contract import Budget

CLASSES, EACH = ("apple", "cactus", "candle", "ice cream"), 8
AUTOENCODERS = ("sketchode", "pix2seq", "healer")  # drawn again from their own codes
SETTINGS = {"sketchrnn": {"temperature": 0.4}}


def known(data: PreparedSet, judge: Judge) -> Split:
    """The first drawings of each class that the judge recognizes."""
    split, chosen = data.train, []
    for label, name in enumerate(data.classes):
        own = np.flatnonzero((split.labels == label) & (split.lengths <= 64))[: 4 * EACH]
        seen = judge.embed([split.sketch(int(i)) for i in own]).probabilities.argmax(axis=1)
        right = seen == judge.classes.index(name)
        chosen.append(own[right][:EACH])
    rows = np.concatenate(chosen)
    return dataclasses.replace(
        split, starts=split.starts[rows], ends=split.ends[rows], labels=split.labels[rows]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="*", default=["flow"], help="names in the registry")
    place = os.environ.get("SKETCHKNITTER_DATA", "../shared/data")
    parser.add_argument("--data", default=f"{place}/quickdraw", help="drawings")
    parser.add_argument("--seconds", type=float, default=120.0, help="of processor time, each")
    parser.add_argument("--pictures", default="", help="folder for what was drawn")
    parser.add_argument("--json", default="", help="file for the figures")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    data, judge = open_data(options.data, CLASSES), load_judge()
    few = known(data, judge)
    small = dataclasses.replace(data, train=few, valid=few)
    source = [few.sketch(i) for i in range(len(few))]
    labels = [s.label or "" for s in source]

    def share(sketches: list[Sketch]) -> float:
        found = judge.embed(sketches)
        return recognize(found.probabilities, labels, judge.classes).top[1]

    print(f"{len(source)} drawings, recognized {share(source):.0%}", flush=True)
    for name in options.systems:
        kind = registry.find(name)
        fields = {f.name for f in dataclasses.fields(kind)}
        plain = {"augment": AugmentConfig(0, 0, 0, 0)} if "augment" in fields else {}
        budget = Budget(seconds=options.seconds, batch_size=32)
        system = kind(size="cpu", budget=budget, **plain)
        with tempfile.TemporaryDirectory() as folder:
            record = system.train(small, Path(folder), seed=0)
            generator = system.load(Path(folder))
            given = {"source": source, "task": "heal"} if name in AUTOENCODERS else {}
            drawn = list(
                generator.generate(
                    len(source), labels=labels, seed=0, **given, **SETTINGS.get(name, {})
                )
            )
        right = share(drawn)
        figures[name] = {"recognized": right, "updates": record.updates, "cpu": record.cpu}
        print(
            f"{name}: recognized {right:.0%} after {record.updates:,} updates"
            f" ({record.cpu:.0f} processor seconds), loss {record.held_out[-1][1]:.4f}",
            flush=True,
        )
        if options.pictures:
            Path(options.pictures).mkdir(parents=True, exist_ok=True)
            io.write(drawn, Path(options.pictures) / f"{name}.png")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
