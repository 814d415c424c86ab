"""A trained model of the family, and drawing with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.errors import UserError
from sketchknitter.progress import Progress
from sketchknitter.seeds import Stream, stream, taken_turn
from sketchknitter.sketch import Sketch
from sketchknitter.systems.autoregressive.design import Design
from sketchknitter.systems.autoregressive.model import StrokeModel
from sketchknitter.systems.autoregressive.placing import placed_over
from sketchknitter.systems.autoregressive.sampling import (
    CONVENTIONS,
    Chance,
    check_temperature,
    draw,
)
from sketchknitter.systems.autoregressive.tokens import DRAW, to_rows, to_sketch, to_tokens
from sketchknitter.systems.contract import check_task
from sketchknitter.systems.mixture import CodeMixture
from sketchknitter.systems.registry import plain
from sketchknitter.systems.stored import Stored

SETTINGS = ("task", "temperature", "convention", "prior", "mask")


@dataclass(frozen=True)
class Facts:
    """What drawing needs beside weights, and how it was found; JSON in the model's file.

    Attributes:
        scale: px of one model unit.
        longest: rows of the longest drawing.
        extent: median longer side of training drawings, px.
        temperature: chosen on validation drawings.
        temperatures: distance to them under each temperature tried.
        losses: on training and held-out drawings.
        finished: whether the training was over, and mixture and temperature were chosen.
        made: on what machine, of which data and how.
    """

    scale: float
    longest: int
    extent: float
    temperature: float
    temperatures: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    made: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Stored) -> Facts:
        """Those of a model.

        Raises:
            UserError: they are damaged.
        """
        try:
            return cls(**stored.facts)
        except TypeError:
            raise UserError(f"the header of this {stored.system} is damaged") from None


class StrokeGenerator:
    """Draws point by point.

    Args:
        design: of the system.
        stored: weights and what goes with them.
        device: where to run.

    Attributes:
        classes: what it can draw.
        evaluations: rows decoded so far, of single drawings.

    Raises:
        UserError: the weights do not fit the design.
    """

    def __init__(self, design: Design[Any], stored: Stored, device: str = "cpu") -> None:
        self.design, self.classes = design, stored.classes
        self.facts = Facts.of(stored)
        self.model: StrokeModel = design.build(design.sizes, len(stored.classes))
        stored.fill(self.model, device)
        self.device = torch.device(device)
        self.mixture: CodeMixture | None = None
        if "mixture.means" in stored.extras:
            self.mixture = CodeMixture.from_tensors(stored.extras)
        self.evaluations = 0

    def generate(
        self,
        n: int,
        *,
        labels: Sequence[str] | None = None,
        source: Sequence[Sketch] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Iterator[Sketch]:
        """``n`` drawings (:meth:`contract.Generator.generate`).

        ``complete`` lets the decoder read the known rows and go on; a drawing that fills all rows
        already stays as it is. ``heal`` encodes the source and decodes a whole drawing in its
        place.

        Args:
            **settings: ``task``; ``temperature`` (None: the one chosen on validation drawings, or
                for "heal" the lowest tried); ``convention`` of the temperature (magenta, browser,
                healer); ``prior`` of codes (normal, mixture); ``mask``, the share of SketchHealer's
                patches that are dropped before it heals.

        Raises:
            UserError: an unknown class or setting, a setting of another type, n < 1, a task that it
                cannot do.
        """
        options = self._options(settings, source is not None)
        if n < 1 or batch_size < 1:
            raise UserError(f"n and batch_size must be at least 1, not {n} and {batch_size}")
        for what, given in (("labels", labels), ("source", source)):
            if given is not None and len(given) != n:
                raise UserError(f"{len(given)} {what} for {n} drawings; give one for each")
        numbers = self._labels(n, labels, source is not None, seed)
        return self._drawn(n, numbers, source, seed, batch_size, progress, options)

    def _drawn(
        self,
        n: int,
        labels: NDArray[np.int64],
        source: Sequence[Sketch] | None,
        seed: int,
        batch_size: int,
        progress: Progress | None,
        options: _Options,
    ) -> Iterator[Sketch]:
        for first in range(0, n, batch_size):
            part = range(first, min(n, first + batch_size))
            given = None if source is None else [source[i] for i in part]
            names = [self._name(labels[i], None if source is None else source[i]) for i in part]
            streams = _Streams(seed, part)
            if given is None:
                codes = self._prior(labels[list(part)], streams, options)
                drawings = self._decode(codes, labels[list(part)], streams, options)
            elif options.task == "heal":
                codes = self._encode(given, labels[list(part)], streams, options)
                redrawn = self._decode(codes, labels[list(part)], streams, options)
                drawings = [placed_over(d, s) for d, s in zip(redrawn, given, strict=True)]
            else:
                codes = self._encode(given, labels[list(part)], streams, options)
                drawings = self._decode(codes, labels[list(part)], streams, options, given)
            for drawing, name in zip(drawings, names, strict=True):
                yield drawing.with_label(name)
            if progress is not None:
                progress("drawings", part.stop, n)

    # -- codes -------------------------------------------------------------------------------------
    def _prior(self, labels: NDArray[np.int64], streams: _Streams, options: _Options) -> Tensor:
        """Codes (B, Z) that nobody drew."""
        z = self.model.latent
        if options.prior == "normal" or not z:
            codes = np.stack([rng.standard_normal(z) for rng in streams(Stream.CODE)])
            return torch.from_numpy(codes).float().to(self.device)
        mixture = self.mixture
        if mixture is None:
            raise UserError("no mixture of codes was fitted for this model; prior = 'normal'")
        pairs = zip(labels.tolist(), streams(Stream.CODE), strict=True)
        codes = np.stack([mixture.sample(label, rng) for label, rng in pairs])
        return torch.from_numpy(codes).float().to(self.device)

    @torch.no_grad()
    def _encode(
        self,
        sketches: Sequence[Sketch],
        labels: NDArray[np.int64],
        streams: _Streams,
        options: _Options,
    ) -> Tensor:
        """Codes (B, Z) of drawings, noise and all, as in training."""
        rows = [self._rows(s, options.task) for s in sketches]
        mean, log_variance = self.encoded(rows, self._dropped(streams, options))
        noise = np.stack([rng.standard_normal(mean.shape[1]) for rng in streams(Stream.CODE)])
        return mean + torch.exp(log_variance / 2) * torch.from_numpy(noise).to(mean)

    @torch.no_grad()
    def encoded(
        self, rows: Sequence[NDArray[Any]], dropped: NDArray[Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the codes, (B, Z), of stroke-3 drawings in px."""
        longest = max(self.facts.longest, max(map(len, rows)))
        inputs = self.design.inputs(rows, longest, self.facts.scale, mask=dropped)
        return self.model.encode(inputs.to(self.device).view)

    def _rows(self, sketch: Sketch, task: str) -> NDArray[np.float64]:
        """Stroke-3 rows of a person's drawing; one to be redrawn is brought to the usual size."""
        if not sketch.num_points:
            raise UserError("an empty drawing has nothing to go on; draw a stroke first")
        rows = sketch.to_stroke3()
        if task == "heal" and sketch.extent > 0:
            rows[:, :2] *= self.facts.extent / sketch.extent
        return rows if len(rows) else np.array([[0.0, 0.0, 1.0]])

    def _dropped(self, streams: _Streams, options: _Options) -> NDArray[np.bool_] | None:
        patches = getattr(self.design.sizes, "patches", 0)
        if not options.mask:
            return None
        return np.stack([rng.random(patches) < options.mask for rng in streams(Stream.MASK)])

    # -- drawings ----------------------------------------------------------------------------------
    @torch.no_grad()
    def _decode(
        self,
        codes: Tensor,
        labels: NDArray[np.int64],
        streams: _Streams,
        options: _Options,
        known: Sequence[Sketch] | None = None,
    ) -> list[Sketch]:
        """Drawings of codes; with known parts, those and what the decoder adds."""
        scale, longest = self.facts.scale, self.facts.longest
        given: dict[str, Tensor] = {}
        whole: list[NDArray[np.float64]] = []
        length = longest
        if known is not None:
            whole = [self._rows(s, options.task) for s in known]
            length = max(longest, max(map(len, whole)))
            tokens = to_tokens(whole, length, scale)[:, 1:]
            for i, rows in enumerate(whole):
                tokens[i, len(rows) - 1, DRAW:] = 0  # whether its last stroke goes on is open
            counts = torch.tensor([len(r) for r in whole], device=self.device)
            given = {"known": tokens.to(self.device), "known_rows": counts}
        condition = self.model.condition(codes, torch.from_numpy(labels).to(self.device))
        rows = draw(
            self.model.decoder,
            condition,
            length,
            options.temperature,
            options.convention,
            Chance.of(streams(Stream.ROW), length).to(self.device),
            **given,
        )
        out = []
        for i, tokens in enumerate(rows):
            made = to_rows(tokens, scale, self.design.end)
            self.evaluations += min(length, len(made) + 1)
            if known is None:
                out.append(to_sketch(made))
            else:
                out.append(_continued(known[i], whole[i], made[:longest]))
        return out

    # -- settings ----------------------------------------------------------------------------------
    def _options(self, settings: dict[str, Any], given: bool) -> _Options:
        if unknown := sorted(set(settings) - set(SETTINGS)):
            raise UserError(
                f"{self.design.name} has no setting {unknown[0]!r}; one of: {', '.join(SETTINGS)}"
            )
        task = settings.get("task", "heal" if given else "draw")
        check_task(task, self.design.tasks, self.design.name, given)
        temperature = settings.get("temperature")
        if temperature is None:
            healing = task == "heal"
            tried = self.design.temperatures
            temperature = min(tried) if healing else self.facts.temperature
        temperature = plain(temperature, 0.0, "temperature")
        check_temperature(temperature)
        convention = plain(settings.get("convention") or self.design.convention, "", "convention")
        if convention not in CONVENTIONS:
            raise UserError(f"no convention {convention!r}; one of: {', '.join(CONVENTIONS)}")
        prior = plain(settings.get("prior") or self.design.prior, "", "prior")
        if prior not in ("normal", "mixture", "none"):
            raise UserError(f"no prior {prior!r}; one of: normal, mixture")
        mask = plain(settings.get("mask") or 0.0, 0.0, "mask")
        if not 0 <= mask <= 1 or (mask and not hasattr(self.design.sizes, "patches")):
            raise UserError("mask is the share of SketchHealer's patches to drop, 0 to 1")
        return _Options(task, temperature, convention, prior, mask)

    def _labels(
        self, n: int, labels: Sequence[str] | None, given: bool, seed: int
    ) -> NDArray[np.int64]:
        """Class numbers (n,); the number of classes means that the class is not known."""
        k = len(self.classes)
        if labels is not None:
            unknown = sorted(set(labels) - set(self.classes))
            if unknown:
                raise UserError(
                    f"no class {unknown[0]!r}; one of: {', '.join(self.classes) or 'no classes'}"
                )
            return np.array([self.classes.index(name) for name in labels])
        if given or not k:
            return np.full(n, k)
        return np.array([taken_turn(seed, i, k) for i in range(n)], dtype=np.int64)

    def _name(self, label: int, source: Sketch | None) -> str | None:
        if label < len(self.classes):
            return self.classes[label]
        return None if source is None else source.label


@dataclass(frozen=True)
class _Options:
    task: str
    temperature: float
    convention: str
    prior: str
    mask: float


@dataclass(frozen=True)
class _Streams:
    """Random streams of the drawings with these numbers."""

    seed: int
    numbers: range

    def __call__(self, purpose: Stream) -> list[np.random.Generator]:
        return [stream(self.seed, purpose, i) for i in self.numbers]


def _continued(known: Sketch, whole: NDArray[Any], made: NDArray[Any]) -> Sketch:
    """The known drawing, its points as they are, and the rows beyond it."""
    count = len(whole)
    if len(made) <= count:
        return known
    strokes = [np.asarray(s) for s in known.strokes]
    end = strokes[-1][-1]
    rest = Sketch.from_stroke3(made[count:], origin=(float(end[0]), float(end[1])))
    new = [np.asarray(s) for s in rest.strokes]
    drawn_on, lifted = made[count - 1, 2] < 0.5, new[0][1:]
    if drawn_on:
        strokes[-1] = np.concatenate([strokes[-1], lifted])
    elif len(lifted):
        strokes.append(lifted)
    return Sketch([*strokes, *new[1:]], known.label)
