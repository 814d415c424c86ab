"""A trained model of the family, and drawing with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.errors import UserError
from sketchknitter.seeds import Stream
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
from sketchknitter.systems.contract import Task
from sketchknitter.systems.drawing import DrawingGenerator, Request
from sketchknitter.systems.mixture import CodeMixture
from sketchknitter.systems.registry import plain
from sketchknitter.systems.stored import Stored


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


class StrokeGenerator(DrawingGenerator):
    """Draws point by point.

    ``complete`` lets the decoder read the known rows and go on; a drawing that fills all rows
    already stays as it is. ``heal`` encodes the source and decodes a whole drawing in its place.
    Settings: ``temperature`` (None: the one chosen on validation drawings, or for "heal" the lowest
    tried); ``convention`` of the temperature (magenta, browser, healer); ``prior`` of codes
    (normal, mixture); ``mask``, the share of SketchHealer's patches dropped before it heals.

    Args:
        design: of the system.
        stored: weights and what goes with them.
        device: where to run.

    Attributes:
        evaluations: rows decoded so far, of single drawings.

    Raises:
        UserError: the weights do not fit the design.
    """

    settings: ClassVar[Mapping[str, Any]] = {
        "temperature": None, "convention": None, "prior": None, "mask": 0.0
    }  # fmt: skip

    def __init__(self, design: Design[Any], stored: Stored, device: str = "cpu") -> None:
        super().__init__(stored.classes, device)
        self.design, self.name, self.tasks = design, design.name, design.tasks
        self.facts = Facts.of(stored)
        self.model: StrokeModel = design.build(design.sizes, len(stored.classes))
        stored.fill(self.model, device)
        self.mixture: CodeMixture | None = None
        if "mixture.means" in stored.extras:
            self.mixture = CodeMixture.from_tensors(stored.extras)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse values that make no sense (:meth:`DrawingGenerator.check`)."""
        _Options.of(settings, "draw", self.design, self.facts)

    def draw(self, request: Request) -> list[Sketch]:
        """The drawings of one batch (:meth:`DrawingGenerator.draw`)."""
        options = _Options.of(request.settings, request.task, self.design, self.facts)
        source = request.source
        codes = (self._prior if source is None else self._encode)(request, options)
        drawn = self._decode(codes, request, options)
        if source is None or request.task == "complete":
            return drawn
        return [placed_over(d, s) for d, s in zip(drawn, source, strict=True)]

    # -- codes -------------------------------------------------------------------------------------
    def _prior(self, request: Request, options: _Options) -> Tensor:
        """Codes (B, Z) that nobody drew."""
        z, streams = self.model.latent, request.streams(Stream.CODE)
        if options.prior == "normal" or not z:
            codes = np.stack([rng.standard_normal(z) for rng in streams])
            return torch.from_numpy(codes).float().to(self.device)
        mixture = self.mixture
        if mixture is None:
            raise UserError("no mixture of codes was fitted for this model; prior = 'normal'")
        pairs = zip(request.label.tolist(), streams, strict=True)
        codes = np.stack([mixture.sample(label, rng) for label, rng in pairs])
        return torch.from_numpy(codes).float().to(self.device)

    def _encode(self, request: Request, options: _Options) -> Tensor:
        """Codes (B, Z) of drawings, noise and all, as in training."""
        rows = [self._rows(s, request.task) for s in request.source or ()]
        mean, log_variance = self.encoded(rows, self._dropped(request, options))
        streams = request.streams(Stream.CODE)
        noise = np.stack([rng.standard_normal(mean.shape[1]) for rng in streams])
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
        rows = sketch.to_stroke3()
        if task == "heal" and sketch.extent > 0:
            rows[:, :2] *= self.facts.extent / sketch.extent
        return rows if len(rows) else np.array([[0.0, 0.0, 1.0]])

    def _dropped(self, request: Request, options: _Options) -> NDArray[np.bool_] | None:
        patches = getattr(self.design.sizes, "patches", 0)
        if not options.mask:
            return None
        streams = request.streams(Stream.MASK)
        return np.stack([rng.random(patches) < options.mask for rng in streams])

    # -- drawings ----------------------------------------------------------------------------------
    def _decode(self, codes: Tensor, request: Request, options: _Options) -> list[Sketch]:
        """Drawings of codes; of unfinished ones, these and what the decoder adds."""
        known = request.source if request.task == "complete" else None
        scale, longest = self.facts.scale, self.facts.longest
        given: dict[str, Tensor] = {}
        whole: list[NDArray[np.float64]] = []
        length = longest
        if known is not None:
            whole = [self._rows(s, request.task) for s in known]
            length = max(longest, max(map(len, whole)))
            tokens = to_tokens(whole, length, scale)[:, 1:]
            for i, rows in enumerate(whole):
                tokens[i, len(rows) - 1, DRAW:] = 0  # whether its last stroke goes on is open
            counts = torch.tensor([len(r) for r in whole], device=self.device)
            given = {"known": tokens.to(self.device), "known_rows": counts}
        condition = self.model.condition(codes, request.label)
        rows = draw(
            self.model.decoder,
            condition,
            length,
            options.temperature,
            options.convention,
            Chance.of(request.streams(Stream.ROW), length).to(self.device),
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


@dataclass(frozen=True)
class _Options:
    """Settings, whatever was left open filled in."""

    temperature: float
    convention: str
    prior: str
    mask: float

    @classmethod
    def of(
        cls, settings: Mapping[str, Any], task: Task, design: Design[Any], facts: Facts
    ) -> _Options:
        """What the settings say of a task.

        Raises:
            UserError: a value of another type, or one that makes no sense.
        """
        temperature = settings["temperature"]
        if temperature is None:
            temperature = min(design.temperatures) if task == "heal" else facts.temperature
        temperature = plain(temperature, 0.0, "temperature")
        check_temperature(temperature)
        convention = plain(settings["convention"] or design.convention, "", "convention")
        if convention not in CONVENTIONS:
            raise UserError(f"no convention {convention!r}; one of: {', '.join(CONVENTIONS)}")
        prior = plain(settings["prior"] or design.prior, "", "prior")
        if prior not in ("normal", "mixture", "none"):
            raise UserError(f"no prior {prior!r}; one of: normal, mixture")
        mask = settings["mask"]
        if not 0 <= mask <= 1 or (mask and not hasattr(design.sizes, "patches")):
            raise UserError("mask is the share of SketchHealer's patches to drop, 0 to 1")
        return cls(temperature, convention, prior, mask)


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
