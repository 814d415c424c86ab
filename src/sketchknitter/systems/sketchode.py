"""SketchODE: a drawing as one curve in continuous time, with a code of its own.

Paper: A. Das, Y. Yang, T. Hospedales, T. Xiang and Y.-Z. Song, *SketchODE: Learning neural sketch
representation in continuous time*, ICLR 2022. Code read: github.com/dasayan05/sketchode, commit
8384247e (MIT), whose README warns that its defaults may not be the paper's. Everything below is
written anew from its facts.

What it does
    Strokes of one point are dropped, the first point moves to the origin, the farthest one to
    radius 1. Strokes are joined by straight pen-up runs of 20 points (the ends belong to the
    strokes, so 18 remain) with p = 1, drawn points have p = 0. The one curve (x, y, p) is resampled
    to 100 points by a natural cubic spline, uniform in point *index*, and p is cut at one half.
    Time runs from 0 to 5.
Network
    Encoder: a neural CDE (Kidger et al. 2020), dh = F(h) dX with X the natural cubic spline of
    (x, y, p, t) and h(0) = 0; F has two hidden layers of 32 with cos(3 x). The code (48 numbers) is
    linear in the maximum of h over the 100 points. Decoder: s'' = G(s', code, t), a second-order
    ODE whose start is linear in the code; the position s is no input of G. (x, y, p) is linear in
    s, with a sigmoid on p. 27,989 parameters, two of them the unlearned ends of time.
Learning
    Smooth L1 (beta 1) of x and y, summed, plus the cross-entropy of p, both averaged over points.
    AdamW; learning rate and schedule come from the original's command line. A variational form
    (weight 0 by default) adds KL and a log-density term.
Drawing
    The original decodes codes of real drawings, jittered or interpolated, on any grid of times. It
    has no prior: new drawings come from codes of a Gaussian mixture fitted to codes of *training*
    drawings (``mixture.py``). A source is drawn again through its own code.

Where we differ, and the option that says so
    ===================== =======================================================================
    classes               none in the original: a learned vector is added to the code before it is
                          decoded, and each class has a mixture of its own
    data                  timed drawings there, simplified ones here: strokes are first resampled by
                          arc length to a spacing of .05 radii, which the same authors' ChiroDiff
                          does; times were ignored already
    ``control``           the released code computes the spline on unit spacing and evaluates it on
                          the grid 0 … 5, so that dX/dt is the change for each *index*, a twentieth
                          of the true one: ``"released"``; ``"true"`` (default) is the derivative
    ``encoder``           ``"cde"``, or ``"lstm"``, the original's alternative: a bidirectional LSTM
                          as wide as the state, each way, and its maximum over time; ``"auto"``
                          takes the cheap LSTM for ``size="cpu"`` and the CDE else
    gradient              through the solver's steps, of our own loop for the same rule; the
                          original solves the adjoint, which is slower and less exact
                          (``adjoint=True``)
    ``pen``               a segment is drawn if both its ends are (``"both"``, which gives strokes
                          back exactly); the released plot draws it if its first point is
                          (``"first"``), which leaves a stub of each pen-up run
    jitter                the original adds Perlin noise at each access; we augment as every row of
                          the table does
    ``joining``           points of a pen-up run: 20 as released; 8 for ``size="cpu"``, since runs
                          of 20 leave so few of the 100 points to drawings of many strokes that
                          short ones vanish before anything is learned
    ``size="cpu"``        hidden 128, layers of 128, code 96 (the released size underfits ten
                          classes), 198,629 parameters with the CDE encoder
    variational form      left out: its weight is 0 in the released code
    ===================== =======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.errors import UserError
from sketchknitter.geometry import arc_lengths, resample_evenly
from sketchknitter.metrics.fid import frechet_distance
from sketchknitter.raster import render_batch
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.drawing import DrawingGenerator, Request
from sketchknitter.systems.learning import (
    Encoded,
    Habits,
    LearnedSystem,
    Learner,
    Rows,
    check_choice,
)
from sketchknitter.systems.mixture import CodeMixture
from sketchknitter.systems.registry import plain
from sketchknitter.systems.stored import Stored
from sketchknitter.training.objective import Loss, Streams

Floats = NDArray[np.float64]

POINTS = 100  # of every resampled drawing
DURATION = 5.0  # time runs from 0 to this
JOINING = 20  # points of a pen-up run, its two ends included
SPACING = 0.05  # of points along a stroke, in radii
OMEGA = 3.0
TEMPERATURES = (0.25, 0.5, 0.75, 1.0)  # tried on validation drawings
CODED, FEW = 8192, 1024  # drawings whose codes the mixture is fitted to, at the end and before
COMPARED = 300  # drawings that a temperature is chosen by
LEAST = 50  # validation drawings without which none is chosen


# -- drawings and curves -------------------------------------------------------------------------
def normalized(strokes: Sequence[Floats]) -> tuple[list[Floats], Floats, float]:
    """Strokes of two points and more, first point at the origin, farthest at radius 1.

    Returns:
        The strokes, where the origin was, and what one radius was.

    Raises:
        UserError: only dots.
    """
    kept = [np.asarray(s, dtype=np.float64) for s in strokes if len(s) > 1]
    origin = kept[0][0] if kept else np.zeros(2)
    radius = max((float(np.hypot(*(s - origin).T).max()) for s in kept), default=0.0)
    if not radius > 0:
        raise UserError("a drawing of dots alone has no curve")
    return [(s - origin) / radius for s in kept], origin, radius


def curve(strokes: Sequence[Floats], joining: int = JOINING, spacing: float = SPACING) -> Floats:
    """One sequence (x, y, p), (n, 3): strokes with p = 0, straight pen-up runs with p = 1.

    Args:
        strokes: normalized.
        joining: points of a pen-up run; its ends are the strokes' own, so two less are added.
        spacing: of points along strokes; 0 leaves them as they are.
    """
    parts: list[Floats] = []
    before: Floats | None = None
    for stroke in strokes:
        points = np.asarray(stroke, dtype=np.float64)
        if spacing:
            count = int(arc_lengths(points)[-1] / spacing) + 1
            points = resample_evenly(points, max(2, count))
        if before is not None:
            run = np.linspace(before, points[0], joining)[1:-1]
            parts.append(np.column_stack([run, np.ones(len(run))]))
        parts.append(np.column_stack([points, np.zeros(len(points))]))
        before = points[-1]
    return np.concatenate(parts)


def resampled(sequence: Floats, count: int = POINTS) -> Floats:
    """The sequence at ``count`` places uniform in point index, by a natural cubic spline; p cut."""
    from scipy.interpolate import CubicSpline  # comes with torchdiffeq

    spline = CubicSpline(np.arange(len(sequence)), sequence, bc_type="natural")
    out = spline(np.linspace(0, len(sequence) - 1, count))
    out[:, 2] = out[:, 2] >= 0.5
    return out


def strokes_of(sequence: ArrayLike, pen: Literal["both", "first"] = "both") -> list[Floats]:
    """The drawn runs of (x, y, p), (n, 3); p > .5 is pen up.

    Args:
        pen: a segment is drawn if both its ends are, or (as released) if its first point is.
    """
    points = np.asarray(sequence, dtype=np.float64)
    down = points[:, 2] <= 0.5
    drawn = down[:-1] & down[1:] if pen == "both" else down[:-1]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], drawn, [False]]).astype(np.int8)))
    return [points[a : b + 1, :2] for a, b in zip(edges[::2], edges[1::2], strict=True)]


# -- the network ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Size:
    """What a network is made of.

    Attributes:
        hidden: of the encoder's and the decoder's state.
        code: numbers of a code.
        layers: hidden layers of F and G.
    """

    hidden: int
    code: int
    layers: tuple[int, ...]


SizeName = Literal["published", "cpu"]
SIZES: dict[str, Size] = {
    "published": Size(64, 48, (32, 32)),
    "cpu": Size(128, 96, (128, 128)),
}


class Dynamics(nn.Module):
    """Dense layers with cos(omega x) between them."""

    def __init__(self, inputs: int, layers: Sequence[int], outputs: int) -> None:
        super().__init__()
        widths = [inputs, *layers, outputs]
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.dense[:-1]:
            x = torch.cos(OMEGA * layer(x))
        return self.dense[-1](x)


@lru_cache(maxsize=4)
def _derivative(count: int, stages: int) -> Tensor:
    """The natural cubic spline's derivative as a matrix, ((count - 1) * stages + 1, count).

    Row k is the derivative by index, at index k / stages, as a linear map of the values at the
    indices.
    """
    from scipy.interpolate import CubicSpline

    basis = CubicSpline(np.arange(count), np.eye(count), bc_type="natural")
    at = np.linspace(0, count - 1, (count - 1) * stages + 1)
    return torch.from_numpy(basis(at, 1))


def _odeint() -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    try:
        from torchdiffeq import odeint, odeint_adjoint
    except ImportError:
        raise UserError(
            "SketchODE needs torchdiffeq: pip install 'sketchknitter[baselines]'"
        ) from None
    return odeint, odeint_adjoint


class CdeEncoder(nn.Module):
    """dh = F(h) dX along the natural cubic spline of (x, y, p, t); a code from the maximum of h."""

    STAGES = 3  # the fixed-grid rk4 of torchdiffeq is the 3/8 rule

    def __init__(self, size: Size, control: Literal["true", "released"] = "true") -> None:
        super().__init__()
        self.size, self.control = size, control
        self.dynamics = Dynamics(size.hidden, size.layers, 4 * size.hidden)
        self.code = nn.Linear(size.hidden, size.code)

    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 3) -> (B, K)."""
        odeint, _ = _odeint()
        b, n, _ = points.shape
        t = torch.linspace(0.0, DURATION, n, dtype=torch.float64, device=points.device)
        width = DURATION / (n - 1)
        path = torch.cat([points, t.to(points)[None, :, None].expand(b, n, 1)], dim=-1)
        slope = torch.einsum("kn,bnc->kbc", _derivative(n, self.STAGES).to(points), path)
        if self.control == "true":
            slope = slope / width

        def change(at: Tensor, h: Tensor) -> Tensor:
            k = min(len(slope) - 1, round(float(at) / width * self.STAGES))
            field = self.dynamics(h).view(b, self.size.hidden, 4)
            return (field @ slope[k][..., None]).squeeze(-1)

        start = points.new_zeros(b, self.size.hidden)
        along = odeint(change, start, t, method="rk4")
        return self.code(along.amax(dim=0))


