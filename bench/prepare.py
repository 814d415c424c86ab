"""``data prepare`` on simplified ndjson, against orjson merely parsing the same file.

    python bench/prepare.py [--data FOLDER] [--mb 100] [--rounds 5] [--json FILE]

FOLDER (default: $SKETCHKNITTER_DATA) holds ``ndjson/simplified/*.ndjson``, which are repeated to
the size asked for. The ratio is of processor seconds, all processes together, imports left out: it
is per core. Both sides are measured in turn, so that other work on the machine meets both, and the
best round of each counts. At least 0.5 is asked, and at most 600 MB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET, MEMORY = 0.5, 600.0


def replicate(folder: Path, path: Path, size: int) -> int:
    """Repeat the folder's files into ``path`` until it has ``size`` bytes; how many drawings."""
    files = sorted((folder / "ndjson" / "simplified").glob("*.ndjson"))
    if not files:
        sys.exit(
            f"error: {folder}: no ndjson/simplified/*.ndjson; set SKETCHKNITTER_DATA or --data"
        )
    once = b"".join(f.read_bytes().rstrip(b"\n") + b"\n" for f in files)
    times = max(1, -(-size // len(once)))
    with open(path, "wb") as f:
        for _ in range(times):
            f.write(once)
    return times * once.count(b"\n")


PARSE = """
import sys, time
import orjson
start = time.process_time()
with open(sys.argv[1], "rb") as f:
    for line in f:
        orjson.loads(line)
print(time.process_time() - start)
"""


def parse(path: Path, processes: int) -> float:
    """Processor seconds of parsing every line and nothing else.

    So many processes do so at the same time, because two that share a core are slower each; their
    mean.
    """
    command = [sys.executable, "-c", PARSE, str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    return sum(float(p.communicate()[0]) for p in running) / processes


WORK = """
import json, resource, sys, threading, time
from pathlib import Path
from sketchknitter.data.prepare import prepare

def resident():  # MB of this process and its children
    total, todo = 0.0, ["self"]
    while todo:
        pid = todo.pop()
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(x.split()[1]) for x in lines if x.startswith("Pss:")) / 1024
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += (task / "children").read_text().split()
        except OSError:
            pass
    return total

peak, done = [resident()], threading.Event()
def watch():
    while not done.wait(0.1):
        peak[0] = max(peak[0], resident())

source, out, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
threading.Thread(target=watch, daemon=True).start()
start, cpu = time.perf_counter(), time.process_time()
made = prepare([source], out, processes=processes, progress=False)
wall = time.perf_counter() - start
workers = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = time.process_time() - cpu + workers.ru_utime + workers.ru_stime
done.set()
print(json.dumps({"wall": wall, "cpu": cpu, "kept": made.info["kept"], "total": made.info["total"],
                  "fingerprint": made.fingerprint, "peak_mb": peak[0]}))
"""


def prepare(path: Path, out: Path, processes: int) -> dict[str, float]:
    """One run in a process of its own: wall and processor seconds (workers included), peak MB."""
    command = [sys.executable, "-c", WORK, str(path), str(out), str(processes)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env).stdout)


def measure(path: Path, rounds: int) -> dict[str, object]:
    """Parse and prepare in turn; the figures of one file."""
    cores = len(os.sched_getaffinity(0))
    parsing: dict[int, list[float]] = {1: [], cores: []}
    runs: dict[int, list[dict[str, float]]] = {1: [], cores: []}
    for _ in range(rounds):
        for processes, done in runs.items():
            parsing[processes].append(parse(path, processes))
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                done.append(prepare(path, Path(folder) / "set", processes))
    fingerprints = {run["fingerprint"] for done in runs.values() for run in done}
    if len(fingerprints) != 1:
        sys.exit("error: the result depends on the number of processes")
    rows = {}
    for processes, done in runs.items():
        best = min(done, key=lambda run: run["cpu"])
        rows[f"{processes} process{'es' if processes > 1 else ''}"] = {
            "cpu_seconds": round(best["cpu"], 3),
            "wall_seconds": round(min(run["wall"] for run in done), 3),
            "peak_mb": round(max(run["peak_mb"] for run in done), 1),
            "ratio_per_core": round(min(parsing[processes]) / best["cpu"], 3),
        }
    return {"parse_cpu_seconds": round(min(parsing[1]), 3), "prepare": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKETCHKNITTER_DATA", ""))
    parser.add_argument("--mb", type=float, default=100.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simplified.ndjson"
        drawings = replicate(Path(args.data), path, int(args.mb * 1e6))
        size = path.stat().st_size / 1e6
        figures = {"megabytes": round(size, 1), "drawings": drawings, **measure(path, args.rounds)}
    print(f"{drawings:,} simplified drawings, {size:.1f} MB")
    print(f"{'':<14}{'CPU s':>9}{'MB/s·core':>11}{'wall s':>9}{'peak MB':>9}{'ratio':>8}")
    seconds = figures["parse_cpu_seconds"]
    print(f"{'orjson':<14}{seconds:>9.2f}{size / seconds:>11.1f}{'':>18}{1:>8.3f}")
    for name, row in figures["prepare"].items():
        print(
            f"{name:<14}{row['cpu_seconds']:>9.2f}{size / row['cpu_seconds']:>11.1f}"
            f"{row['wall_seconds']:>9.2f}{row['peak_mb']:>9.0f}{row['ratio_per_core']:>8.3f}"
        )
    rows = figures["prepare"].values()
    figures["passed"] = all(
        row["ratio_per_core"] >= TARGET and row["peak_mb"] <= MEMORY for row in rows
    )
    print(f"asked: ratio >= {TARGET}, peak <= {MEMORY:.0f} MB")
    print(json.dumps(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
