"""Drawing while other programs keep processors busy: how threads wait decides.

    python bench/busy.py [-n 64] [--rounds 3] [--json FILE]

The command's threads fall asleep soon when they wait for one another; GNU OpenMP by itself has them
spin some 300,000 times. Seconds a sketch, as the command reports them, of the best round, and how
many times as long spinning takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

COMMAND = (sys.executable, "-m", "sketchknitter.cli")
WAYS = {"asleep": {}, "spinning": {"GOMP_SPINCOUNT": "300000"}}


def seconds_each(n: int, way: str, out: str) -> float:
    """Of ``n`` sketches drawn by the command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    words = ["sample", "-n", str(n), "--seed", "5", "-o", out]
    done = subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, env=kept | WAYS[way], check=True
    )
    found = re.search(r"([0-9.e-]+) s each", done.stdout + done.stderr)
    assert found, done.stdout
    return float(found[1])


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes at work, for a with block."""
    work = [
        subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"])
        for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in work:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=64, help="sketches")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for others in (0, cores - 1, cores):
            with busy(others):
                best = {
                    way: min(
                        seconds_each(args.n, way, f"{folder}/x.npz") for _ in range(args.rounds)
                    )
                    for way in WAYS
                }
            rows[others] = best | {"ratio": round(best["spinning"] / best["asleep"], 2)}
    print(f"{'others at work':<16}{'asleep':>10}{'spinning':>10}{'ratio':>8}")
    for others, row in rows.items():
        print(f"{others:<16}{row['asleep']:>10.4f}{row['spinning']:>10.4f}{row['ratio']:>8.2f}")
    figures = {"processors": cores, "busy": rows}
    print(json.dumps(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
