"""What rebuilds a denoiser: configuration in, a fresh network of random weights out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sketchknitter.data.codec import Codec
from sketchknitter.data.conditions import CHANNELS
from sketchknitter.diffusion.denoiser import BitPens, Denoiser, HeadPens, Parametrization, Pens
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.errors import UserError
from sketchknitter.nn.official import OfficialUNet
from sketchknitter.nn.transformer import Transformer
from sketchknitter.nn.unet1d import UNet1d
from sketchknitter.settings import (
    BackboneConfig,
    DiffusionConfig,
)


@dataclass(frozen=True)
class ModelConfig:
    """What rebuilds a denoiser."""

    network: BackboneConfig = field(default_factory=BackboneConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    codec: Codec = field(default_factory=Codec)
    classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            UserError: an unknown or a missing name.
        """
        classes = data.get("classes", [])
        if not isinstance(classes, list | tuple) or not all(isinstance(c, str) for c in classes):
            raise UserError("classes are not a list of names")
        return cls(
            network=_record(BackboneConfig, data.get("network")),
            diffusion=_record(DiffusionConfig, data.get("diffusion")),
            codec=_record(Codec, data.get("codec")),
            classes=tuple(classes),
        )


def _record(kind: type, data: dict[str, Any] | None) -> Any:
    if not isinstance(data, dict):
        raise UserError(f"{kind.__name__} settings are missing")
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := set(data) - known:
        raise UserError(f"unknown {kind.__name__} settings: {', '.join(sorted(unknown))}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


def build_backbone(
    config: BackboneConfig,
    inputs: int,
    outputs: int,
    classes: int,
    max_points: int,
    guided: bool = False,
) -> nn.Module:
    """A fresh backbone of the kind that ``config`` names; ``guided``: with the guidance weight as
    an input."""
    if config.backbone == "unet1d":
        return UNet1d(
            inputs,
            outputs,
            classes,
            widths=config.widths,
            blocks=config.num_res_blocks,
            attention=config.attention_levels,
            heads=config.num_heads,
            dropout=config.dropout,
            film=config.use_scale_shift_norm,
            guided=guided,
        )
    if config.backbone == "transformer":
        return Transformer(
            inputs,
            outputs,
            classes,
            width=config.widths[0],
            depth=len(config.widths),
            heads=config.num_heads,
            dropout=config.dropout,
            guided=guided,
        )
    if config.backbone == "official":
        if guided:
            raise UserError("the official backbone has no input for a guidance weight")
        return OfficialUNet(
            inputs,
            outputs,
            classes,
            points=max_points,
            blocks=config.num_res_blocks,
            heads=config.num_heads,
            dropout=config.dropout,
            film=config.use_scale_shift_norm,
        )
    raise UserError(f"no backbone {config.backbone!r}; one of: unet1d, transformer, official")


def build_denoiser(config: ModelConfig, guided: bool = False, further: int = 0) -> Denoiser:
    """A fresh denoiser with random weights.

    Args:
        guided: a student's, which takes the guidance weight as an input.
        further: outputs of each point beside those of a denoiser.
    """
    diffusion, codec = config.diffusion, config.codec
    pens: Pens = BitPens() if diffusion.pens == "bits" else HeadPens(diffusion.pen_weight)
    shown = codec.map if diffusion.show_positions and codec.rho > 0 else None
    width = 2 + pens.channels
    if diffusion.conditions and (
        diffusion.pens != "bits" or diffusion.length != "given" or not codec.extra
    ):
        raise UserError(
            "conditions need pens as bits, given lengths, and the leaky or absolute representation"
        )
    condition = CHANNELS if diffusion.conditions else 0
    backbone = build_backbone(
        config.network,
        width + (2 if shown is not None else 0) + condition,
        width + pens.logits + further,
        len(config.classes),
        codec.max_points,
        guided,
    )
    return Denoiser(
        backbone,
        Schedule(diffusion.noise_schedule, diffusion.diffusion_steps),
        Parametrization(diffusion.parametrization),
        pens,
        length_given=diffusion.length == "given",
        representation=shown,
        condition=condition,
        guided=guided,
    )
