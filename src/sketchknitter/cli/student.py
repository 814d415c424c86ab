"""``sketchknitter train --stage distill`` and ``match``: students of few steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

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
from sketchknitter.settings import AugmentConfig, DistillConfig, MatchConfig

if TYPE_CHECKING:
    from sketchknitter.data.dataset import PreparedSet
    from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
    from sketchknitter.systems.sketchknitter.teaching import StudentTrainer

DISTILL = """Teach a trained model to draw in few steps, guidance included.

The student takes one step where its teacher takes several (progressive distillation). --log-dir
gets the model with its student; distill that one again for still fewer steps. --resume goes on
bit for bit, and torchrun shares the work, as for any training.

examples:
  sketchknitter train --stage distill --model-path runs/mine --data-dir D --steps 8 --log-dir runs/8
  sketchknitter train --stage distill --model-path runs/8 --data-dir D --steps 4 --log-dir runs/4
  sketchknitter sample cat --model-path runs/4
"""

MATCH = """Train a distilled student on: its drawings come to be distributed as the model's own.

A second network follows what the student draws in all its steps; where it differs from the
many-step network, drawings move by the difference (distribution matching). --steps may divide the
student's number. --resume goes on bit for bit, and torchrun shares the work, as for any training.

examples:
  sketchknitter train --stage match --model-path runs/4 --data-dir D --log-dir runs/matched
  sketchknitter train --stage match --model-path runs/4 --data-dir D --steps 2 --log-dir runs/2
  sketchknitter sample cat --model-path runs/matched
"""


@dataclass(frozen=True, kw_only=True)
class StudentOptions:
    """The stage."""

    model_path: str = ""
    """the model: a .safetensors file or a run's folder"""
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


@dataclass(frozen=True, kw_only=True)
class DistillOptions(StudentOptions):
    """The stage. A student that the model has already teaches."""

    stage: Literal["distill"]
    """what to add"""
    weak_path: str = ""
    """the same training stopped early (its command with another --log-dir and --stop-at, at about a
    tenth of the updates): the teacher steers away from that model (autoguidance), and students
    come out more recognizable"""


@dataclass(frozen=True, kw_only=True)
class MatchOptions(StudentOptions):
    """The stage. The model has a student already."""

    stage: Literal["match"]
    """what to add"""


@dataclass(frozen=True)
class Distill:
    """All options, in groups."""

    what: DistillOptions
    how: DistillConfig = field(default_factory=DistillConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def trainer(self, data: PreparedSet, checkpoint: Checkpoint, device: str) -> StudentTrainer:
        from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
        from sketchknitter.systems.sketchknitter.distilling import DistillTrainer
        from sketchknitter.systems.sketchknitter.hub import locate

        weak = Checkpoint.load(locate(self.what.weak_path)) if self.what.weak_path else None
        return DistillTrainer(data, checkpoint, self.how, self.augment, device, weak)


@dataclass(frozen=True)
class Match:
    """All options, in groups."""

    what: MatchOptions
    how: MatchConfig = field(default_factory=MatchConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def trainer(self, data: PreparedSet, checkpoint: Checkpoint, device: str) -> StudentTrainer:
        from sketchknitter.systems.sketchknitter.matching import MatchTrainer

        return MatchTrainer(data, checkpoint, self.how, self.augment, device)


Stage = Distill | Match
STAGES: dict[str, tuple[type[Stage], str]] = {
    "distill": (Distill, DISTILL),
    "match": (Match, MATCH),
}


def parse(stage: str, argv: list[str]) -> Stage:
    """Options of a stage from the command line."""
    kind, description = STAGES[stage]
    parsed: Stage = tyro.cli(
        kind,
        args=argv,
        prog="sketchknitter train",
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return parsed


def run(stage: str, argv: list[str]) -> int:
    """Train the student; returns the exit status."""
    options = parse(stage, argv)
    what = options.what
    if not what.model_path or not what.data_dir:
        raise UserError("--model-path and --data-dir are needed: which model, and which drawings")
    if (Path(what.log_dir) / STATE).exists() and not what.resume:
        raise UserError(f"{what.log_dir} holds a run; --resume goes on with it")
    use_threads(what.threads)
    device = pick_device(what.device, workers())
    with process_group(device):
        return _train(what, options.trainer, device, argv)


def _train(
    what: StudentOptions,
    made_by: Callable[[PreparedSet, Checkpoint, str], StudentTrainer],
    device: str,
    argv: list[str],
) -> int:
    from tqdm import tqdm

    from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
    from sketchknitter.systems.sketchknitter.hub import locate
    from sketchknitter.systems.sketchknitter.run import within
    from sketchknitter.systems.sketchknitter.teaching import StudentRun

    checkpoint = Checkpoint.load(locate(what.model_path))
    data = open_together(what.data_dir, checkpoint.config.classes or None)
    data, _ = within(data, checkpoint.config.codec.max_rows)
    trainer = made_by(data, checkpoint, device)
    trainer.settle(Path(what.log_dir) / STATE if what.resume else None)
    record = {
        "command": "sketchknitter train " + " ".join(map(quote, argv)),
        "commit": commit(),
        "data_name": ", ".join(Path(p).name or str(p) for p in what.data_dir),
    }
    training = StudentRun(
        trainer, Path(what.log_dir), save_interval=what.save_interval, record=record
    )
    if what.resume:
        training.resume()
    updates = trainer.config.iterations
    end = min(what.stop_at or updates, updates)
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
        went = "finished" if trainer.done else f"paused at update {trainer.iteration:,}"
        print(f"{went} after {span(trainer.seconds)}; student sha256 {weights}, state {state}")
        print(f"draw with: sketchknitter sample --model-path {quote(what.log_dir)}")
    return status
