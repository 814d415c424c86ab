"""The LSTM that draws: one layer, started from a code, which it also reads at every step."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.systems.autoregressive.density import head_size

State = tuple[Tensor, Tensor]  # h and c, (B, H) each
Start = Literal["magenta", "torch"]  # how weights start


class Lstm(nn.Module):
    """One LSTM layer with recurrent dropout without memory loss.

    The candidate tanh(g) alone is dropped, in training only (Semeniuta et al. 2016,
    arXiv 1603.05118), which ``nn.LSTM`` cannot do: its weights are used, its loop is not.

    Args:
        start: ``magenta`` (input weights Glorot-uniform, recurrent weights orthogonal for each
            gate, forget bias 1, one bias: the second stays 0 and is not learned) or ``torch``
            (what ``nn.LSTM`` does: uniform, two biases, no forget bias).
        dropout: share of candidates dropped.
    """

    def __init__(self, inputs: int, hidden: int, start: Start, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden, self.dropout = hidden, dropout
        self.weights = nn.LSTM(inputs, hidden, batch_first=True)
        if start == "magenta":
            inputs_to, recurrent, bias, second = self._all()
            nn.init.xavier_uniform_(inputs_to)
            with torch.no_grad():
                for gate in recurrent.chunk(4):
                    nn.init.orthogonal_(gate)
                bias.zero_()
                bias[hidden : 2 * hidden] = 1  # gates stand in the order i, f, g, o
                second.zero_()
            second.requires_grad_(False)

    def _all(self) -> list[nn.Parameter]:
        """Weights of inputs (4 H, I) and of h (4 H, H), two biases (4 H,)."""
        return list(self.weights.parameters())

    def forward(
        self, x: Tensor, state: State | None = None, constant: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs (B, L, H) and the last state.

        Args:
            x: inputs that change, (B, L, I).
            state: h and c before the first step; zeros without.
            constant: inputs of every step, (B, K), beside x: multiplied with their weights once.
        """
        inputs_to, recurrent, bias, second = self._all()
        own = x.shape[-1]
        inputs = F.linear(x, inputs_to[:, :own])
        if constant is None:
            inputs = inputs + (bias + second)
        else:
            added = F.linear(constant, inputs_to[:, own:], bias + second)
            inputs = inputs + added[:, None]
        if state is None:
            h = c = inputs.new_zeros(len(x), self.hidden)
        else:
            h, c = (s.to(inputs.dtype) for s in state)
        drop = self._drop(inputs)
        turned = recurrent.t().to(inputs.dtype)
        out = []
        for step, kept in zip(inputs.unbind(1), drop, strict=True):
            h, c = _cell(torch.addmm(step, h, turned), c, kept)
            out.append(h)
        return torch.stack(out, dim=1), (h, c)

    def _drop(self, inputs: Tensor) -> tuple[Tensor | None, ...]:
        """For each step what candidates are multiplied with, (B, H), or None."""
        b, n, _ = inputs.shape
        if not (self.training and self.dropout):
            return (None,) * n
        kept = torch.rand(b, n, self.hidden, device=inputs.device) >= self.dropout
        return (kept.to(inputs.dtype) / (1 - self.dropout)).unbind(1)


def _cell(gates: Tensor, c: Tensor, kept: Tensor | None) -> State:
    """h and c after one step, of pre-activations (B, 4 H)."""
    i, f, g, o = gates.chunk(4, dim=1)
    candidate = torch.tanh(g) if kept is None else torch.tanh(g) * kept
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * candidate
    return torch.sigmoid(o) * torch.tanh(c), c


class Decoder(nn.Module):
    """Stroke-5 rows and a condition -> parameters of the next rows' densities.

    Args:
        condition: numbers of the condition (latent code and class vector); 0 for none.
        hidden: units.
        mixtures: Gaussians, M.
        start: of the weights, see :class:`Lstm`.
        from_condition: whether the first state is tanh(Linear(condition)), else zero.
    """

    def __init__(
        self,
        condition: int,
        hidden: int,
        mixtures: int,
        start: Start = "magenta",
        dropout: float = 0.0,
        from_condition: bool = True,
    ) -> None:
        super().__init__()
        self.first: nn.Linear | None = None
        if condition and from_condition:
            self.first = small_linear(condition, 2 * hidden, start)
        self.lstm = Lstm(5 + condition, hidden, start, dropout)
        self.head = nn.Linear(hidden, head_size(mixtures))
        if start == "magenta":  # TensorFlow's default, of biases too
            nn.init.xavier_uniform_(self.head.weight)
            bound = math.sqrt(3.0 / self.head.out_features)
            nn.init.uniform_(self.head.bias, -bound, bound)

    def state(self, condition: Tensor) -> State | None:
        """The state before the first row, of conditions (B, K)."""
        if self.first is None:
            return None
        h, c = torch.tanh(self.first(condition)).chunk(2, dim=-1)
        return h, c

    def forward(
        self, tokens: Tensor, condition: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Heads (B, L, 3 + 6 M) for rows (B, L, 5), and the state after them.

        Args:
            condition: (B, K), K may be 0.
            state: to go on from; None starts.
        """
        if state is None:
            state = self.state(condition)
        constant = condition if condition.shape[-1] else None
        out, state = self.lstm(tokens, state, constant)
        return self.head(out), state


def small_linear(inputs: int, outputs: int, start: Start) -> nn.Linear:
    """A linear layer; magenta starts those at a code with N(0, 0.001^2) weights and no bias."""
    layer = nn.Linear(inputs, outputs)
    if start == "magenta":
        nn.init.normal_(layer.weight, std=0.001)
        nn.init.zeros_(layer.bias)
    return layer


def parameter_count(module: nn.Module) -> int:
    """Numbers that are learned; magenta's LSTMs count one bias, torch's two."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
