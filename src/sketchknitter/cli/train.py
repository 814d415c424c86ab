"""``sketchknitter train``: a model from drawings, with progress, previews and exact resume."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import tyro

from sketchknitter.cli import shim, stage, systems
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
from sketchknitter.cli.toml import to_toml, words_of
from sketchknitter.errors import SettingError, UserError
from sketchknitter.files import STATE
from sketchknitter.settings import (
    AugmentConfig,
    BackboneConfig,
    CodecOptions,
    DiffusionConfig,
    OptimConfig,
)

if TYPE_CHECKING:
    from sketchknitter.systems.sketchknitter.config import ModelConfig
    from sketchknitter.systems.sketchknitter.run import DenoiserRun
    from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer
    from sketchknitter.training.trainer import Update

DESCRIPTION = """Train a model; --log-dir gets checkpoints, previews, a log and a loss plot.

examples:
  sketchknitter train --data-dir drawings/ --log-dir runs/mine
  sketchknitter train --data-dir prepared --category cat pig --iterations 20000 --optimizer muon
  sketchknitter train --resume --log-dir runs/mine
  sketchknitter train --data-dir my-svgs/ --model-path runs/mine --lr 2e-4 --log-dir runs/tuned
  sketchknitter train --stage recognizability --model-path runs/mine
  sketchknitter train --stage distill --help     students of few steps; then match, refine
  sketchknitter train --stage judge --data-dir drawings --out judge.safetensors
  sketchknitter train --system sketchrnn --data-dir prepared --log-dir runs/rnn
  torchrun --nproc-per-node 2 -m sketchknitter train --data-dir prepared --log-dir runs/two

The original scripts' options work in their own spelling: docs/options.md.
"""
OPTIONS = "options.toml"


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    data_dir: tuple[str, ...] = ()
    """a prepared set, a folder of drawing files, or drawing files"""
    category: tuple[str, ...] = ()
    """only these classes"""
    log_dir: str = "logs"
    """folder of the run"""
    model_path: str = ""
    """start from these weights: shipped, a .safetensors file, a folder, a hub id"""
    resume: bool = False
    """continue the run in --log-dir, with its options, bit for bit"""
    resume_checkpoint: str = ""
    """continue from this state.safetensors instead"""
    overwrite: bool = False
    """start anew although --log-dir holds a run"""
    stop_at: int = 0
    """end after this update; --resume goes on as if there had been no pause"""
    save_interval: int = 1000
    """updates between checkpoints with preview and held-out loss"""
    log_interval: int = 10
    """updates between lines of the log"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""
    config: str = ""
    """TOML file of options by these names; what the command line says counts more"""


