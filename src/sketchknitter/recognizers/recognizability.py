"""The recognizability network: what has been denoised so far -> how recognizable it is.

The paper trains a recurrent network on the accuracy of a classifier; its released code holds
neither. This one learns, for every sketch, the guide's class probabilities of the drawing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sketchknitter.nn.layers import sinusoid


class Recognizability(nn.Module):
    """A bidirectional GRU over (dx, dy, pen probability), given the time, the class and the noise.

    Args:
        channels: values for each point.
        classes: classes told apart; label ``classes`` means "no label".
        hidden: units of each direction.
        group: neighboring points that make one step of the recurrence, which costs by the step.
        embedding: size of the time and class embedding.
    """

    def __init__(
        self, channels: int, classes: int, hidden: int = 64, group: int = 3, embedding: int = 32
    ) -> None:
        super().__init__()
        self.channels, self.classes, self.hidden = channels, classes, hidden
        self.group, self.embedding = group, embedding
        self.time = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU())
        self.label = nn.Embedding(classes + 1, embedding)
        self.noise = nn.Linear(1, embedding)
        self.enter = nn.Linear(channels * group, hidden)
        self.start = nn.Linear(embedding, 2 * hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(
            nn.Linear(4 * hidden + embedding, hidden),
            nn.SiLU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, classes),
        )

    def forward(
        self, points: Tensor, noise: Tensor, t: Tensor, label: Tensor, mask: Tensor
    ) -> Tensor:
        """Class logits (B, classes).

        Args:
            points: (B, N, channels).
            noise: mean absolute estimated noise, (B,).
            t: levels, (B,).
            label: class indices, (B,).
            mask: valid points, a prefix of each row, (B, N).
        """
        b = len(points)
        known = self.time(sinusoid(t, self.embedding)) + self.label(label)
        known = F.silu(known + self.noise(noise[:, None]))
        x = points * mask[..., None]
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.group))
        x = F.silu(self.enter(x.reshape(b, -1, self.group * self.channels)))
        steps = (mask.sum(dim=1) + self.group - 1) // self.group
        packed = pack_padded_sequence(x, steps.cpu(), batch_first=True, enforce_sorted=False)
        begin = self.start(known).view(b, 2, self.hidden).transpose(0, 1).contiguous()
        out, last = self.gru(packed, begin)
        every, _ = pad_packed_sequence(out, batch_first=True)  # zero outside
        mean = every.sum(dim=1) / steps[:, None]
        return self.head(torch.cat([mean, last[0], last[1], known], dim=-1))

    def score(self, logits: Tensor, label: Tensor) -> Tensor:
        """Probability of the labeled class, of the best class where there is no label, (B,)."""
        return probability(logits.softmax(dim=-1), label)

    def options(self) -> dict[str, int]:
        """Arguments that rebuild this network."""
        names = ("channels", "classes", "hidden", "group", "embedding")
        return {name: int(getattr(self, name)) for name in names}


def probability(p: Tensor, label: Tensor) -> Tensor:
    """Of class probabilities (B, C) that of the label (B,), or the largest where label is C."""
    known = label < p.shape[1]
    own = p.gather(1, label.clamp(max=p.shape[1] - 1)[:, None])[:, 0]
    return torch.where(known, own, p.amax(dim=1))
