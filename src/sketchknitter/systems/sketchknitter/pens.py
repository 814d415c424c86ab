"""Where the pen lifts: the threshold that held-out drawings ask for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sketchknitter.data.batch import END, LIFT
from sketchknitter.data.codec import Codec, lift_probability
from sketchknitter.data.dataset import Split
from sketchknitter.data.order import some
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.seeds import Stream, stream

CLEAN = 0.02  # share of the noise levels, the cleanest ones, where pens are read out


@dataclass(frozen=True)
class PenCalibration:
    """How the threshold was found.

    Attributes:
        pen_break: lift where P(lift | not end) exceeds it.
        f1: of the lifts on the drawings looked at.
        lift_rate: share of points after which their pens truly lift; the threshold meets it.
        drawings: how many were looked at.
    """

    pen_break: float
    f1: float
    lift_rate: float
    drawings: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@torch.no_grad()
def calibrate_pens(
    denoiser: Denoiser, codec: Codec, split: Split, device: str = "cpu", limit: int = 256
) -> PenCalibration:
    """The threshold at which near-clean drawings, denoised, lift as often as they truly do.

    Args:
        denoiser: with the weights that will be shipped.
        codec: its codec.
        split: held-out drawings, labeled as the model's classes; none leave the codec's threshold.
        limit: how many at most.
    """
    denoiser.eval()
    chosen = some(stream(0, Stream.PEN_CALIBRATION), len(split), limit)
    labels = split.labels[chosen].astype(np.int64)
    labels[labels < 0] = len(split.classes)
    top = max(1, round(CLEAN * denoiser.schedule.steps))
    found, true = [], []
    for a in range(0, len(chosen), 64):
        part = slice(a, a + 64)
        points = 0 if denoiser.length_given else codec.max_points
        batch = codec.encode(split.take(chosen[part]), labels[part], points)
        x0 = denoiser.state(batch.xy, batch.pen)
        noise = SketchNoise([stream(1, Stream.PEN_CALIBRATION, int(j)) for j in chosen[part]])
        n = x0.shape[1]
        eps = noise.normal([n] * len(batch), n, x0.shape[2]).to(device)
        t = (torch.arange(len(batch)) % top).to(device)
        alpha, sigma = (c.to(torch.float32)[:, None, None] for c in denoiser.schedule(t))
        at = batch.to(device)
        x_t = alpha * x0.to(device) + sigma * eps
        pen = denoiser(x_t, t, at.label, at.mask).pen
        inside = batch.mask & (batch.pen != END)
        found.append(lift_probability(pen).double().cpu()[inside].numpy())
        true.append((batch.pen == LIFT)[inside].numpy())
    p, lifts = np.concatenate([np.zeros(0), *found]), np.concatenate([np.zeros(0, bool), *true])
    if not len(p):
        return PenCalibration(codec.pen_break, 0.0, 0.0, len(chosen))
    cut = threshold(p, int(lifts.sum()))
    both = int(((p > cut) & lifts).sum())
    f1 = 2 * both / max(1, int((p > cut).sum()) + int(lifts.sum()))
    return PenCalibration(cut, round(f1, 6), round(float(lifts.mean()), 6), len(chosen))


def threshold(p: NDArray[np.float64], count: int) -> float:
    """The cut above which ``count`` of the probabilities ``p`` lie; 0.5 where that is one."""
    down = np.sort(p)[::-1]
    low = float(down[count]) if count < len(down) else 0.0
    high = float(down[count - 1]) if count else 1.0
    cut = 0.5 if low <= 0.5 < high else (low + high) / 2
    # a network that knows nothing yet must not lift the pen always or never
    return round(min(0.95, max(0.05, cut)), 4)
