"""Small networks on disk: one safetensors file, whose JSON header rebuilds the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sketchknitter.errors import UserError
from sketchknitter.files import read_archive, write_tensors


def save_network(
    network: nn.Module, path: str | os.PathLike[str], form: str, header: Mapping[str, Any]
) -> None:
    """Write weights (floats as fp16) and a header, aside and then into place.

    Args:
        form: name and version of the kind of file.
        header: what rebuilds the network; JSON.
    """
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    write_tensors(path, weights, {"format": form, **header})


def read_network(
    path: str | os.PathLike[str], form: str, kind: str
) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """What :func:`save_network` wrote: header, weights (floats as float32), and an identity, the
    first 12 digits of the file's SHA-256.

    Args:
        kind: what it should be, in a word: judge, guide or reader.

    Raises:
        UserError: the file is missing, or is of another kind.
    """
    try:
        weights, header = read_archive(path)
        identity = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
    except (UserError, OSError) as error:
        raise UserError(
            f"no readable {kind} weights: {error}; train them with "
            f"`sketchknitter train --stage {kind} --data-dir DATA --out FILE`"
        ) from None
    if header.get("format") != form:
        raise UserError(f"{path}: not a {kind} ({form}) but {header.get('format')!r}")
    full = {name: w.float() if w.is_floating_point() else w for name, w in weights.items()}
    return header, full, identity


def restore(network: nn.Module, weights: Mapping[str, Tensor], path: str | os.PathLike[str]) -> Any:
    """``network`` with its weights, in evaluation mode, frozen.

    Raises:
        UserError: they do not fit.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UserError(f"{path}: its weights do not fit its header; it is damaged") from None
    return network.eval().requires_grad_(False)
