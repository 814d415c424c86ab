"""Recognition: does the judge see in a drawing what it was meant to be?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.errors import UserError
from sketchknitter.metrics.features import as_features
from sketchknitter.metrics.metric import Comparison, Metric

TOP = (1, 3, 5, 10)


@dataclass(frozen=True)
class Recognition:
    """Shares of drawings whose label is among the judge's k best guesses, and its confusions.

    Args:
        top: k to share, for k = 1, 3, 5, 10 as far as there are more than k classes.
        confusion: (C, C) counts; row: the label, column: the judge's first guess.
        classes: names of rows and columns.
    """

    top: dict[int, float]
    confusion: NDArray[np.int64]
    classes: tuple[str, ...]


def recognize(
    probabilities: ArrayLike, labels: Sequence[str], classes: Sequence[str]
) -> Recognition:
    """Top-1/3/5/10 and the confusion matrix of (n, C) class probabilities.

    Ties count half-way: a label tied with others stands in the middle of them, rounded down
    against it, so that a constant answer is not taken for a right one.

    Raises:
        UserError: a label is none of ``classes``, or the numbers of rows and labels differ.
    """
    p = as_features(probabilities, "probabilities", 1)
    if len(p) != len(labels):
        raise UserError(f"{len(labels)} labels for {len(p)} drawings")
    index = {name: i for i, name in enumerate(classes)}
    unknown = sorted({str(label) for label in labels} - set(index))
    if unknown:
        raise UserError(
            f"the judge never saw {', '.join(map(repr, unknown[:5]))}; it knows "
            f"{len(classes)} classes; leave those drawings out or train a judge on them"
        )
    truth = np.array([index[label] for label in labels])
    own = p[np.arange(len(p)), truth][:, None]
    rank = (p > own).sum(1) + ((p == own).sum(1)) // 2
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (truth, p.argmax(1)), 1)
    top = {k: float((rank < k).mean()) for k in TOP if k < len(classes)}
    return Recognition(top, confusion, tuple(classes))


def worst_confusions(result: Recognition, count: int = 5) -> list[tuple[str, str, int]]:
    """The commonest mistakes: (label, what the judge saw instead, how often), worst first."""
    wrong = result.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:count]
    pairs = [divmod(int(flat), len(result.classes)) for flat in order]
    return [
        (result.classes[i], result.classes[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]
    ]


def recognized(c: Comparison) -> Recognition | None:
    """What the judge makes of a comparison's drawings; None unless all have labels it knows."""
    if c.labels is None or not set(c.labels) <= set(c.network.classes):
        return None
    return recognize(c.drawn.features.probabilities, c.labels, c.network.classes)


def _share(k: int) -> Callable[[Comparison], float | None]:
    def compute(c: Comparison) -> float | None:
        found = c.once(recognized)
        return None if found is None else found.top.get(k)

    return compute


METRICS = tuple(
    Metric(
        f"top{k}",
        "recognized %" if k == 1 else f"among the first {k} %",
        _share(k),
        "higher",
        factor=100,
        headline=k == 1,
        place=80 + k,
    )
    for k in TOP
)