class LstmEncoder(nn.Module):
    """A bidirectional LSTM, its maximum over time, and a code linear in that."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, size.hidden, bidirectional=True, batch_first=True)
        self.code = nn.Linear(2 * size.hidden, size.code)

    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 3) -> (B, K)."""
        out, _ = self.lstm(points)
        return self.code(out.amax(dim=1))


class OdeDecoder(nn.Module):
    """s'' = G(s', code, t); (x, y, p) linear in s."""

    STEP = DURATION / (POINTS - 1)  # no step of the solver is longer

    def __init__(self, size: Size, adjoint: bool = False) -> None:
        super().__init__()
        self.size, self.adjoint = size, adjoint
        self.start = nn.Linear(size.code, 2 * size.hidden)
        self.dynamics = Dynamics(size.hidden + size.code + 1, size.layers, size.hidden)
        self.observe = nn.Linear(size.hidden, 3)

    def forward(self, code: Tensor, count: int = POINTS, refine: int = 1) -> Tensor:
        """Codes (B, K) -> (x, y, logit of p) at ``count`` times from 0 to 5, (B, count, 3).

        Args:
            count: how many points are wanted; the curve is the same whatever their number.
            refine: divides the solver's steps.
        """
        width = DURATION / (count - 1)
        steps = max(1, int(np.ceil(width / self.STEP - 1e-9))) * refine
        start = self.start(code)
        if not (self.adjoint and torch.is_grad_enabled()):
            along = trajectory(self.dynamics, start, code, count, width / steps, steps)
            return self.observe(along).transpose(0, 1)
        _, odeint_adjoint = _odeint()
        t = torch.linspace(0.0, DURATION, count, dtype=torch.float64, device=code.device)
        solved = odeint_adjoint(
            _Motion(self.dynamics, code),
            start,
            t,
            method="rk4",
            options={"step_size": width / steps},
            adjoint_params=(*self.dynamics.parameters(), code),
        )
        return self.observe(solved[..., : self.size.hidden]).transpose(0, 1)


