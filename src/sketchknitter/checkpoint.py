"""One ``.safetensors`` file holds a model: weights, and in its JSON header all that rebuilds it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.errors import UserError
from sketchknitter.files import atomic

FORMAT = 1
KEY = "sketchknitter"


def write_tensors(
    path: str | PathLike[str], tensors: dict[str, Tensor], header: dict[str, Any]
) -> None:
    """Write tensors and a JSON header, aside first, then renamed into place."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data = save(
        {k: v.detach().contiguous().cpu() for k, v in tensors.items()},
        metadata={KEY: json.dumps(header)},
    )
    with atomic(target, durable=True) as file:
        file.write(data)


def read_tensors(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON header of a file written by :func:`write_tensors`. Runs no code.

    Raises:
        UserError: no such file, not a safetensors file, or not one of ours.
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise UserError(f"{path}: a safetensors file, but not one of sketchknitter's")
            header = json.loads(metadata[KEY])
            if not isinstance(header, dict):
                raise SafetensorError("its header is no JSON object")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a readable .safetensors file ({error})") from None
    if header.get("format", 0) > FORMAT:
        raise UserError(
            f"{path}: written by a newer version (format {header['format']}, this one reads up to "
            f"{FORMAT}); upgrade sketchknitter"
        )
    return tensors, header


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
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    lengths: Tensor
    record: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

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
        return cls(
            config=ModelConfig.from_dict(header.get("config", {})),
            weights={k[6:]: v for k, v in tensors.items() if k.startswith("model.")},
            lengths=tensors["lengths"],
            record=header.get("record", {}),
            extras={
                k: v for k, v in tensors.items() if not k.startswith("model.") and k != "lengths"
            },
            notes=header.get("notes", {}),
        )

    def denoiser(self) -> Denoiser:
        """The denoiser with these weights, in evaluation mode.

        Raises:
            UserError: the weights do not fit the configuration.
        """
        model = build_denoiser(self.config)
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
