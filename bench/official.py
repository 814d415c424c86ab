"""How much faster than the released network: seconds per sketch, training sketches per second.

    python bench/official.py                        the shipped weights
    python bench/official.py m.safetensors --rounds 5 --json figures.json
    python bench/official.py random --batch 2 --rounds 1 --updates 1     a rehearsal

Both run here, in turns, on the same cores. Ours draws at its default settings, guidance and
decoding included. The released network (our reproduction of it, random weights: time does not
depend on them) would take 1000 ancestral steps; a few are measured and multiplied, which is exact
but for the start. Training is whole updates at equal batch: loading, augmentation, optimizer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from sketchknitter.diffusion.denoiser import Denoiser
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.systems.sketchknitter.config import ModelConfig
    from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer

PRECISIONS = ("float32", "bfloat16")
_WHO = ("ours", "official")
STEPS = 1000  # of the released sampler
TARGETS = {"sample 64": 1000.0, "sample 1": 400.0, "train 64": 8.0}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", help="default: the shipped weights; random: fresh ones")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each; median counts")
    parser.add_argument(
        "--official-evaluations",
        type=int,
        default=8,
        help="measured of the 1000 (thrice so many at batch 1)",
    )
    parser.add_argument("--updates", type=int, default=16, help="training updates of ours a round")
    parser.add_argument("--batch", type=int, default=64, help="what is asked is asked at 64")
    parser.add_argument("--threads", type=int, help="of torch; default: all cores")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args(argv)
    if min(args.rounds, args.updates) < 1 or min(args.batch, args.official_evaluations) < 2:
        parser.error("--rounds, --updates start at 1, --batch, --official-evaluations at 2")
    return args


# -- what is measured ------------------------------------------------------------------------------
def official_config() -> ModelConfig:
    """The released model: eps of offsets, linear schedule, pen head, always 96 points."""
    from sketchknitter.data.codec import Codec
    from sketchknitter.settings import BackboneConfig, DiffusionConfig
    from sketchknitter.systems.sketchknitter.config import ModelConfig

    return ModelConfig(
        network=BackboneConfig(backbone="official"),
        diffusion=DiffusionConfig(
            noise_schedule="linear",
            parametrization="eps",
            pens="head",
            length="learned",
            show_positions=False,
        ),
        codec=Codec("offset", max_rows=96),
    )


def random_model() -> SketchKnitter:
    """A fresh model of the default configuration, for drawings of 20 to 90 points."""
    import torch

    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
    from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser

    config = ModelConfig(classes=tuple(f"class {i}" for i in range(31)))
    lengths = torch.zeros(32, config.codec.max_points + 1, dtype=torch.int32)
    lengths[:, 20:90] = 1
    return SketchKnitter(Checkpoint(config, build_denoiser(config).state_dict(), lengths))


def official_seconds(denoiser: Denoiser, batch: int, evaluations: int) -> float:
    """Seconds per sketch at 1000 steps, extrapolated from ``evaluations``."""
    import numpy as np
    import torch

    from sketchknitter.diffusion.noise import SketchNoise
    from sketchknitter.diffusion.sampler import Ddpm, Task, draw
    from sketchknitter.diffusion.timesteps import Grid

    levels = np.linspace(STEPS - 1, 0, evaluations).round().astype(int)
    mask = torch.ones(batch, 96, dtype=torch.bool)
    task = Task(torch.zeros(batch, dtype=torch.int64), mask, SketchNoise.keyed(0, range(batch)))
    x = task.normal(2)
    start = time.perf_counter()
    draw(denoiser, Ddpm("large"), Grid(levels, STEPS), task, x)
    return (time.perf_counter() - start) / evaluations * STEPS / batch


def our_seconds(model: SketchKnitter, batch: int, seed: int) -> float:
    """Seconds per sketch at the default settings."""
    start = time.perf_counter()
    model.sample(None, batch, seed=seed, batch_size=batch)
    return (time.perf_counter() - start) / batch


def trainer_of(
    config: ModelConfig, lengths: Any, precision: str, batch: int, *, augment: bool
) -> DenoiserTrainer:
    """A trainer on random walks as long as the drawings that ``lengths`` counts."""
    import numpy as np

    from sketchknitter.data.dataset import PreparedSet, Split
    from sketchknitter.settings import AugmentConfig, OptimConfig
    from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer

    rng = np.random.default_rng(0)
    counts = np.asarray(lengths, dtype=np.float64)
    sizes = rng.choice(len(counts), 40 * batch, p=counts / counts.sum())
    sizes = np.clip(sizes - 1, 1, config.codec.max_rows)
    ends = np.cumsum(sizes)
    flat = np.column_stack([rng.normal(0, 12, (ends[-1], 2)), rng.random(ends[-1]) < 0.15])
    labels = np.arange(len(sizes)) % max(1, len(config.classes)) - (not config.classes)

    def split(name: str, count: int) -> Split:
        starts, stops = (ends - sizes)[:count], ends[:count]
        rows, kinds = flat.astype(np.int16), labels[:count].astype(np.int16)
        return Split(name, rows, starts, stops, kinds, config.classes)

    parts = [split("train", len(sizes)), split("valid", 0), split("test", 0)]
    data = PreparedSet(Path("random walks"), *parts, config.classes, "", {})
    changes = AugmentConfig() if augment else AugmentConfig(0, 0, 0, 0)
    optim = OptimConfig(batch_size=batch, precision=precision)  # type: ignore[arg-type]
    return DenoiserTrainer(data, config, optim, changes)


def training_seconds(trainer: DenoiserTrainer, updates: int) -> float:
    """Seconds per sketch of training."""
    start = time.perf_counter()
    for _ in trainer.run(trainer.iteration + updates):
        pass
    return (time.perf_counter() - start) / updates / trainer.config.batch_size


def training_flops(trainer: DenoiserTrainer, updates: int) -> float:
    """Floating-point operations per sketch in matrix products, convolutions and attention."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        for _ in trainer.run(trainer.iteration + updates):
            pass
    return counter.get_total_flops() / updates / trainer.config.batch_size