def trajectory(
    dynamics: Dynamics, start: Tensor, code: Tensor, count: int, width: float, each: int = 1
) -> Tensor:
    """s at ``count`` times ``each * width`` apart, from s'' = G(s', code, t), (count, B, H).

    The 3/8 rule of Runge and Kutta on a fixed grid, which is what torchdiffeq's ``rk4`` is there,
    with what the first layer makes of the code worked out once instead of four times a step.

    Args:
        start: s and s' at time 0, (B, 2 H).
        width: of the solver's steps.
        each: steps from one time to the next.
    """
    s, v = start.chunk(2, dim=-1)
    first, *middle, last = cast(list[nn.Linear], list(dynamics.dense))
    hidden = v.shape[-1]
    by_speed, by_code, by_time = first.weight.split([hidden, code.shape[-1], 1], dim=1)
    fixed = OMEGA * F.linear(code, by_code, first.bias)
    slope, turned = OMEGA * by_time[:, 0], OMEGA * by_speed.t()
    inner = [(OMEGA * m.weight.t(), OMEGA * m.bias) for m in middle]
    out = last.weight.t()

    def change(v: Tensor, time: float) -> Tensor:
        x = torch.cos(torch.addmm(fixed + slope * time, v, turned))
        for weight, bias in inner:
            x = torch.cos(torch.addmm(bias, x, weight))
        return torch.addmm(last.bias, x, out)

    along = [s]
    for k in range((count - 1) * each):
        time = k * width
        a1 = change(v, time)
        v2 = torch.add(v, a1, alpha=width / 3)
        a2 = change(v2, time + width / 3)
        v3 = torch.add(v, a2 - a1 / 3, alpha=width)
        a3 = change(v3, time + width * 2 / 3)
        v4 = torch.add(v, a1 - a2 + a3, alpha=width)
        a4 = change(v4, time + width)
        s = torch.add(s, v + 3 * (v2 + v3) + v4, alpha=width / 8)
        v = torch.add(v, a1 + 3 * (a2 + a3) + a4, alpha=width / 8)
        if (k + 1) % each == 0:
            along.append(s)
    return torch.stack(along)


