"""Training on a set of millions: seconds to the first update, and resident memory.

    python bench/scale.py [--data FOLDER] [--drawings 5000000] [--updates 200] [--scratch FOLDER]
                          [--json FILE]

The files of FOLDER/quickdraw (default: $SKETCHKNITTER_DATA) are prepared and repeated until there
are so many training drawings, in a scratch folder that is removed at the end (about 1.5 GB). Then
``sketchknitter train`` runs on it: seconds from the start of the process to the first update, and
the memory of the process after it and after all updates. Asked: 5 s and 1 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sketchknitter.data.dataset import HEADER, PARTS, SPLITS, PreparedSet, fingerprint
from sketchknitter.data.prepare import header_text, open_data

SECONDS, MEMORY = 5.0, 1000.0
PIECE = 64  # repetitions written in one go


def repeat(data: PreparedSet, folder: Path, times: int) -> None:
    """A prepared set that holds every drawing of another one so many times."""
    info = {k: v for k, v in data.info.items() if k != "lengths"}
    lengths: dict[str, dict[str, list[int]]] = {}
    for name in SPLITS:
        split = data.split(name)
        parts = dict(zip(PARTS, (split.flat, split.lengths, split.labels), strict=True))
        for part, values in parts.items():
            shape = (len(values) * times, *values.shape[1:])
            kind = np.int64 if part == "offsets" else values.dtype
            if part == "offsets":
                shape = (shape[0] + 1,)
            out = np.lib.format.open_memmap(
                folder / f"{name}.{part}.npy", "w+", dtype=kind, shape=shape
            )
            at = 0
            for k in range(times):
                if part == "offsets":
                    out[at + 1 : at + 1 + len(values)] = out[at] + np.cumsum(values)
                else:
                    out[at : at + len(values)] = values
                at += len(values)
                if k % PIECE == 0:
                    out.flush()
            del out
        info["drawings"][name] = len(split) * times
        counts = (split.by_length * times).tolist()
        lengths[name] = dict(zip((*data.classes, ""), counts, strict=True))
    info["fingerprint"] = fingerprint(folder, info["classes"])
    (folder / HEADER).write_text(header_text(info, lengths), encoding="utf-8")


def memory(pid: int) -> dict[str, float]:
    """MB of a process: resident in all, and of these its own (the rest are pages of files)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    total = next(line.split()[1] for line in lines if line.startswith("VmRSS"))
    return {"resident_mb": int(total) / 1024, "own_mb": int(values["RssAnon"]) / 1024}


def train(data: Path, runs: Path, updates: int) -> dict[str, float]:
    """One training; figures of its first and of its last update."""
    command = [sys.executable, "-m", "sketchknitter", "train", "--data-dir", str(data)]
    command += ["--log-dir", str(runs), "--iterations", str(updates), "--log-interval", "1"]
    log, start = runs / "log.jsonl", time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        figures: dict[str, float] = {}
        last = {"resident_mb": 0.0, "own_mb": 0.0}
        while process.poll() is None:
            time.sleep(0.02)
            if not figures and log.exists() and log.stat().st_size:
                seconds = time.perf_counter() - start
                figures = {"seconds_to_first_update": seconds} | memory(process.pid)
            elif figures:
                try:
                    now = memory(process.pid)
                except (OSError, StopIteration, KeyError):  # it has ended
                    break
                last = {k: max(v, last[k]) for k, v in now.items()}
        if process.wait():
            sys.exit(process.stderr.read().decode())
    return figures | {f"peak_{k}": v for k, v in last.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKETCHKNITTER_DATA", ""))
    parser.add_argument("--drawings", type=int, default=5_000_000)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--scratch", type=Path, help="folder with room; default: the system's own")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    data = open_data(Path(args.data) / "quickdraw")
    times = -(-args.drawings // len(data.train))
    size = sum(f.stat().st_size for f in data.path.iterdir()) * times
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        if shutil.disk_usage(folder).free < 2 * size:
            sys.exit(f"error: {folder} has no room for {size / 1e9:.1f} GB; name a --scratch")
        large = Path(folder) / "large"
        large.mkdir()
        repeat(data, large, times)
        start = time.perf_counter()
        drawings = len(PreparedSet.open(large).train)
        opened = time.perf_counter() - start
        figures = {"drawings": drawings, "gigabytes": size / 1e9, "open_seconds": opened}
        figures |= train(large, Path(folder) / "run", args.updates)
    print(f"{drawings:,} training drawings, {size / 1e9:.2f} GB; opened in {opened:.2f} s")
    print(f"first update after {figures['seconds_to_first_update']:.2f} s (asked: {SECONDS:g})")
    for when, key in (("after it", ""), (f"in {args.updates} updates", "peak_")):
        print(
            f"resident memory {when}: {figures[key + 'resident_mb']:.0f} MB, of which"
            f" {figures[key + 'own_mb']:.0f} MB its own (asked: {MEMORY:.0f})"
        )
    figures["passed"] = (
        figures["seconds_to_first_update"] <= SECONDS and figures["peak_resident_mb"] <= MEMORY
    )
    print(json.dumps(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