def peak(precision: str, rounds: int, sizes: tuple[int, ...] = (512, 1024, 2048)) -> float:
    """FLOP/s of the machine's best square matrix product."""
    import torch

    best = 0.0
    for size in sizes:
        a, b = torch.randn(2, size, size).to(getattr(torch, precision))
        a @ b
        for _ in range(max(2, rounds)):
            start = time.perf_counter()
            a @ b
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def usable() -> list[str]:
    """float32, and bfloat16 unless this processor only imitates it (60 times slower on some)."""
    quick = {p: peak(p, 3, sizes=(192,)) for p in PRECISIONS}
    return [p for p in PRECISIONS if quick[p] > 0.3 * quick["float32"]]


# -- the run ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Work:
    """One thing to be timed: ``run(round)`` gives seconds per sketch; round 0 warms up."""

    what: str
    precision: str
    who: str
    run: Callable[[int], float]


def sampling_work(
    model: SketchKnitter, official: Denoiser, batch: int, precision: str, evaluations: int
) -> list[Work]:
    """Both models' sampling at one batch size."""

    def ours(seed: int) -> float:
        return our_seconds(model, batch, seed)

    def theirs(seed: int) -> float:
        return official_seconds(official, batch, evaluations if seed else 2)

    runs = {"ours": ours, "official": theirs}
    return [Work(f"sample {batch}", precision, w, _cast(r, precision)) for w, r in runs.items()]


def training_work(
    ours: DenoiserTrainer, official: DenoiserTrainer, precision: str, updates: int
) -> list[Work]:
    """Both models' training; the trainers know their precision."""
    what = f"train {ours.config.batch_size}"
    return [
        Work(what, precision, "ours", lambda seed: training_seconds(ours, updates if seed else 1)),
        Work(what, precision, "official", lambda seed: training_seconds(official, 1)),
    ]


