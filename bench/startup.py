"""How long a person waits: for help, and for the first sketch.

    python bench/startup.py [--model-path FILE] [--rounds 5] [--json FILE]

Whole processes are timed from start to end; the best round counts, and beside the wall clock stands
the processor time, which does not depend on what else the machine does. Asked: ``--help`` in 0.3 s,
the first sketch in a file in 5 s.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = (sys.executable, "-m", "sketchknitter.cli")
HELP_TARGET, SKETCH_TARGET = 0.3, 5.0


def seconds(words: list[str]) -> tuple[float, float]:
    """(wall, processor) seconds of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
    wall = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"error: sketchknitter {' '.join(words)}: {done.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-path", help="a model file; default: the shipped one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    model = ["--model-path", args.model_path] if args.model_path else []
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            "--help": (["--help"], HELP_TARGET),
            "train --help": (["train", "--help"], HELP_TARGET),
            "sample --help": (["sample", "--help"], HELP_TARGET),
            "first sketch": (
                ["sample", "-n", "1", "-o", f"{folder}/one.svg", *model],
                SKETCH_TARGET,
            ),
        }
        for name, (words, target) in cases.items():
            times = [seconds(words) for _ in range(args.rounds)]
            rows[name] = {
                "seconds": round(min(wall for wall, _ in times), 3),
                "cpu_seconds": round(min(cpu for _, cpu in times), 3),
                "asked": target,
            }
    print(f"{'':<16}{'wall s':>8}{'CPU s':>8}{'asked':>8}")
    for name, row in rows.items():
        print(f"{name:<16}{row['seconds']:>8.2f}{row['cpu_seconds']:>8.2f}{row['asked']:>8.1f}")
    figures = {"startup": rows, "passed": all(r["seconds"] <= r["asked"] for r in rows.values())}
    print(json.dumps(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
