"""Turn a training run's model into the shipped weights: float16, paths left out of the record.

python tools/ship.py runs/weights/model.safetensors --guidance 3 [--note "…"]
python tools/ship.py runs/weights/outlook/outlook.safetensors --run runs/weights/outlook

Of an outlook, --run adds what its training took.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sketchknitter.files import STATE, read_tensors
from sketchknitter.metrics.judge.network import load_judge
from sketchknitter.recognizers.outlook import OUTLOOK_WEIGHTS, Outlook
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.hub import SHIPPED
from sketchknitter.systems.sketchknitter.run import digest
from sketchknitter.systems.sketchknitter.student import PREFIX


def without_folders(command: str) -> str:
    """The command with every path cut down to its last name."""
    return " ".join(Path(w).name if "/" in w else w for w in command.split())


def ship_outlook(path: Path, run: Path) -> None:
    """The outlook as it was trained, and how long that took."""
    network = Outlook.load(path)
    header = read_tensors(run / STATE)[1]
    took = {"seconds": round(header["seconds"], 1), "cpu": round(header["cpu"], 1), "device": "cpu"}
    network.save(OUTLOOK_WEIGHTS, network.record | took)
    print(f"{OUTLOOK_WEIGHTS}: {OUTLOOK_WEIGHTS.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--note", default="", help="what the record should say besides")
    parser.add_argument("--guidance", type=float, help="the student's weight when nobody says")
    parser.add_argument("--run", type=Path, help="of an outlook: the folder of its training")
    options = parser.parse_args()
    if options.run:
        ship_outlook(options.model, options.run)
        return
    checkpoint = Checkpoint.load(options.model)
    checkpoint.weights = {
        k: v.to(torch.float16) if v.is_floating_point() else v
        for k, v in checkpoint.weights.items()
    }
    checkpoint.extras = {
        k: v.to(torch.float16) if k.startswith(PREFIX) and v.is_floating_point() else v
        for k, v in checkpoint.extras.items()
    }
    for stage in checkpoint.notes.get("distilled", {}).get("stages", []):
        stage["command"] = without_folders(stage["command"])
    if options.guidance is not None:
        checkpoint.notes["distilled"]["guidance"] = options.guidance
    # what is drawn when no class is named: the classes whose drawings the judge can measure
    judged = set(load_judge().classes)
    checkpoint.notes["usual"] = [c for c in checkpoint.config.classes if c in judged]
    checkpoint.record["command"] = without_folders(checkpoint.record["command"])
    checkpoint.record["stored"] = "float16"
    checkpoint.record["sha256"] = digest(checkpoint.weights)
    if options.note:
        checkpoint.record["note"] = options.note
    checkpoint.save(options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
