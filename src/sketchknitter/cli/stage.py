"""``sketchknitter train --stage …``: what a trained model learns on top, in the same file."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal

import tyro

from sketchknitter.errors import UserError
from sketchknitter.settings import StageConfig

DESCRIPTION = """Add a further stage to a trained model; the file is rewritten with it.

recognizability: a recurrent network that tells how recognizable a drawing already is, and the
timesteps calibrated with it. Then --timesteps shortcut, --best-of and --encourage work.

examples:
  sketchknitter train --stage recognizability --model-path m.safetensors
  sketchknitter train --stage recognizability --model-path runs/mine --data-dir prepared
"""


@dataclass(frozen=True)
class StageOptions:
    """The stage."""

    stage: Literal["recognizability"]
    """what to add"""
    model_path: str = ""
    """the model: a .safetensors file or a run's folder"""
    data_dir: tuple[str, ...] = ()
    """drawings to be noised (default: the model's own)"""
    guide: str = ""
    """weights of the recognizer whose opinion is learned (default: the shipped ones)"""
    seed: int = 0
    """same seed, same file"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


@dataclass(frozen=True)
class Stage:
    """All options, in groups."""

    what: StageOptions
    how: StageConfig = field(default_factory=StageConfig)


def asked(argv: list[str]) -> bool:
    """Whether ``train`` was asked for a stage instead of a model."""
    return any(word == "--stage" or word.startswith("--stage=") for word in argv)


def run(argv: list[str]) -> None:
    """Train the stage, print which inputs predict best."""
    options = tyro.cli(
        Stage,
        args=argv,
        prog="sketchknitter train",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    what = options.what
    if not what.model_path:
        raise UserError("which model? --model-path takes a .safetensors file or a run's folder")
    import torch
    from tqdm import tqdm

    from sketchknitter.data.prepare import open_data
    from sketchknitter.recognizers.picture import Recognizer
    from sketchknitter.systems.sketchknitter.model import _locate
    from sketchknitter.systems.sketchknitter.recognizability import run_stage

    if what.threads:
        torch.set_num_threads(what.threads)
    path = _locate(what.model_path)
    guide = Recognizer.load(what.guide or None)
    data = open_data(what.data_dir) if what.data_dir else None
    with tqdm(
        total=100, bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}", file=sys.stderr
    ) as bar:

        def report(doing: str, share: float) -> None:
            bar.set_description(doing, refresh=False)
            bar.n = round(100 * share)
            bar.refresh()

        text = run_stage(path, data, config=options.how, guide=guide, seed=what.seed, report=report)
        report("done", 1.0)
    print(text)
    print(f"\nstored in {path}; draw with:")
    print(f"sketchknitter sample --timesteps shortcut --model-path {path}")