@dataclass(frozen=True)
class Train:
    """All options, in groups."""

    run: RunOptions = field(default_factory=RunOptions)
    optim: OptimConfig = field(default_factory=OptimConfig)
    codec: CodecOptions = field(default_factory=CodecOptions)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    network: BackboneConfig = field(default_factory=BackboneConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


GROUPS = (RunOptions, OptimConfig, CodecOptions, DiffusionConfig, BackboneConfig, AugmentConfig)
# what belongs to one command rather than to the run
_PASSING = {"config", "resume", "resume_checkpoint", "overwrite", "stop_at", "log_dir", "threads"}


def option_names() -> set[str]:
    """Names of our own options, with underscores."""
    return {f.name for group in GROUPS for f in dataclasses.fields(group)}


# -- options -------------------------------------------------------------------------------------
def parse(argv: list[str]) -> Train:
    """Options from the command line, over those of ``--config``, over those of a resumed run.

    Raises:
        UserError: an unknown key or a bad value in a TOML file, or a value missing in ``argv``.
    """
    base: list[str] = []
    options, notes = _parsed(argv)
    if options.run.config:
        base = words_of(Path(options.run.config), option_names() | set(shim.TRAIN))
        options, notes = _parsed(base + argv)
    saved = Path(options.run.log_dir) / OPTIONS
    if options.run.resume and saved.exists():
        options, notes = _parsed(words_of(saved, option_names()) + base + argv)
    if int(os.environ.get("RANK", "0")) == 0:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    return options


def _parsed(argv: list[str]) -> tuple[Train, list[str]]:
    words, notes = shim.rewrite(argv, shim.TRAIN, shim.flags_of(*GROUPS))
    options = tyro.cli(
        Train,
        args=words,
        prog="sketchknitter train",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return options, notes


# -- the command ---------------------------------------------------------------------------------
def run(argv: list[str]) -> None:
    """Train as ``argv`` says."""
    if stage.asked(argv):
        if status := stage.run(argv):
            sys.exit(status)
        return
    if systems.asked(argv):
        return systems.run(argv)
    options = parse(argv)
    if not options.run.data_dir:
        raise UserError("which drawings? --data-dir takes a prepared set, a folder, or files")
    _check_folder(options.run)
    use_threads(options.run.threads)
    device = pick_device(options.run.device, workers())
    with process_group(device):
        training = _set_up(options, device, argv)
        status = _train(training, options)
    if status:
        sys.exit(status)


def _check_folder(run: RunOptions) -> None:
    """Refuse to write over a run, before anything is read."""
    if run.overwrite and (run.resume or run.resume_checkpoint):
        raise UserError("--overwrite starts anew, --resume goes on: give one of them")
    for name in ("stop_at", "threads"):
        if getattr(run, name) < 0:
            raise SettingError(name, f"must be 0 or more, not {getattr(run, name)}")
    from_state = run.resume or run.resume_checkpoint
    if (Path(run.log_dir) / STATE).exists() and not from_state and not run.overwrite:
        raise UserError(
            f"{run.log_dir} holds a run; --resume goes on with it, --overwrite starts anew,"
            " and another --log-dir keeps both"
        )


def _set_up(options: Train, device: str, argv: list[str]) -> DenoiserRun:
    """Data, trainer and run folder."""
    import torch

    from sketchknitter.data.codec import Codec
    from sketchknitter.systems.sketchknitter.config import ModelConfig
    from sketchknitter.systems.sketchknitter.run import DenoiserRun, adapted, fitting_batch, within
    from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer

    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    lead = not distributed or torch.distributed.get_rank() == 0
    data = open_together(options.run.data_dir, options.run.category or None)
    weights = None
    if options.run.model_path:
        from sketchknitter.editing.model import SketchKnitter

        start = SketchKnitter.from_pretrained(options.run.model_path).checkpoint
        _check_fit(options, start.config)
        model, weights = adapted(start, tuple(data.classes), options.diffusion.conditions)
    else:
        codec = Codec(
            options.codec.representation, options.codec.leak, max_rows=options.codec.points
        )
        model = ModelConfig(options.network, options.diffusion, codec, tuple(data.classes))
    data, dropped = within(data, model.codec.max_rows)
    if not len(data.train):
        raise UserError(f"no training drawings in {' '.join(options.run.data_dir)}")
    size = fitting_batch(options.optim.batch_size, len(data.train), workers())
    if size < options.optim.batch_size:
        if lead:
            print(
                f"note: {len(data.train):,} training drawings fill no batch of"
                f" {options.optim.batch_size}; batches of {size} instead",
                file=sys.stderr,
            )
        optim = dataclasses.replace(options.optim, batch_size=size)
        options = dataclasses.replace(options, optim=optim)
    trainer = DenoiserTrainer(data, model, options.optim, options.augment, device, weights)
    own = Path(options.run.resume_checkpoint or Path(options.run.log_dir) / STATE)
    going_on = options.run.resume or options.run.resume_checkpoint
    precision = trainer.settle(own if going_on else None)
    optim = dataclasses.replace(options.optim, precision=precision)
    options = dataclasses.replace(options, optim=optim)
    record = {
        "command": "sketchknitter train " + " ".join(map(quote, argv)),
        "commit": commit(),
        "data_name": ", ".join(Path(p).name or str(p) for p in options.run.data_dir),
    }
    training = DenoiserRun(
        trainer,
        options.run.log_dir,
        save_interval=options.run.save_interval,
        log_interval=options.run.log_interval,
        record=record,
    )
    if lead:
        _introduce(training, dropped)
        (training.folder / OPTIONS).write_text(
            to_toml(_anchored(options), _PASSING), encoding="utf-8"
        )
    _resume(training, options)
    return training


def _anchored(options: Train) -> Train:
    """With absolute paths, so that --resume works from any folder."""

    def anchor(path: str) -> str:
        return str(Path(path).resolve()) if path and Path(path).exists() else path

    run = options.run
    return dataclasses.replace(
        options,
        run=dataclasses.replace(
            run,
            data_dir=tuple(map(anchor, run.data_dir)),
            model_path=anchor(run.model_path),
        ),
    )


def _check_fit(options: Train, config: ModelConfig) -> None:
    """A checkpoint brings its own network; an option that contradicts it must not be ignored."""
    theirs = {
        **dataclasses.asdict(config.network),
        **dataclasses.asdict(config.diffusion),
        "representation": config.codec.representation,
        "leak": config.codec.leak,
        "points": config.codec.max_rows,
    }
    for group in (options.network, options.diffusion, options.codec):
        for f in dataclasses.fields(group):
            value = getattr(group, f.name)
            if f.name == "conditions":
                continue  # a network can learn to see what is known
            if value not in (f.default, theirs[f.name]):
                raise UserError(
                    f"--{f.name.replace('_', '-')} {value} contradicts {options.run.model_path},"
                    f" which has {theirs[f.name]}; leave it out"
                )


def _introduce(training: DenoiserRun, dropped: int) -> None:
    import torch

    trainer = training.trainer
    size = sum(p.numel() for p in trainer.denoiser.parameters())
    left_out = f" ({dropped:,} longer ones left out)" if dropped else ""
    many = f"{trainer.world} processes, " if trainer.world > 1 else ""
    print(
        f"{training.folder}: {len(trainer.data.train):,} drawings of"
        f" {len(trainer.model.classes) or 'no'}"
        f" class{'' if len(trainer.model.classes) == 1 else 'es'}{left_out},"
        f" {len(trainer.data.valid):,} held out; {size / 1e6:.2f} M parameters on"
        f" {trainer.device}, {many}{torch.get_num_threads()} threads, {trainer.config.precision}",
        flush=True,
    )


def _resume(training: DenoiserRun, options: Train) -> None:
    trainer, run = training.trainer, options.run
    own = training.folder / STATE
    if run.resume_checkpoint:
        training.resume(run.resume_checkpoint)
    elif run.resume and own.exists():
        training.resume(own)
    elif run.resume and training.lead:
        print(f"{own} is not there yet: starting at the beginning")
    if not training.lead:
        return
    if trainer.iteration:
        print(f"resuming after update {trainer.iteration:,}", flush=True)
        _say_changes(trainer, run.resume_checkpoint or own)


def _say_changes(trainer: DenoiserTrainer, state: str | Path) -> None:
    """What of the learning settings differs from the run that is resumed."""
    from sketchknitter.files import read_tensors

    old = read_tensors(state)[1]["optim"]
    now = dataclasses.asdict(trainer.config)
    changed = [f"{k} {old[k]} → {now[k]}" for k in now if k in old and old[k] != now[k]]
    if changed:
        print(
            f"note: changed: {', '.join(changed)}; from here on this is another run than the one"
            " that had them from the start",
            file=sys.stderr,
        )


def _train(training: DenoiserRun, options: Train) -> int:
    """Run to the end or to the first signal; returns the exit status."""
    from tqdm import tqdm

    trainer, run = training.trainer, options.run
    end = min(run.stop_at or options.optim.iterations, options.optim.iterations)
    if trainer.iteration >= end:
        if training.lead:
            print(f"nothing left to do: {trainer.iteration:,} of {end:,} updates are done")
        return 0
    tty = sys.stderr.isatty()
    bar = tqdm(
        total=end,
        initial=trainer.iteration,
        unit="update",
        disable=not training.lead,
        smoothing=0.05,
        mininterval=0.2 if tty else 30,
        dynamic_ncols=True,
    )
    training.say = bar.write
    smooth: list[float] = []

    def report(update: Update) -> None:
        smooth[:] = [0.98 * smooth[0] + 0.02 * update.loss] if smooth else [update.loss]
        bar.set_postfix_str(f"loss {smooth[0]:.4f}", refresh=False)
        bar.update()

    with Signals() as signals, bar:
        through = training.go(end, lambda: signals.caught is not None, report)
    if not training.lead:
        return 0 if through else 128 + (signals.caught or signal.SIGTERM)
    _conclude(training, through, run)
    return 0 if through else 128 + (signals.caught or signal.SIGTERM)


def _conclude(training: DenoiserRun, through: bool, run: RunOptions) -> None:
    trainer = training.trainer
    weights, state = training.digests()
    done = trainer.iteration >= trainer.config.iterations
    went = "finished" if done else f"paused at update {trainer.iteration:,}"
    print(f"{went} after {span(trainer.seconds)}; weights sha256 {weights}, state {state}")
    if not done:
        print(f"go on with: sketchknitter train --resume --log-dir {quote(run.log_dir)}")
    print(
        f"look at {training.folder / 'previews'} and {training.folder / 'loss.png'};"
        f" draw with: sketchknitter sample --model-path {quote(run.log_dir)}"
        if through
        else f"saved in {training.folder}"
    )
