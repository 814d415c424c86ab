"""What a drawing is or may become: class, missing points and frame of each ending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.outline import error_of, outline
from sketchknitter.editing.classify import witnessed
from sketchknitter.editing.plan import Plan
from sketchknitter.editing.posing import Where, places_of
from sketchknitter.geometry import QUICKDRAW_SIZE
from sketchknitter.recognizers.outlook import FRAME, LONGEST, Outlook, as_seen
from sketchknitter.sketch import Sketch

LARGEST = 3.0  # times as large as its known part a drawing is drawn at most
# how much likelier a person's drawing is finished than one of the training mixture: of 600 finished
# valid drawings 80 % are then left alone, of those that lack their last strokes (30 to 70 % of the
# points are there) 7 % (4 % where the class is given)
FINISHED = 1.4
# temperature of the frame of an ending, since one that is a little off spoils it: of 488 valid
# halves 98 instead of 97 % are recognized when the class is given, and endings come nearer to the
# original (Chamfer distance 3.3 instead of 3.4 % of the size)
FRAMED = 0.3
TYPICAL = 0.85  # share of the whole's size that a known part is taken to have before it is known
# probabilities of the likeliest class: from the first on a drawing is healed as one of that class
# (of 124 valid drawings deformed by 10 and 30 %, 81 and 50 % are then recognized; with no class 60
# and 22 %, by a model half trained), below the second we say that we are not sure
BELIEVED, SURE = 0.2, 0.5
# of six endings of a valid half one is meant to be of the right class in 93 % of 620 cases, with
# shares by the root of the probability and .9 in 90 %
LIKELY = 0.98
CLEAN_OR_ROUGH = (0.03, 0.08)  # errors of points (see data.outline) of drawings that are either


@dataclass(frozen=True)
class Guess:
    """What a drawing is taken for.

    Attributes:
        classes: of the model.
        chances: probability of each, and of none of them, (C + 1,).
        least: probability from which on the likeliest class is believed.
    """

    classes: tuple[str, ...]
    chances: NDArray[np.float64]
    least: float = BELIEVED

    @property
    def sure(self) -> bool:
        """Whether one class is likelier than all others together."""
        return bool(self.classes) and float(self.chances[:-1].max()) >= SURE

    @property
    def label(self) -> int:
        """Index of the likeliest class; the number of classes where none is likely."""
        likely = bool(self.classes) and self.chances[:-1].max() >= self.least
        return int(self.chances[:-1].argmax()) if likely else len(self.classes)

    def likeliest(self, count: int = 3) -> list[tuple[str, float]]:
        """The likeliest classes with their probabilities, falling."""
        order = np.argsort(-self.chances[:-1], kind="stable")[:count]
        return [(self.classes[i], float(self.chances[i])) for i in order]

    def __str__(self) -> str:
        named = ", ".join(
            f"{name} {p:.0%}" if p >= 0.005 else f"{name} <1%" for name, p in self.likeliest()
        )
        return named if self.sure else f"not sure: {named}"


def guessed(network: Outlook, classes: Sequence[str], sketch: Sketch, where: Where | None) -> Guess:
    """What ``sketch`` shows, or will show where something is missing (``where``; None: nothing)."""
    seen = _whole(sketch) if where is None else _seen(sketch, where)
    log_p = np.log(np.maximum(network.class_probabilities(seen), 1e-12))
    log_p = witnessed(log_p, network.classes, sketch, finished=where is None)
    chances = np.exp(log_p - np.logaddexp.reduce(log_p))
    found = dict(zip(network.classes, chances, strict=True))
    out = np.array([found.get(name, 0.0) for name in classes])
    # what is wrong with a rough drawing only a class can tell; a clean one of no well-known class
    # must not be bent into one
    rough = 1.0 if where is not None else np.interp(error_of(sketch), CLEAN_OR_ROUGH, (0.0, 1.0))
    least = SURE + (BELIEVED - SURE) * float(rough)
    return Guess(tuple(classes), np.append(out, max(0.0, 1.0 - out.sum())), least)


def _whole(sketch: Sketch) -> NDArray[np.float32]:
    known = outline(sketch, most=LONGEST)
    return as_seen(known.points, known.ends, "nothing", rough=True)


def _seen(sketch: Sketch, where: Where, rough: bool = False) -> NDArray[np.float32]:
    known = outline(sketch, TYPICAL, LONGEST * 3 // 4)
    return as_seen(known.points, known.ends, where, rough)


def finished(network: Outlook, sketches: Sequence[Sketch], name: str | None) -> NDArray[np.float64]:
    """How probable it is that nothing is missing of drawings of class ``name``, (n,)."""
    label = network.classes.index(name) if name in network.classes else len(network.classes)
    known = [outline(sketch, most=LONGEST) for sketch in sketches]
    return network.finished([as_seen(k.points, k.ends, "end") for k in known], label)


def ending_labels(
    probabilities: NDArray[np.float64], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Classes of ``n`` endings: the likeliest for the first, the others by their probabilities.

    Only the ``n`` likeliest come into question, and what is not among ``LIKELY`` of all
    probability does not. Systematic sampling: a class gets within one of its share of ``n``, which
    is in proportion to the fourth root of its probability, so that a few endings show what the
    drawing may become and not several times the likeliest.
    """
    order = np.argsort(-probabilities, kind="stable")[:n]
    before = np.cumsum(probabilities[order]) - probabilities[order]
    share = np.zeros_like(probabilities)
    likely = order[before < LIKELY * probabilities.sum()]
    share[likely] = probabilities[likely] ** 0.25
    places = (np.arange(n) + rng.random()) / n
    drawn = np.searchsorted(np.cumsum(share / share.sum()), places)
    likeliest = int(np.argmax(probabilities))
    if likeliest in drawn:  # once for the first place, and as often as it was drawn after it
        drawn = np.delete(drawn, int(np.flatnonzero(drawn == likeliest)[0]))
    else:
        drawn = np.delete(drawn, int(rng.integers(n)))
    return np.append(likeliest, rng.permutation(drawn)).astype(np.int64)