class _Motion(nn.Module):
    """(s, s') -> (s', G(s', code, t)) for one batch of codes."""

    def __init__(self, dynamics: Dynamics, code: Tensor) -> None:
        super().__init__()
        self.dynamics, self.code = dynamics, code

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        speed = state.tensor_split(2, dim=-1)[1]
        time = t.to(state).expand(len(state), 1)
        return torch.cat([speed, self.dynamics(torch.cat([speed, self.code, time], -1))], dim=-1)


class SketchOdeNetwork(nn.Module):
    """Autoencoder of curves.

    Args:
        size: widths.
        classes: number of classes, index ``classes`` is "no label"; 0 has no table.
        encoder: ``"cde"`` or ``"lstm"``.
        control: of the CDE.
        adjoint: solve the adjoint for gradients of the decoder.
    """

    def __init__(
        self,
        size: Size,
        classes: int = 0,
        *,
        encoder: Literal["cde", "lstm"] = "cde",
        control: Literal["true", "released"] = "true",
        adjoint: bool = False,
    ) -> None:
        super().__init__()
        self.size = size
        self.encoder: nn.Module = (
            CdeEncoder(size, control) if encoder == "cde" else LstmEncoder(size)
        )
        self.decoder = OdeDecoder(size, adjoint)
        # the ends of time: parameters of the original that it does not learn
        self.time_start = nn.Parameter(torch.tensor(0.0), requires_grad=False)
        self.time_logit = nn.Parameter(torch.tensor(0.0), requires_grad=False)
        self.label = nn.Embedding(classes + 1, size.code) if classes else None
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.02)

    def encode(self, points: Tensor) -> Tensor:
        """Curves (B, N, 3) -> codes (B, K)."""
        return self.encoder(points)

    def decode(
        self, code: Tensor, label: Tensor | None = None, count: int = POINTS, refine: int = 1
    ) -> Tensor:
        """Codes (B, K), labels (B,) -> (x, y, logit of p), (B, count, 3)."""
        if self.label is not None:
            code = code + self.label(label)
        return self.decoder(code, count, refine)


