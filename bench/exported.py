"""Sampling with onnxruntime beside torch: seconds a sketch, one thread, and whether they agree.

    python bench/exported.py [--model-path FILE] [--rounds 3] [--json FILE]

The same drawings from the same noise, alone (batch 1) and together (batch 64); the best round
counts. Needs the extra onnx.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sketchknitter import Sketch, SketchKnitter
from sketchknitter.systems.sketchknitter.export import export, use


def best(model: SketchKnitter, batch: int, rounds: int) -> tuple[float, list[Sketch]]:
    """Seconds for each sketch, and the sketches."""
    seconds, count = [], max(20, batch) if batch > 1 else 20
    for _ in range(rounds):
        start = time.perf_counter()
        drawn = model.sample(n=count, seed=3, batch_size=batch)
        seconds.append((time.perf_counter() - start) / count)
    return min(seconds), drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-path", help="a model file; default: the shipped one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = SketchKnitter.from_pretrained(args.model_path)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        export(model, Path(folder) / "m.onnx")
        print(f"export: {time.perf_counter() - start:.1f} s")
        runtime = SketchKnitter.from_pretrained(args.model_path)
        use(runtime, Path(folder) / "m.onnx", threads=1)
        print(f"{'batch':>5}{'torch s':>10}{'onnx s':>10}{'times':>8}{'apart, px':>12}")
        for batch in (1, 64):
            ours, a = best(model, batch, args.rounds)
            theirs, b = best(runtime, batch, args.rounds)
            apart = max(np.abs(p.points - q.points).max() for p, q in zip(a, b, strict=True))
            rows[str(batch)] = {"torch": ours, "onnx": theirs, "apart_px": float(apart)}
            print(f"{batch:>5}{ours:>10.4f}{theirs:>10.4f}{ours / theirs:>8.2f}{apart:>12.1e}")
    if args.json:
        args.json.write_text(json.dumps({"onnx": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
