"""Optimizers, and how the learning rate runs over the course of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sketchknitter.processes import place

OptimizerName = Literal["adamw", "muon"]

Course = Callable[[int, float], float]
"""(updates done, share of the training done, 0 … 1) -> learning rate of the next update."""

Clip = Callable[[Sequence[nn.Parameter]], float]
"""Shortens gradients in place; returns their norm before, infinite or NaN where they overflowed."""


# -- learning rates ------------------------------------------------------------------------------
def warmup_cosine(lr: float, warmup: int, end: int) -> Course:
    """Linear warm-up over ``warmup`` updates, then a cosine that reaches zero at update ``end``."""

    def course(iteration: int, share: float) -> float:
        ramp = min(1.0, (iteration + 1) / max(1, warmup))
        done = min(1.0, max(0, iteration - warmup) / max(1, end - warmup))
        return lr * ramp * 0.5 * (1 + math.cos(math.pi * done))

    return course


def cosine_over_share(lr: float, warmup: int = 0, floor: float = 0.0) -> Course:
    """:func:`warmup_cosine` where the end is a share of 1, however many updates that will be.

    Args:
        floor: added all the way; what is left at the end.
    """

    def course(iteration: int, share: float) -> float:
        ramp = min(1.0, (iteration + 1) / max(1, warmup))
        return floor + lr * ramp * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    return course


def one_cycle(lr: float, rise: float = 0.05) -> Course:
    """Linear rise over the share ``rise`` of the training, under a cosine that ends near zero."""

    def course(iteration: int, share: float) -> float:
        return lr * min(share / rise + 0.02, 1.0) * (0.5 + 0.5 * math.cos(math.pi * share) + 1e-3)

    return course


# -- clipping ------------------------------------------------------------------------------------
def clip_norm(largest: float) -> Clip:
    """All gradients together shortened to a norm of ``largest``."""
    return lambda parameters: float(nn.utils.clip_grad_norm_(parameters, largest))


def clip_values(largest: float) -> Clip:
    """Every element of the gradients kept within ±``largest``."""

    def clip(parameters: Sequence[nn.Parameter]) -> float:
        norm = float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        nn.utils.clip_grad_value_(parameters, largest)
        return norm

    return clip


# -- optimizers ----------------------------------------------------------------------------------
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def orthogonalized(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: U V' of U S V', (…, m, n).

    Newton-Schulz iteration with Jordan's quintic (Muon, Jordan et al. 2024), which brings singular
    values to about 0.7 … 1.2. In bfloat16 where the device multiplies it, in float32 elsewhere:
    processors without bfloat16 products emulate them at a hundredth of the speed.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(torch.bfloat16 if multiplies_bfloat16(matrices.device) else torch.float32)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def shared_out(stacks: Sequence[Tensor]) -> list[Tensor]:
    """:func:`orthogonalized` of stacks (k, m, n), the same in every process of a training.

    Each process takes its share of each stack and they exchange what they made: the one part of an
    update that does not shrink with a process's share of the batch.
    """
    rank, world = place()
    if world == 1 or not stacks:
        return [orthogonalized(stack) for stack in stacks]
    shares = [-(-len(stack) // world) for stack in stacks]
    made = []
    for stack, share in zip(stacks, shares, strict=True):
        room = stack.new_zeros((share, *stack.shape[1:]))
        mine = stack[rank * share : (rank + 1) * share]
        room[: len(mine)] = orthogonalized(mine)
        made.append(room.flatten())
    own = torch.cat(made)
    everyone = [torch.empty_like(own) for _ in range(world)]
    torch.distributed.all_gather(everyone, own)
    sizes = [len(part) for part in made]
    parts = [one.split(sizes) for one in everyone]
    return [
        torch.cat([p[i].view(share, *stack.shape[1:]) for p in parts])[: len(stack)]
        for i, (stack, share) in enumerate(zip(stacks, shares, strict=True))
    ]


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalized, for hidden matrices (Jordan et al. 2024).

    Steps have the root mean square of AdamW's (0.2, Liu et al. 2025, eq. 4), so that learning rate
    and weight decay of AdamW fit. Matrices of one shape are orthogonalized together, shared out
    among the processes of a training, whose gradients are the same.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            ahead = [self._ahead(parameters, group["momentum"]) for parameters in alike.values()]
            for parameters, steps in zip(alike.values(), shared_out(ahead), strict=True):
                size = group["lr"] * 0.2 * max(steps.shape[1:]) ** 0.5
                decay = 1 - group["lr"] * group["weight_decay"]
                torch._foreach_mul_(list[Tensor](parameters), decay)
                torch._foreach_add_(list[Tensor](parameters), list(steps), alpha=-size)

    def _ahead(self, parameters: list[nn.Parameter], momentum: float) -> Tensor:
        """Nesterov's mean gradients of parameters of one shape, (k, m, n)."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        mean = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(mean, gradients, 1 - momentum)
        return torch.stack(list(torch._foreach_lerp(gradients, mean, momentum)))


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Matrices between hidden layers: neither embeddings nor what a module calls ``outer``, its
    first and last layers."""
    outer: set[nn.Parameter] = set()
    for module in network.modules():
        layers = [module] if isinstance(module, nn.Embedding) else getattr(module, "outer", ())
        outer.update(p for layer in layers for p in layer.parameters())
    return [p for p in network.parameters() if p.ndim == 2 and p not in outer]


def adamw(
    parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.01
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) in one fused pass, which remembers a hundred gradients."""
    return torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )


def optimizers(
    name: OptimizerName, network: nn.Module, lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW for all weights; or Muon for hidden matrices, at twice the rate, and AdamW for the
    rest. Each keeps the ratio of its own rate to ``lr`` as its group's ``ratio``."""
    if name == "adamw":
        return [adamw(network.parameters(), lr, weight_decay)]
    matrices = hidden_matrices(network)
    own = set(matrices)
    out: list[torch.optim.Optimizer] = [
        adamw([p for p in network.parameters() if p not in own], lr, weight_decay)
    ]
    if matrices:
        out.append(Muon(matrices, 2 * lr, weight_decay=weight_decay))
        out[-1].param_groups[0]["ratio"] = 2.0
    return out


def restore(
    optimizer: torch.optim.Optimizer, states: Mapping[nn.Parameter, Mapping[str, Tensor]]
) -> None:
    """Give an optimizer the moments of an earlier one, each where the optimizer needs it."""
    order = [p for group in optimizer.param_groups for p in group["params"]]
    found = optimizer.state_dict()
    # torch's own way puts every number on the right device: fused steps count on the parameter's
    optimizer.load_state_dict(
        found | {"state": {i: dict(states[p]) for i, p in enumerate(order) if p in states}}
    )
