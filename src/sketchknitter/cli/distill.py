"""``sketchknitter train --stage distill``: a student that draws in few steps."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import tyro

from sketchknitter.cli.process import (
    Signals,
    commit,
    open_together,
    pick_device,
    process_group,
    span,
    use_threads,
    workers,
)
from sketchknitter.errors import UserError
from sketchknitter.files import STATE
from sketchknitter.settings import AugmentConfig, DistillConfig

DESCRIPTION = """Teach a trained model to draw in few steps, guidance included.

The student takes one step where its teacher takes several (progressive distillation). --log-dir
gets the model with its student; distill that one again for still fewer steps. --resume goes on
bit for bit, and torchrun shares the work, as for any training.

examples:
  sketchknitter train --stage distill --model-path runs/mine --data-dir D --steps 8 --log-dir runs/8
  sketchknitter train --stage distill --model-path runs/8 --data-dir D --steps 4 --log-dir runs/4
  sketchknitter sample cat --model-path runs/4
"""


@dataclass(frozen=True)
class DistillOptions:
    """The stage."""

    stage: Literal["distill"]
    """what to add"""
    model_path: str = ""
    """the model: a .safetensors file or a run's folder; a student that it has already teaches"""
    weak_path: str = ""
    """the same training stopped early (its command with another --log-dir and --stop-at, at about a
    tenth of the updates): the teacher steers away from that model (autoguidance), and students
    come out more recognizable"""
    data_dir: tuple[str, ...] = ()
    """drawings to be noised: a prepared set, a folder of drawing files, or drawing files"""
    log_dir: str = "logs"
    """folder of the run"""
    resume: bool = False
    """continue the run in --log-dir, bit for bit; say the other options again"""
    stop_at: int = 0
    """end after this update; --resume goes on as if there had been no pause"""
    save_interval: int = 200
    """updates between saves"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


@dataclass(frozen=True)
class Distill:
    """All options, in groups."""

    what: DistillOptions
    how: DistillConfig = field(default_factory=DistillConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def parse(argv: list[str]) -> Distill:
    """Options from the command line."""
    return tyro.cli(
        Distill,
        args=argv,
        prog="sketchknitter train",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def run(argv: list[str]) -> int:
    """Train the student; returns the exit status."""
    options = parse(argv)
    what = options.what
    if not what.model_path or not what.data_dir:
        raise UserError("--model-path and --data-dir are needed: which model, and which drawings")
    if (Path(what.log_dir) / STATE).exists() and not what.resume:
        raise UserError(f"{what.log_dir} holds a run; --resume goes on with it")
    use_threads(what.threads)
    device = pick_device(what.device, workers())
    with process_group(device):
        return _distill(options, device, argv)


def _distill(options: Distill, device: str, argv: list[str]) -> int:
    from tqdm import tqdm

    from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
    from sketchknitter.systems.sketchknitter.distilling import DistillRun, DistillTrainer
    from sketchknitter.systems.sketchknitter.hub import locate
    from sketchknitter.systems.sketchknitter.run import within

    what, how = options.what, options.how
    checkpoint = Checkpoint.load(locate(what.model_path))
    data = open_together(what.data_dir, checkpoint.config.classes or None)
    data, _ = within(data, checkpoint.config.codec.max_rows)
    weak = Checkpoint.load(locate(what.weak_path)) if what.weak_path else None
    trainer = DistillTrainer(data, checkpoint, how, options.augment, device, weak)
    trainer.settle(Path(what.log_dir) / STATE if what.resume else None)
    record = {
        "command": "sketchknitter train " + " ".join(map(quote, argv)),
        "commit": commit(),
        "data_name": ", ".join(Path(p).name or str(p) for p in what.data_dir),
    }
    training = DistillRun(
        trainer, Path(what.log_dir), save_interval=what.save_interval, record=record
    )
    if what.resume:
        training.resume()
    end = min(what.stop_at or how.iterations, how.iterations)
    bar = tqdm(
        total=end,
        initial=trainer.iteration,
        unit="update",
        disable=not training.lead,
        mininterval=0.2 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
    )
    training.say = bar.write

    def report(update: Any) -> None:
        bar.update()

    with Signals() as signals, bar:
        through = training.go(end, lambda: signals.caught is not None, report)
    status = 0 if through else 128 + (signals.caught or 15)
    if training.lead:
        weights, state = training.digests()
        done = trainer.iteration >= how.iterations
        went = "finished" if done else f"paused at update {trainer.iteration:,}"
        print(f"{went} after {span(trainer.seconds)}; student sha256 {weights}, state {state}")
        print(f"draw with: sketchknitter sample --model-path {quote(what.log_dir)}")
    return status
