"""What users hold: a model that draws, and edits a person's own drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from sketchknitter.data.outline import check
from sketchknitter.editing.complete import complete, endings
from sketchknitter.editing.heal import heal
from sketchknitter.editing.interpolate import interpolate
from sketchknitter.editing.options import GUIDED_STEPS, Show, Watch
from sketchknitter.editing.plain import class_chances
from sketchknitter.editing.posing import Where
from sketchknitter.editing.vary import vary
from sketchknitter.errors import UserError
from sketchknitter.seeds import fresh_seed
from sketchknitter.settings import Completing, Editing, Healing, Varying
from sketchknitter.sketch import Drawable, Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel, merged_alias

Way = Literal["auto", "guided"]


class SketchKnitter(DrawingModel):
    """A diffusion model over pen strokes.

    Where a drawing is expected, a :class:`Sketch`, the path of a drawing file and arrays of points
    will do.

    Args:
        checkpoint: weights and configuration, from :class:`Checkpoint`.
        device: where to run.
    """

    def guess(self, sketch: Drawable, *, finished: bool = True) -> dict[str, float]:
        """What a drawing shows: the model's classes with their probabilities, the likeliest first.

        Args:
            finished: False where something is still to come.

        Raises:
            UserError: an empty drawing or a dot, or a model without classes.
        """
        if not self.classes:
            raise UserError("this model was trained without classes: it cannot name any")
        drawing = Sketch.of(sketch)
        check(drawing)
        chance = class_chances(self, drawing, finished)
        order = np.argsort(-chance, kind="stable")
        return {self.classes[i]: float(chance[i]) for i in order}

    def complete(
        self,
        sketch: Drawable,
        n: int = 6,
        *,
        label: str | None = "guess",
        where: Where = "end",
        goes_on: bool | None = None,
        heal: float = 0.0,
        more: int | None = None,
        seed: int | None = 0,
        steps: int | None = None,
        guidance: float | None = None,
        method: Way = "auto",
        settings: Completing | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        watch: Watch | None = None,
        show: Show | None = None,
    ) -> list[Sketch]:
        """Finish an unfinished drawing in ``n`` ways; what was drawn stays as it is.

        Args:
            sketch: the unfinished drawing, or a file of it.
            n: how many endings.
            label: a class, "guess" (the drawing's own label, or the likeliest class), or None
                for no class.
            where: what is missing comes at the "end", at the "start", or "anywhere".
            goes_on: whether a stroke that was drawn may be continued, as one that breaks off; None:
                only where something is missing anywhere, since a person's strokes are whole.
            heal: above 0 what was drawn is redrawn as well, at that strength, 0 … 1.
            more: points to add; None leaves it to the model.
            seed: same seed, same endings; None takes a new one (see :meth:`sample`).
            steps, guidance: see :class:`Completing`; None leaves them as ``settings`` has them.
            method: "guided" bends any model at every step, the paper's way; "auto" is one plain
                run where the model was trained for it.
            settings: what steps and guidance start from; default: ``Completing()``.
            num_inference_steps, guidance_scale: other names of ``steps`` and ``guidance``.
            watch: called with each frame of the sampling.
            show: called after each evaluation with the drawings as they stand, by their numbers.

        Raises:
            UserError: an empty drawing or a dot, an unknown class, n < 1, settings that cannot be.
        """
        chosen = _chosen(settings, steps, guidance, num_inference_steps, guidance_scale)
        return complete(
            self,
            Sketch.of(sketch),
            n,
            label=label,
            where=where,
            goes_on=goes_on,
            heal=heal,
            more=more,
            seed=self._seed(seed),
            method=method,
            watch=watch,
            show=show,
            **chosen,
        )

    def endings(
        self, sketch: Drawable, n: int = 6, groups: Sequence[int] = (1,), **options: Any
    ) -> Iterator[list[Sketch]]:
        """:meth:`complete`, one group of endings after another, so that the first is there soon.

        Nothing is computed before a group is asked for.

        Args:
            sketch, n: as for :meth:`complete`.
            groups: how many are drawn together; all that are left form the last group.
            options: ``label``, ``where``, ``goes_on``, ``heal``, ``more``, ``seed``, ``method``,
                ``watch`` and ``show`` as for :meth:`complete`, and the fields of
                :class:`Completing`.

        Raises:
            UserError: as :meth:`complete`, once the first group is asked for.
        """
        options["seed"] = self._seed(options.get("seed", 0))
        return endings(self, Sketch.of(sketch), n, groups, **options)

    def heal(
        self,
        sketch: Drawable,
        strength: float | None = None,
        *,
        label: str | None = "guess",
        keep: Sequence[int] = (),
        seed: int | None = 0,
        steps: int | None = None,
        guidance: float | None = None,
        method: Way = "auto",
        settings: Healing | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        watch: Watch | None = None,
        show: Show | None = None,
    ) -> Sketch:
        """Redraw a clumsy drawing so that it stays itself.

        Args:
            sketch: the clumsy drawing, or a file of it.
            strength: 0 (the drawing itself) … 1 (hardly bound to it); None leaves it to the model.
            label: a class (another one turns the drawing into it), "guess", or None for no class.
            keep: strokes that stay exactly as they are, counted from 0.
            seed, steps, guidance, method, settings, watch, show: as for :meth:`complete`, with
                :class:`Healing`.

        Raises:
            UserError: as :meth:`complete`, a strength outside 0 … 1, a stroke that is not there.
        """
        chosen = _chosen(settings, steps, guidance, num_inference_steps, guidance_scale)
        return heal(
            self,
            Sketch.of(sketch),
            strength,
            label=label,
            keep=keep,
            seed=self._seed(seed),
            method=method,
            watch=watch,
            show=show,
            **chosen,
        )

    def vary(
        self,
        sketch: Drawable,
        n: int = 6,
        strength: float = 0.5,
        *,
        label: str | None = "guess",
        seed: int | None = 0,
        steps: int | None = None,
        guidance: float | None = None,
        settings: Varying | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        watch: Watch | None = None,
        show: Show | None = None,
    ) -> list[Sketch]:
        """Variations of a drawing.

        Args:
            sketch: the drawing, or a file of it.
            n: how many.
            strength: 0 (the drawing itself) … 1 (hardly bound to it).
            label, seed, steps, guidance, settings, watch, show: as for :meth:`heal`; the default
                settings give no weight to looking like the input.

        Raises:
            UserError: as :meth:`heal`.
        """
        base = settings or Varying()
        chosen = _chosen(base, steps, guidance, num_inference_steps, guidance_scale)
        return vary(
            self,
            Sketch.of(sketch),
            n,
            strength,
            label=label,
            seed=self._seed(seed),
            watch=watch,
            show=show,
            **chosen,
        )

    def interpolate(
        self,
        a: Drawable,
        b: Drawable,
        n: int = 9,
        *,
        label: str | None = "guess",
        seed: int | None = 0,
        steps: int | None = None,
        num_inference_steps: int | None = None,
        watch: Watch | None = None,
        show: Show | None = None,
    ) -> list[Sketch]:
        """The drawings from ``a`` to ``b``, both included.

        Args:
            a, b: drawings, or files of them.
            n: how many, at least 2.
            label: a class for both, "guess" (each its own, or the likeliest), or None for none.
            seed: of guessing the class.
            steps: of the inversion, and of the way back (30).
            num_inference_steps: another name of ``steps``.
            watch, show: as for :meth:`complete`.

        Raises:
            UserError: as :meth:`complete`, n < 2, steps < 2.
        """
        count = merged_alias("steps", steps, "num_inference_steps", num_inference_steps)
        return interpolate(
            self,
            Sketch.of(a),
            Sketch.of(b),
            n,
            label=label,
            seed=self._seed(seed),
            steps=GUIDED_STEPS if count is None else count,
            watch=watch,
            show=show,
        )

    def _seed(self, seed: int | None) -> int:
        self.last_seed = fresh_seed() if seed is None else seed
        return self.last_seed


def _chosen(
    settings: Editing | None,
    steps: int | None,
    guidance: float | None,
    num_inference_steps: int | None,
    guidance_scale: float | None,
) -> dict[str, Any]:
    """Keyword arguments of an edit."""
    chosen = dict(vars(settings)) if settings is not None else {}
    count = merged_alias("steps", steps, "num_inference_steps", num_inference_steps)
    weight = merged_alias("guidance", guidance, "guidance_scale", guidance_scale)
    if count is not None:
        chosen["steps"] = count
    if weight is not None:
        chosen["guidance"] = weight
    return chosen
