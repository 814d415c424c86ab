"""One ``.safetensors`` file holds a model: weights, and in its JSON header all that rebuilds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from sketchknitter.classes import check_names
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.errors import UserError
from sketchknitter.files import FORMAT, described_by, read_tensors, write_tensors
from sketchknitter.nn.stored import build
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser


@dataclass
class Checkpoint:
    """A model on disk and in memory.

    Attributes:
        config: rebuilds the denoiser.
        weights: the denoiser's state dict.
        lengths: how many training drawings have each number of model points, (classes + 1,
            max_points + 1) int32; the last row counts all classes together.
        record: how the weights were made (command, data fingerprint, updates, seconds, losses).
        extras: further tensors by name, each stage's under its own prefix (``recognizability.``).
        notes: further JSON by name, such as calibrated timesteps.
        path: the file that it was read from, for messages.
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    lengths: Tensor
    record: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    path: str | PathLike[str] | None = None

    @property
    def drawings(self) -> tuple[int, ...]:
        """Training drawings of each class."""
        return tuple(self.lengths[: len(self.config.classes)].sum(dim=1).tolist())

    def save(self, path: str | PathLike[str]) -> None:
        tensors = {f"model.{k}": v for k, v in self.weights.items()}
        tensors["lengths"] = self.lengths
        tensors |= self.extras
        header = {
            "format": FORMAT,
            "kind": "model",
            "config": self.config.to_dict(),
            "record": self.record,
            "notes": self.notes,
        }
        write_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            UserError: not a model file of ours.
        """
        tensors, header = read_tensors(path)
        if header.get("kind") != "model" or "lengths" not in tensors:
            raise UserError(f"{path}: holds {header.get('kind', 'something else')}, not a model")
        with described_by(path):
            config = ModelConfig.from_dict(header.get("config", {}))
            check_names(config.classes)
            shape = (len(config.classes) + 1, config.codec.max_points + 1)
            if tensors["lengths"].shape != shape:
                raise ValueError(f"lengths {tuple(tensors['lengths'].shape)}, not {shape}")
            if not all(isinstance(header.get(k, {}), dict) for k in ("record", "notes")):
                raise TypeError("record and notes are no tables")
        return cls(
            config=config,
            weights={k[6:]: v for k, v in tensors.items() if k.startswith("model.")},
            lengths=tensors["lengths"],
            record=header.get("record", {}),
            extras={
                k: v for k, v in tensors.items() if not k.startswith("model.") and k != "lengths"
            },
            notes=header.get("notes", {}),
            path=path,
        )

    def denoiser(self, guided: bool = False) -> Denoiser:
        """The denoiser with these weights, in evaluation mode; ``guided`` as :func:`build_denoiser`
        takes it.

        Raises:
            UserError: the weights do not fit the configuration.
        """
        with described_by(self.path or "the checkpoint"):
            model = build(lambda: build_denoiser(self.config, guided), self.weights)
        weights = {
            k: v.to(torch.float32) if v.is_floating_point() else v for k, v in self.weights.items()
        }
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            first = str(error).splitlines()
            raise UserError(
                f"weights do not fit the checkpoint's configuration: {first[-1]}"
            ) from None
        return model.eval()
