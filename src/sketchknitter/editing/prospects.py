"""What an unfinished drawing may become: class, missing points and frame of each ending."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.outline import outline
from sketchknitter.editing.classify import Where, _places
from sketchknitter.editing.plan import Plan
from sketchknitter.geometry import QUICKDRAW_SIZE
from sketchknitter.recognizers.outlook import LONGEST, OUTLOOK_WEIGHTS, Outlook, as_seen
from sketchknitter.sketch import Sketch

LARGEST = 3.0  # times as large as its known part a drawing is drawn at most
FINISHED = 3.0  # how much likelier a person's drawing is finished than one of the training mixture
TYPICAL = 0.85  # share of the whole's size that a known part is taken to have before it is known


@lru_cache(maxsize=1)
def outlook() -> Outlook | None:
    """The shipped outlook, or None where there is none."""
    return Outlook.load() if OUTLOOK_WEIGHTS.exists() else None


def class_probabilities(
    network: Outlook, classes: Sequence[str], sketch: Sketch, where: Where
) -> NDArray[np.float64]:
    """Of each of ``classes``, and of none of them: (C + 1,), what ``sketch`` may become."""
    seen = _seen(sketch, where)
    found = dict(zip(network.classes, network.class_probabilities(seen), strict=True))
    out = np.array([found.get(name, 0.0) for name in classes])
    return np.append(out, max(0.0, 1.0 - out.sum()))


def _seen(sketch: Sketch, where: Where) -> NDArray[np.float32]:
    known = outline(sketch, TYPICAL, LONGEST * 3 // 4)
    return as_seen(known.points, known.ends, where)


def ending_labels(
    probabilities: NDArray[np.float64], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Classes of ``n`` endings: the likeliest for the first, the others by their probabilities.

    Systematic sampling: a class of probability p gets within one of p times n endings.
    """
    places = (np.arange(n) + rng.random()) / n
    drawn = np.searchsorted(np.cumsum(probabilities / probabilities.sum()), places)
    likeliest = int(np.argmax(probabilities))
    if likeliest in drawn:  # once for the first place, and as often as it was drawn after it
        drawn = np.delete(drawn, int(np.flatnonzero(drawn == likeliest)[0]))
    else:
        drawn = np.delete(drawn, int(rng.integers(n)))
    return np.append(likeliest, rng.permutation(drawn)).astype(np.int64)


def plans(
    network: Outlook,
    classes: Sequence[str],
    sketch: Sketch,
    labels: Sequence[int],
    where: Where,
    rngs: Sequence[np.random.Generator],
    longest: int,
    more: int | None = None,
) -> list[Plan]:
    """One plan for each ending: how many points are missing, and where the whole drawing lies.

    Args:
        labels: index into ``classes`` for each ending; their number is "no label".
        rngs: one stream for each ending.
        longest: points of a drawing at most.
        more: points to add; None draws them from what the network has learned.
    """
    seen = _seen(sketch, where)
    index = {name: i for i, name in enumerate(network.classes)}
    none = len(network.classes)
    own = [index.get(classes[i], none) if i < len(classes) else none for i in labels]
    chances, features = network.missing_probabilities(seen, own)
    out = []
    for i, rng in enumerate(rngs):
        missing = _missing(chances[i], rng) if more is None else more
        frame = network.draw_frame(features[i], missing, rng)
        ratio = float(np.clip(np.exp(frame[0]), 1.0, LARGEST))
        known = outline(sketch, 1 / ratio, max(2, longest - max(missing, longest // 4)))
        missing = min(missing, longest - len(known))
        size = sketch.extent * ratio
        middle = (known.points.min(axis=0) + known.points.max(axis=0)) / 2
        out.append(
            Plan(
                known,
                _places(known, missing, where, rng),
                len(known) + missing,
                QUICKDRAW_SIZE / size,
                origin=middle + np.clip(frame[1:], -1, 1) * size,
            )
        )
    return out


def _missing(chances: NDArray[np.float64], rng: np.random.Generator) -> int:
    """How many points are missing: none where that is likeliest, else drawn from the others."""
    finished = FINISHED * chances[0]
    if finished > 0.5 * (finished + chances[1:].sum()):
        return 0
    rest = np.cumsum(chances[1:])
    return 1 + int(np.searchsorted(rest / rest[-1], rng.random()))
