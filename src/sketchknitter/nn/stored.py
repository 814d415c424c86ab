"""Small networks on disk: one safetensors file, whose JSON header rebuilds the network."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sketchknitter.classes import check_names
from sketchknitter.errors import UserError
from sketchknitter.files import described_by, read_archive, write_tensors

Built = TypeVar("Built")
Network = TypeVar("Network", bound=nn.Module)
_ALLOCATES = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.zeros.default,
    torch.ops.aten.ones.default,
    torch.ops.aten.full.default,
    torch.ops.aten.arange.start_step,
    torch.ops.aten.arange.default,
    torch.ops.aten.linspace.default,
    torch.ops.aten.randn.default,
    torch.ops.aten.rand.default,
}
_SPARE = 1 << 22  # numbers that a network may hold beside its weights: tables, what init needs
_EACH = 4096  # numbers that a tensor counts for at least: so many can be made in good time


class _Allowance(TorchDispatchMode):
    """Lets tensors be made until so many numbers are spent, and says so before the one too many."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _ALLOCATES:
            size = args[0] if args and isinstance(args[0], list | tuple | torch.Size) else args[:2]
            self.left -= max(_EACH, math.prod(abs(int(n)) for n in size))
            if self.left < 0:
                raise ValueError("it describes a network larger than the weights in the file")
        return func(*args, **(kwargs or {}))


def build(make: Callable[[], Built], weights: Mapping[str, Tensor]) -> Built:
    """``make()``, as long as it takes no more memory than about four times its weights.

    Raises:
        ValueError: it would.
    """
    with _Allowance(4 * sum(w.numel() + _EACH for w in weights.values()) + _SPARE):
        return make()


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
        kind: what it should be, in a word: judge, guide or outlook.

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
    with described_by(path):
        check_names(header.get("classes", ()))
    full = {name: w.float() if w.is_floating_point() else w for name, w in weights.items()}
    return header, full, identity


def restore(
    make: Callable[[], Network], weights: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> Network:
    """The network that ``make`` builds by a file's header, with the file's weights, in evaluation
    mode, frozen.

    Raises:
        UserError: they do not fit, or the header describes no network.
    """
    with described_by(path):
        network = build(make, weights)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UserError(f"{path}: its weights do not fit its header; it is damaged") from None
    return network.eval().requires_grad_(False)
