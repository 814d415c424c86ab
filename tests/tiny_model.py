"""A model of random weights and a drawing, for tests that need no trained ones."""

from __future__ import annotations

import numpy as np
import torch

from sketchknitter.data.codec import Codec
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.settings import BackboneConfig, DiffusionConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser

CLASSES = ("arc", "box", "cup")


def tiny(
    representation: str = "leaky",
    leak: float = 0.5,
    pens: str = "bits",
    length: str = "given",
    classes: tuple[str, ...] = CLASSES,
    conditions: bool = False,
) -> SketchKnitter:
    """A model of random weights whose estimates are neither zero nor wild."""
    config = ModelConfig(
        network=BackboneConfig(widths=(16, 24), num_res_blocks=1, attention_levels=()),
        diffusion=DiffusionConfig(pens=pens, length=length, conditions=conditions),
        codec=Codec(representation, leak or 0.8, scale=40.0),
        classes=classes,
    )
    torch.manual_seed(0)
    denoiser = build_denoiser(config)
    with torch.no_grad():
        for p in denoiser.parameters():
            p.add_(0.05 * torch.randn_like(p))
    lengths = torch.zeros(len(classes) + 1, config.codec.max_points + 1, dtype=torch.int32)
    lengths[:, 12:40] = 5
    return SketchKnitter(Checkpoint(config, denoiser.state_dict(), lengths))


def half(scale: float = 1.0, at: tuple[float, float] = (0.0, 0.0)) -> Sketch:
    """A wavy line and a hook, anywhere and of any size."""
    u = np.linspace(0, 2, 30)
    wave = np.column_stack([100 * u, 30 * np.sin(4 * u)])
    return Sketch([wave, [[0, 60], [80, 90], [90, 40.0]]]).transformed(scale, at)
