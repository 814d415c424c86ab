"""Make the shipped weights by the recipe in tools/weights.toml; what is done already is kept.

python tools/make_weights.py --data DATA [--runs runs/weights] [--processes 2] [--until STAGE]

Kill it whenever you like and start it again: every training goes on from its last save.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).with_name("weights.toml")
LAST = "matched"  # the stage whose folder holds the model that is shipped
DONE = "done"  # in a stage's folder, once it is
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def words_of(stage: dict[str, Any], places: dict[str, str], processes: int) -> list[str]:
    """The command line of a stage; a training that was stopped is resumed."""
    out = Path(places["out"])
    words = shlex.split(stage["command"].format(**places))
    resumes = stage.get("training") or stage.get("resumes")
    if resumes and (out / "state.safetensors").exists():
        words.append("--resume")
    if stage.get("training") and processes > 1:
        launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        return [sys.executable, "-m", *launch, "sketchknitter", *words]
    return [sys.executable, "-m", "sketchknitter", *words]


def end_with_parent() -> None:
    """Let the system kill this process when its parent is killed; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def multiplied_in() -> str:
    """bfloat16 where the device multiplies it in hardware, else float32."""
    import torch

    from sketchknitter.training.optimizers import multiplies_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/weights"))
    parser.add_argument("--processes", type=int, default=2, help="of each training")
    parser.add_argument("--until", default="", help="end after this stage")
    parser.add_argument("--dry-run", action="store_true", help="print the commands alone")
    options = parser.parse_args()
    if not (options.data / "quickdraw").is_dir():
        print(f"error: {options.data} has no folder quickdraw/", file=sys.stderr)
        return 2
    stages = tomllib.loads(RECIPE.read_text(encoding="utf-8"))["stage"]
    if options.until and options.until not in [s["name"] for s in stages]:
        print(f"error: no stage {options.until!r} in {RECIPE.name}", file=sys.stderr)
        return 2
    if "MAKELEVEL" in os.environ:  # started by make, whose end is ours
        end_with_parent()
    if not options.dry_run:
        options.runs.mkdir(parents=True, exist_ok=True)
    places = {"data": str(options.data.resolve()), "precision": multiplied_in()}
    for stage in stages:
        folder = options.runs / stage["name"]
        places[stage["name"]] = places["out"] = str(folder.resolve())
        words = words_of(stage, places, options.processes)
        if (folder / DONE).exists():
            print(f"{stage['name']}: done before")
        else:
            print(f"{stage['name']}: {stage['what']}\n  {shlex.join(words[1:])}", flush=True)
            if not options.dry_run:
                if "{out}/" in stage["command"]:  # the command writes a file there
                    folder.mkdir(parents=True, exist_ok=True)
                if status := subprocess.run(words, preexec_fn=end_with_parent).returncode:
                    print(f"{stage['name']} ended with status {status}; the same command goes on")
                    return status
                folder.mkdir(parents=True, exist_ok=True)  # of a stage that adds to a model's file
                (folder / DONE).touch()
        if stage["name"] == options.until:
            return 0
    if not options.dry_run:
        made = options.runs / "model.safetensors"
        shutil.copyfile(options.runs / LAST / "model.safetensors", made)
        print(f"{made}: python tools/ship.py {made} --guidance 3 makes it the shipped file")
        outlook = options.runs / "outlook"
        file = outlook / "outlook.safetensors"
        print(f"{file}: python tools/ship.py {file} --run {outlook} makes it the shipped file")
    return 0


if __name__ == "__main__":
    sys.exit(main())