def room(sketch: Sketch, longest: int) -> int:
    """How many points can be added to a drawing at most, so that the model still sees it."""
    return longest - min(len(outline(sketch, most=longest)), longest // 4)


def plans(
    network: Outlook,
    classes: Sequence[str],
    sketch: Sketch,
    labels: Sequence[int],
    where: Where,
    rngs: Sequence[np.random.Generator],
    longest: int,
    more: int | None = None,
    rough: bool = False,
    first: int = 0,
    unfinished: bool = False,
    goes_on: bool = False,
) -> list[Plan]:
    """One plan for each ending: how many points are missing, and where the whole drawing lies.

    Args:
        labels: index into ``classes`` for each ending; their number is "no label".
        rngs: one stream for each ending.
        longest: points of a drawing at most.
        more: points to add; None draws them from what the network has learned.
        rough: whether the points that are there may be off.
        first: number of the first of these endings.
        unfinished: whether something is known to be missing.
        goes_on: whether a stroke that is there may be continued.
    """
    seen = _seen(sketch, where, rough)
    index = {name: i for i, name in enumerate(network.classes)}
    none = len(network.classes)
    own = [index.get(classes[i], none) if i < len(classes) else none for i in labels]
    chances, features = network.missing_probabilities(seen, own)
    out = []
    for i, rng in enumerate(rngs):
        missing = more
        if missing is None:
            missing = _missing(chances[i], rng, first=first + i == 0, unfinished=unfinished)
        # where nothing is missing, and nothing off, the drawing is the whole
        frame = (
            network.draw_frame(features[i], missing, rng, FRAMED)
            if missing or rough
            else np.zeros(FRAME)
        )
        ratio = float(np.clip(np.exp(frame[0]), 1.0, LARGEST))
        known = outline(sketch, 1 / ratio, max(2, longest - max(missing, longest // 4)))
        missing = min(missing, longest - len(known))
        size = sketch.extent * ratio
        middle = (known.points.min(axis=0) + known.points.max(axis=0)) / 2
        out.append(
            Plan(
                known,
                places_of(known, missing, where, rng),
                len(known) + missing,
                QUICKDRAW_SIZE / size,
                origin=middle + np.clip(frame[1:], -1, 1) * size,
                goes_on=goes_on,
            )
        )
    return out


def _missing(
    chances: NDArray[np.float64],
    rng: np.random.Generator,
    first: bool = True,
    unfinished: bool = False,
) -> int:
    """How many points are missing of an ending.

    Where it is likelier that something is, or known (``unfinished``), something is. Else none of
    the first, and of the others none as often as that is likely, so that a finished drawing is not
    given back again and again.
    """
    done = FINISHED * chances[0] / (FINISHED * chances[0] + chances[1:].sum())
    if done > 0.5 and not unfinished and (first or done > rng.random()):
        return 0
    rest = np.cumsum(chances[1:])
    return 1 + int(np.searchsorted(rest / rest[-1], rng.random()))