def timed(work: list[Work], rounds: int) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Median, least and largest seconds by what, precision and who; all take turns."""
    import statistics

    from tqdm import tqdm

    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    seen: list[list[float]] = [[] for _ in work]
    with tqdm(total=len(work) * (rounds + 1), desc="measuring") as bar:
        for seed in range(rounds + 1):
            for one, values in zip(work, seen, strict=True):
                values.append(one.run(seed))
                bar.update()
    for one, (_, *values) in zip(work, seen, strict=True):
        found.setdefault(one.what, {}).setdefault(one.precision, {})[one.who] = {
            "median": statistics.median(values),
            "low": min(values),
            "high": max(values),
        }
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures: seconds per sketch under ``ours`` and ``official``, by what and precision."""
    import torch

    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.systems.sketchknitter.config import build_denoiser

    if args.threads:
        torch.set_num_threads(args.threads)
    model = random_model() if args.model == "random" else SketchKnitter.from_pretrained(args.model)
    official = build_denoiser(official_config()).eval()
    lengths, precisions, count = model.checkpoint.lengths[-1], usable(), args.official_evaluations
    work: list[Work] = []
    trainers: dict[str, DenoiserTrainer] = {}
    for precision in precisions:
        work += sampling_work(model, official, args.batch, precision, count)
        # a single sketch is cheap enough to measure longer
        work += sampling_work(model, official, 1, precision, 3 * count)
        ours = trainer_of(model.config, lengths, precision, args.batch, augment=True)
        theirs = trainer_of(official_config(), lengths, precision, args.batch, augment=False)
        work += training_work(ours, theirs, precision, args.updates)
        trainers[precision] = ours
    seconds = timed(work, args.rounds)
    peaks = {}
    for precision, trainer in trainers.items():
        top = peak(precision, args.rounds)
        spent = seconds[f"train {args.batch}"][precision]["ours"]["median"]
        reached = training_flops(trainer, args.updates) / spent
        peaks[precision] = {
            "matmul GFLOP/s": top / 1e9,
            "training GFLOP/s": reached / 1e9,
            "share": reached / top,
        }
    return {
        "what": "seconds per sketch, median of rounds",
        "model": args.model or "shipped",
        "parameters": {
            "ours": sum(p.numel() for p in model.denoiser.parameters()),
            "official": sum(p.numel() for p in official.parameters()),
        },
        "official sampling": f"{count} evaluations measured at batch {args.batch}, {3 * count} at"
        f" batch 1; times {STEPS}",
        "rounds": args.rounds,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "precisions": precisions,
        "seconds": seconds,
        "peak": peaks,
        "ratios": {what: _ratios(by) for what, by in seconds.items()},
        "targets": TARGETS,
    }


def _cast(run: Callable[[int], float], precision: str) -> Callable[[int], float]:
    """``run`` under autocast, if it is asked for."""
    if precision == "float32":
        return run

    def inside(seed: int) -> float:
        import torch

        with torch.autocast("cpu", getattr(torch, precision)):
            return run(seed)

    return inside


def _ratios(by: dict[str, Any]) -> dict[str, float]:
    """Official over ours: in each precision, and each in its own best."""
    out = {p: by[p]["official"]["median"] / by[p]["ours"]["median"] for p in by}
    best = {who: min(figures[who]["median"] for figures in by.values()) for who in _WHO}
    return out | {"best": best["official"] / best["ours"]}


def table(figures: dict[str, Any]) -> str:
    """What a person reads."""
    head = ["", "precision", "ours", "official", "ratio", "asked", ""]
    rows = [head]
    for what, by in figures["seconds"].items():
        ratios, asked = figures["ratios"][what], TARGETS.get(what)
        for precision in (*by, "best"):
            if precision == "best":
                values = [min(by[p][who]["median"] for p in by) for who in _WHO]
            else:
                values = [by[precision][who]["median"] for who in _WHO]
            verdict = "" if precision == "bfloat16" else _verdict(ratios[precision], asked)
            kind, batch = what.split()
            cells = [f"{1 / v:.3g}/s" if kind == "train" else f"{v:.3g} s" for v in values]
            ratio, wanted = f"{ratios[precision]:.3g}x", f"{asked:g}x" if asked else "-"
            rows.append([f"{kind}, batch {batch}", precision, *cells, ratio, wanted, verdict])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    for precision, p in figures["peak"].items():
        lines.append(
            f"training reaches {p['training GFLOP/s']:.3g} of {p['matmul GFLOP/s']:.3g} GFLOP/s "
            f"of a {precision} matrix product: {100 * p['share']:.0f} %"
        )
    if missing := [p for p in PRECISIONS if p not in figures["precisions"]]:
        lines.append(f"left out: {missing[0]}, which this processor only imitates")
    lines.append(
        f"(sample: per sketch; the official's {STEPS} steps are extrapolated: "
        f"{figures['official sampling']}; train: sketches per second)"
    )
    return "\n".join(lines)


def _verdict(ratio: float, asked: float | None) -> str:
    if asked is None:
        return ""
    return "reached" if ratio >= asked else "MISSED"


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    from sketchknitter.errors import UserError

    try:
        figures = measure(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    text = json.dumps(figures, indent=1)
    print(table(figures))
    print(text)
    if args.json:
        aside = args.json.with_name(f".{args.json.name}.part")
        aside.write_text(text + "\n", encoding="utf-8")
        os.replace(aside, args.json)


if __name__ == "__main__":
    main()
