"""``sketchknitter export``: the denoiser as an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sketchknitter.errors import UserError

DESCRIPTION = """Write a model's denoiser as ONNX, for onnxruntime, browsers and other languages.

One evaluation of the network, of any batch size and number of points: inputs x, t, label, mask,
what is known of the drawing (condition), and a distilled model's guidance weight; outputs x0, eps,
pen. Timesteps and the sampler stay outside. Needs the extra onnx.

examples:
  sketchknitter export m.onnx
  sketchknitter export mine.onnx --model-path runs/mine
"""


@dataclass(frozen=True)
class Export:
    """What to export, and where to."""

    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """the .onnx file to write"""
    model_path: str = ""
    """a .safetensors file, a run's folder, a hub id; nothing is the shipped model"""
    many_steps: bool = False
    """export the many-step network of a distilled model instead of its student"""


def run(argv: list[str]) -> None:
    """Export as ``argv`` says and say where the file is."""
    options = tyro.cli(
        Export,
        args=argv,
        prog="sketchknitter export",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    path = Path(options.output)
    if path.suffix.lower() != ".onnx":
        raise UserError(f"{path}: an exported model is an .onnx file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: no such folder: {path.parent}; make it first")
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.systems.sketchknitter.export import export, inputs_of

    model = SketchKnitter.from_pretrained(options.model_path or None)
    export(model, path, many_steps=options.many_steps)
    student = None if options.many_steps else model.student
    names = inputs_of(model.denoiser if student is None else student.denoiser)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; inputs {', '.join(names)}")