def losses(out: Tensor, points: Tensor) -> Tensor:
    """Loss of each point, (B, N): smooth L1 summed over x and y, and the pens' cross-entropy.

    Args:
        out: (x, y, logit of p), (B, N, 3).
        points: (x, y, p), (B, N, 3).
    """
    place = F.smooth_l1_loss(out[..., :2], points[..., :2], reduction="none").sum(dim=-1)
    pen = F.binary_cross_entropy_with_logits(out[..., 2], points[..., 2], reduction="none")
    return place + pen


# -- the system ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class SketchODE(LearnedSystem):
    """SketchODE; what the options are is said at the top of this file.

    Attributes:
        encoder: "auto", "cde" or "lstm".
        control: of the CDE, "true" or "released".
        adjoint: solve the adjoint for gradients of the decoder.
        pen: which segments are drawn, "both" or "first".
        joining: points of a pen-up run, its ends included. None is the size's: 20 as published, 8
            on a CPU.
    """

    encoder: Literal["auto", "cde", "lstm"] = "auto"
    control: Literal["true", "released"] = "true"
    adjoint: bool = False
    pen: Literal["both", "first"] = "both"
    joining: int | None = None

    def __post_init__(self) -> None:
        check_choice("size", self.size, ("published", "cpu"))
        check_choice("encoder", self.encoder, ("auto", "cde", "lstm"))
        check_choice("control", self.control, ("true", "released"))
        check_choice("pen", self.pen, ("both", "first"))
        if self.joining is not None and not 2 <= self.joining <= POINTS:
            raise UserError(f"joining must lie between 2 and {POINTS}, not {self.joining}")

    @property
    def travel(self) -> int:
        """The points of a pen-up run that count."""
        if self.joining is not None:
            return self.joining
        return JOINING if self.size == "published" else 8

    def habits(self, drawings: int = 1) -> Habits:
        if self.size == "cpu":
            return Habits(updates=4_000, batch_size=64, lr=2e-3)
        return Habits(
            updates=50_000,
            batch_size=64,
            ema=0.0,
            optimizer=lambda network: torch.optim.AdamW(
                (p for p in network.parameters() if p.requires_grad), lr=1e-3
            ),
            course=lambda updates, share: 1e-3 * damped_cosine(updates // max(1, drawings // 64)),
        )

    def fitting(self, data: PreparedSet) -> Callable[[NDArray[Any]], bool]:
        def fits(rows: NDArray[Any]) -> bool:
            strokes = [s for s in Sketch.from_stroke3(rows).strokes if len(s) > 1]
            return any(np.ptp(s, axis=0).any() for s in strokes)

        return fits

    def learner(self, data: PreparedSet) -> SketchOdeLearner:
        return SketchOdeLearner(self, data)

    def network(self, classes: int) -> SketchOdeNetwork:
        """A fresh network."""
        chosen = self.encoder
        if chosen == "auto":
            chosen = "lstm" if self.size == "cpu" else "cde"
        return SketchOdeNetwork(
            SIZES[self.size], classes, encoder=chosen, control=self.control, adjoint=self.adjoint
        )

    def generator(self, stored: Stored, device: str) -> SketchOdeGenerator:
        return SketchOdeGenerator(self, stored, device)


def damped_cosine(epoch: float, period: float = 100.0) -> float:
    """The original's course of the learning rate, by epoch: 1 at first, never below a fiftieth."""
    phase = epoch / (2 * period)
    return 49 / 50 * 4**-phase * float(np.cos(np.pi * phase)) ** 2 + 1 / 50


def curves(
    strokes: Sequence[Sequence[Floats]], joining: int = JOINING
) -> tuple[Tensor, list[Floats], list[float]]:
    """Strokes of drawings -> curves (B, 100, 3), their origins, and px of a radius."""
    made = [normalized(s) for s in strokes]
    out = np.stack([resampled(curve(kept, joining)) for kept, _, _ in made])
    return torch.from_numpy(out).float(), [o for _, o, _ in made], [r for _, _, r in made]


class SketchOdeLearner(Learner):
    """One training of SketchODE."""

    network: SketchOdeNetwork

    def __init__(self, system: SketchODE, data: PreparedSet) -> None:
        super().__init__()
        self.system = system
        self.network = system.network(len(data.classes))
        sketches = (Sketch.from_stroke3(d) for d in data.train.take(range(len(data.train))))
        radii = [normalized(s.strokes)[2] for s in sketches]
        self.facts = {"unit": float(np.median(radii)), "temperature": 1.0}

    def encode(self, rows: Rows, labels: NDArray[np.int64]) -> Encoded:
        x, _, _ = curves([Sketch.from_stroke3(r).strokes for r in rows], self.system.travel)
        mask = torch.ones(x.shape[:2], dtype=torch.bool)
        return Encoded(x, mask, torch.from_numpy(labels))

    def loss(self, batch: Encoded, streams: Streams) -> Loss:
        del streams  # an autoencoder without noise
        out = self.network.decode(self.network.encode(batch.x), batch.label)
        each = losses(out, batch.x)
        return Loss(each.sum(dim=1), torch.full_like(each[:, 0], POINTS))

    def finish(self, data: PreparedSet, over: bool) -> dict[str, Any]:
        codes, labels = self._codes(data.train, CODED if over else FEW)
        held_out = self._codes(data.valid, CODED) if over and len(data.valid) else None
        mixture = CodeMixture.fit(codes, labels, held_out)
        self.extras = mixture.tensors()
        remarks: dict[str, Any] = {"Gaussians over codes": len(mixture.weights)}
        if over and len(data.valid) >= LEAST:
            distances = self._distances(data, mixture)
            self.facts["temperature"] = min(distances, key=lambda t: distances[t])
            remarks["distance to validation drawings by temperature"] = {
                f"{t:g}": round(d, 4) for t, d in distances.items()
            }
        return {**remarks, "temperature": self.facts["temperature"]}

    @torch.no_grad()
    def _codes(self, split: Split, limit: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Codes (n, K) and class indices (n,) of drawings of a split."""
        device = next(self.network.parameters()).device
        chosen = np.sort(stream(0, Stream.MIXTURE).permutation(len(split))[:limit])
        parts = []
        for first in range(0, len(chosen), 256):
            rows = split.take(chosen[first : first + 256])
            strokes = [Sketch.from_stroke3(r).strokes for r in rows]
            x, _, _ = curves(strokes, self.system.travel)
            parts.append(self.network.encode(x.to(device)).double().cpu().numpy())
        return np.concatenate(parts), np.asarray(split.labels)[chosen].astype(np.int64)

    @torch.no_grad()
    def _distances(self, data: PreparedSet, mixture: CodeMixture) -> dict[float, float]:
        """How far drawings of each temperature lie from validation drawings, as the guide sees it.

        The judge that measures has no part in it.
        """
        device = next(self.network.parameters()).device
        valid = data.valid
        chosen = stream(0, Stream.TEMPERATURE).permutation(len(valid))[:COMPARED]
        guide = Recognizer.load()
        real = _features(guide, [valid.sketch(int(i)) for i in chosen])
        labels = np.asarray(valid.labels)[chosen].astype(np.int64)
        out = {}
        for temperature in TEMPERATURES:
            codes = np.stack(
                [
                    mixture.sample(int(label), stream(0, Stream.TEMPERATURE, i), temperature)
                    for i, label in enumerate(labels)
                ]
            )
            classes = torch.from_numpy(np.where(labels < 0, len(data.classes), labels)).to(device)
            made = self.network.decode(torch.from_numpy(codes).to(device), classes)
            sketches = [to_sketch(m, self.system.pen) for m in made]
            out[temperature] = float(frechet_distance(real, _features(guide, sketches)))
        return out


@torch.no_grad()
def _features(guide: Recognizer, sketches: Sequence[Sketch]) -> NDArray[np.float64]:
    """What the guide's last layer but one says of drawings, (n, D)."""
    pictures = render_batch(sketches, guide.size, guide.width)
    ink = 1 - torch.from_numpy(pictures).float()[:, None] / 255
    return guide.trunk(ink).mean(dim=(2, 3)).double().numpy()


def to_sketch(
    out: Tensor,
    pen: Literal["both", "first"],
    unit: float = 100.0,
    origin: Floats | None = None,
) -> Sketch:
    """(x, y, logit of p), (N, 3) -> strokes in px; a curve that is all pen-up leaves a dot."""
    points = out.double().cpu().numpy()
    points[:, 2] = points[:, 2] > 0
    points[:, :2] = points[:, :2] * unit + (0.0 if origin is None else origin)
    return Sketch(strokes_of(points, pen) or [points[:1, :2]])


class SketchOdeGenerator(DrawingGenerator):
    """Decodes codes of a mixture; draws a source again through its own code.

    Settings:
        temperature: of the mixture; None is the one chosen on validation drawings.
        points: at which the curve is looked at.
    """

    name = "SketchODE"
    tasks = ("draw", "heal")
    settings: ClassVar[Mapping[str, Any]] = {"temperature": None, "points": POINTS}

    def __init__(self, system: SketchODE, stored: Stored, device: str) -> None:
        super().__init__(stored.classes, device)
        self.system, self.stored = system, stored
        self.network = stored.fill(system.network(len(stored.classes)), device)
        self.mixture = CodeMixture.from_tensors(stored.extras)

    def check(self, settings: Mapping[str, Any]) -> None:
        if settings["points"] < 2:
            raise UserError(f"points must be at least 2, not {settings['points']}")
        temperature = settings["temperature"]
        if temperature is not None and not plain(temperature, 0.0, "temperature") >= 0:
            raise UserError(f"temperature must not be negative, not {temperature}")

    def draw(self, request: Request) -> list[Sketch]:
        count = len(request.numbers)
        units = [float(self.stored.facts["unit"])] * count
        origins: list[Floats] = [np.zeros(2)] * count
        if request.source is None:
            temperature = request.settings["temperature"]
            if temperature is None:
                temperature = self.stored.facts["temperature"]
            pairs = zip(request.label.tolist(), request.streams(Stream.CODE), strict=True)
            drawn = [self.mixture.sample(label, rng, float(temperature)) for label, rng in pairs]
            codes = torch.from_numpy(np.stack(drawn)).to(self.device)
        else:
            x, origins, units = curves([s.strokes for s in request.source], self.system.travel)
            codes = self.network.encode(x.to(self.device))
        self.evaluations += count
        out = self.network.decode(codes, request.label, int(request.settings["points"]))
        return [
            to_sketch(o, self.system.pen, unit, origin)
            for o, unit, origin in zip(out, units, origins, strict=True)
        ]
