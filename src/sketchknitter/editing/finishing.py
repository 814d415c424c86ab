"""Endings of an unfinished drawing, each tried until it shows what it shall be.

A try is one plain run (:mod:`editing.plain`) with a plan of its own: how much is missing and where
the whole lies is drawn anew, and so is the noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from sketchknitter.editing.options import Show, Watch, telling
from sketchknitter.editing.plain import FARTHEST, PlainSampling, drawn, example
from sketchknitter.editing.plan import Plan, emitted
from sketchknitter.editing.posing import Where
from sketchknitter.editing.prospects import Outlook, ending_labels, finished, guessed, plans
from sketchknitter.recognizers.picture import clearness
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel

# endings start from a little less noise: of 248 valid halves they come nearer to the original
# (Chamfer distance 7.0 instead of 7.4 % of the size; the halves themselves 7.6), and as many are
# recognized (62.5 and 62.9 %)
CALMER = 0.85
# endings of a drawing that looks like nothing we know start from still less: of 80 held-out
# drawings of barely known classes, cut in half, they come nearer to the original (Chamfer distance
# 6.9 instead of 7.7 % of the size) and have fewer tangles
PLAINER = 0.7
# how much a class counts as an ending's that the model barely knows, since it draws it poorly: of
# 2,767 parts of valid drawings of well-known classes the first ending is meant to be of the right
# class in 71 instead of 69 %, one of six in 93 instead of 92 %. It costs the others: of 335 halves
# of theirs the first ending is meant to be of the right class in 10 instead of 11 %, of a
# well-known one in 57 instead of 52 %
BARELY = 0.45
# an ending that is as clear as this is not drawn again
CLEAR_ENOUGH = 0.7


def endings(
    model: DrawingModel,
    network: Outlook,
    sketch: Sketch,
    groups: Sequence[int],
    label: int | None,
    how: PlainSampling,
    *,
    where: Where = "end",
    goes_on: bool = False,
    heal: float = 0.0,
    more: int | None = None,
    rounds: Sequence[int] = (1,),
    seed: int = 0,
    watch: Watch | None = None,
    show: Show | None = None,
) -> Iterator[list[Sketch]]:
    """Endings of an unfinished drawing, one group after another; what was drawn comes back
    untouched. An ending depends on the seed and its number, not on its group.

    Args:
        groups: how many are drawn together.
        label: a class index, the number of classes for "no label", or None: endings then differ in
            class by how probable it is and how well the model knows it, the first in this order
            first; none has one where none is likely.
        where: what is missing comes at the "end", at the "start", or "anywhere" between strokes.
        goes_on: whether a stroke that was drawn may be continued.
        heal: above 0 what was drawn is redrawn as well, as rough as this strength says.
        more: points to add; None draws them from the distribution that ``network`` has learned.
        rounds: how often each ending is drawn, at most, round by round, each time with another
            plan, until one is clear enough; else the clearest is taken.
    """
    calm = CALMER
    if label is None:
        n = sum(groups)
        guess = guessed(network, model.classes, sketch, where)
        chances = guess.chances.copy()
        chances[:-1][np.isin(model.classes, model.barely_known)] *= BARELY
        labels = ending_labels(chances, n, stream(seed, Stream.ENDING_LABEL)).tolist()
        if guess.label == len(model.classes):
            # it looks like nothing we know: every ending goes on in its own manner, plainly
            labels, calm = [guess.label] * n, PLAINER
    else:
        labels = [label] * sum(groups)
    how = replace(how, temperature=calm * how.temperature)
    task = Finishing(model, network, sketch, how, where, goes_on, heal, more, seed, watch, show)
    for a, b in pairwise(accumulate(groups, initial=0)):
        group = [Ending(i, labels[i]) for i in range(a, b)]
        for size in rounds:
            if unclear := [e for e in group if e.clearness < CLEAR_ENOUGH]:
                task.attempt(unclear, size)
        yield [task.emitted(e) for e in group]


@dataclass
class Ending:
    """An ending, as far as it has been tried.

    Attributes:
        number: of the ending.
        label: index of the class that it shall show; the number of classes is none.
        tries: how often it has been drawn.
        plan, drawing: of the best try.
        clearness: probability that it shows its class, times the root of that that nothing is
            missing of it anymore (a part can be clear already); 1 where nobody can tell.
    """

    number: int
    label: int
    tries: int = 0
    plan: Plan | None = None
    drawing: Sketch | None = None
    clearness: float = -1.0


@dataclass(frozen=True)
class Finishing:
    """What the endings of a drawing have in common; fields as the arguments of :func:`endings`."""

    model: DrawingModel
    network: Outlook
    sketch: Sketch
    how: PlainSampling
    where: Where
    goes_on: bool
    heal: float
    more: int | None
    seed: int
    watch: Watch | None
    show: Show | None

    @property
    def kept(self) -> frozenset[int]:
        """Strokes that come back untouched."""
        return frozenset() if self.heal else frozenset(range(len(self.sketch)))

    def attempt(self, group: Sequence[Ending], size: int) -> None:
        """Draw each of some endings ``size`` times, and keep its clearest drawing of all."""
        again = group[0].tries > 0
        every = [(e, e.tries + k) for e in group for k in range(size)]
        chosen = plans(
            self.network,
            self.model.classes,
            self.sketch,
            [e.label for e, _ in every],
            self.where,
            [self._stream(Stream.PLAN, e, k) for e, k in every],
            self.model.config.codec.max_points,
            self.more,
            self.heal > 0,
            group[0].number,
            unfinished=again,
            goes_on=self.goes_on,
        )
        rough = FARTHEST * self.heal if self.heal else None
        out = drawn(
            self.model,
            [example(p, np.full(len(p.outline), self.heal > 0), rough) for p in chosen],
            [e.label for e, _ in every],
            [self._stream(Stream.INK, e, k) for e, k in every],
            self.how,
            # somebody who waits sees the first try of each
            telling(
                self.model,
                chosen,
                self.kept,
                self.watch,
                None if again else self.show,
                group[0].number,
            ),
        )
        for i, ending in enumerate(group):
            mine = slice(i * size, (i + 1) * size)
            self._keep_best(ending, chosen[mine], out[mine])

    def emitted(self, ending: Ending) -> Sketch:
        """What was drawn, and its ending, in the drawing's own coordinates."""
        classes, plan = self.model.classes, ending.plan
        name = classes[ending.label] if ending.label < len(classes) else None
        if plan is None or ending.drawing is None or self._finished(plan):
            return self.sketch.with_label(name)
        return emitted(plan, ending.drawing, self.kept, name)

    def _finished(self, plan: Plan) -> bool:
        """Whether nothing is missing: the drawing is its own ending."""
        return plan.count == len(plan.outline) and not self.heal

    def _keep_best(
        self, ending: Ending, chosen: Sequence[Plan], drawings: Sequence[Sketch]
    ) -> None:
        ending.tries += len(drawings)
        # only the guide is asked what they show: of classes that the outlook knows and it does not
        # there were few drawings, and what the outlook chose of 150 valid halves was further from
        # the original than the first try (Chamfer distance 4.6 instead of 4.4 % of the size)
        clear = np.ones(1)
        if not self._finished(chosen[0]) and not np.isnan(p := clearness(drawings)).any():
            clear = p * np.sqrt(finished(self.network, drawings, drawings[0].label))
        best = int(clear.argmax())
        if clear[best] > ending.clearness:
            ending.plan, ending.drawing = chosen[best], drawings[best]
            ending.clearness = float(clear[best])

    def _stream(self, purpose: Stream, ending: Ending, k: int) -> np.random.Generator:
        """Random numbers for try ``k`` of an ending; the first try has the ending's own."""
        return stream(self.seed, purpose, ending.number, *((k,) if k else ()))
