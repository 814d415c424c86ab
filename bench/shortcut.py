"""What the recognizability network adds to sampling time: at most 5 % is asked at S = 30.

    python bench/shortcut.py [MODEL] [-n 64] [--steps 30] [--rounds 5]

The adaptive policy is run with its decisions switched off, so that it makes exactly as many
evaluations as the static grid on the same levels and the difference is its network alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion.guidance.classifier_free import Guided
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.shortcut import Adaptive
from sketchknitter.diffusion.timesteps import Timesteps
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.settings import Settings


class Silent(Adaptive):
    """Asks the network as the adaptive policy does, then goes the static way."""

    def __init__(self, *args, grid: Timesteps, **options) -> None:
        super().__init__(*args, **options)
        self.grid = grid

    def start(self, batch: int) -> torch.Tensor:
        return self.grid.start(batch)

    def next(self, t: torch.Tensor, record) -> torch.Tensor:
        if record.left:
            super().next(t, record)
        return self.grid.next(t, record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="default: the shipped weights")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    model = SketchKnitter.from_pretrained(args.model)
    settings = Settings(timesteps="shortcut-static", steps=args.steps).filled()
    grid = model.policy(settings)
    asking = Silent(args.steps, model.denoiser.schedule, model.calibration, model.scorer, grid=grid)
    lengths = [model.draw_length(0, SketchNoise.keyed(0, [i]).streams[0]) for i in range(args.n)]
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    label = torch.arange(args.n) % len(model.classes)
    wrapped = Guided(model.denoiser, settings.guidance, len(model.classes), settings.interval)
    method = sampling.method(settings.sampler)

    def seconds(policy: Timesteps) -> float:
        task = sampling.Task(label, mask, SketchNoise.keyed(0, range(args.n)))
        begin = time.perf_counter()
        sampling.draw(wrapped, method, policy, task, task.normal(model.width))
        return time.perf_counter() - begin

    seconds(grid)
    plain, with_network = [], []
    for _ in range(args.rounds):  # in turn, so that a busy machine disturbs both alike
        plain.append(seconds(grid))
        with_network.append(seconds(asking))
    ratios = [b / a - 1 for a, b in zip(plain, with_network, strict=True)]
    print(f"{args.n} sketches, {args.steps} steps, {torch.get_num_threads()} threads")
    print(f"static grid {min(plain):.2f} s, asking the network as well {min(with_network):.2f} s")
    added = min(with_network) / min(plain) - 1
    print(f"the network adds {added:+.1%} (rounds: {', '.join(f'{r:+.1%}' for r in ratios)})")
    if args.json:
        args.json.write_text(json.dumps({"added": added, "rounds": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
