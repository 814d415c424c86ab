"""A model that draws: weights and configuration in, sketches out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from sketchknitter.classes import NO_CLASS, WELL_KNOWN, class_index
from sketchknitter.data.lengths import counts_of, drawn_length
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion import shortcut
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.diffusion.guidance.clamped import Clamped
from sketchknitter.diffusion.guidance.classifier_free import Guided
from sketchknitter.diffusion.guidance.encouraged import Encouraged
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.errors import SettingError, UserError
from sketchknitter.files import MODEL
from sketchknitter.recognizers.picture import until_recognized
from sketchknitter.recognizers.recognizability import Recognizability
from sketchknitter.recognizers.scorer import Scorer, best_of
from sketchknitter.seeds import Stream, fresh_seed, stream, taken_turn
from sketchknitter.settings import ManySteps, Settings
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.card import card
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig
from sketchknitter.systems.sketchknitter.hub import locate, push
from sketchknitter.systems.sketchknitter.student import Student, student_of

LEAST_BATCH = 8  # drawings
DTYPES = ("float32", "bfloat16", "float16")
Label = str | Sequence[str] | None
T = TypeVar("T")


@dataclass(frozen=True)
class SamplingProgress:
    """Reported while sampling: how many sketches are finished and what just happened.

    Attributes:
        done: sketches finished so far.
        evaluations: share of the current batch's evaluations done, 0 … 1.
        total: sketches asked for.
    """

    done: int
    evaluations: float
    total: int


@dataclass
class _Report:
    """Tells the caller of :meth:`DrawingModel.stream` about each evaluation of one batch."""

    numbers: np.ndarray
    done: int
    total: int
    steps: int
    progress: Callable[[SamplingProgress], None] | None
    watch: Callable[[np.ndarray, sampling.Frame], None] | None
    calls: int = 0

    def __call__(self, frame: sampling.Frame) -> None:
        self.calls += 1
        if self.progress is not None:
            self.progress(
                SamplingProgress(self.done, min(1.0, self.calls / self.steps), self.total)
            )
        if self.watch is not None:
            self.watch(self.numbers, frame)


# what is evaluated, how it steps, and at which levels
Way = tuple[sampling.Model, sampling.Method, policies.Timesteps]
# how often a few-step sketch is drawn at most, and the share of the student's guidance that is
# enough then. Of 1,860 drawings, against the valid split: fid_sketch 2.7 instead of 2.9, recall .70
# instead of .69, 96.6 instead of 94.9 % recognized. More tries and a higher bound do little more
# and cost time (docs/model_card.md)
TRIES, LESS_GUIDANCE = 2, 0.75


class DrawingModel:
    """A diffusion model over pen strokes.

    Args:
        checkpoint: weights and configuration, from :class:`Checkpoint`.
        device: where to run.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device = "cpu") -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.dtype = torch.float32
        self.last_seed: int | None = None
        self.denoiser = checkpoint.denoiser().to(self.device)

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.denoiser.parameters())
        known, all_of = self.well_known or self.classes, len(self.classes)
        names = ", ".join(known[:3] + (("…",) if len(known) > 3 else ()))
        what = f"{all_of} classes ({names})" if names else "no classes"
        if len(known) < all_of:
            what = f"{len(known)} classes well known ({names}), {all_of - len(known)} barely"
        few = f", {self.student.steps} evaluations a drawing" if self.student else ""
        kind = "" if self.dtype == torch.float32 else f", {str(self.dtype).removeprefix('torch.')}"
        return f"<{type(self).__name__}: {what}, {size:,} parameters{few}, {self.device}{kind}>"

    # -- loading and saving ------------------------------------------------------------------------
    @classmethod
    def from_pretrained(
        cls,
        source: str | PathLike[str] | None = None,
        device: str | torch.device = "cpu",
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Load a model.

        Args:
            source: None (or ``"shipped"``) for the shipped weights; a ``.safetensors`` file; a
                folder holding ``model.safetensors``; or a Hugging Face hub id ``owner/name``.
            device: where to run.
            revision: branch, tag or commit of a hub repository.
            token: for private repositories; None takes the one stored on this machine.

        Raises:
            UserError: nothing there, or not a model of ours.
        """
        return cls(Checkpoint.load(locate(source, revision=revision, token=token)), device)

    def save_pretrained(self, folder: str | PathLike[str]) -> Path:
        """Write the weights that the model holds now as ``folder/model.safetensors``.

        Returns:
            The file's path.
        """
        path = Path(folder) / MODEL
        kept = self.checkpoint.weights
        now = self.denoiser.state_dict()
        # what has not changed keeps the type it is stored in
        weights = {
            k: kept[k] if k in kept and torch.equal(kept[k].to(v), v) else v for k, v in now.items()
        }
        replace(self.checkpoint, weights=weights).save(path)
        return path

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = False,
        token: str | bool | None = None,
        message: str = "Upload a sketchknitter model",
    ) -> str:
        """Save to a Hugging Face hub repository ``owner/name``, made if it is not there.

        A repository without a model card gets one that says what the model's record says.

        Returns:
            The repository's address.

        Raises:
            UserError: the hub cannot be reached, or refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = self.save_pretrained(folder)
            return push(
                path,
                card(self.checkpoint, name),
                name,
                private=private,
                token=token,
                message=message,
            )

    def to(
        self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
    ) -> Self:
        """Move the model, in place.

        Args:
            device: where to run.
            dtype: what the backbone multiplies in: float32, bfloat16 or float16 (by autocast; the
                weights, and everything around the backbone, stay in float32).

        Returns:
            The model itself.

        Raises:
            UserError: another type, or a model that onnxruntime evaluates (``export.use``).
        """
        student = self.__dict__.get("student")  # one that is not made yet is torch's
        made = [self.denoiser, *([student.denoiser] if student else [])]
        if not all(isinstance(network, torch.nn.Module) for network in made):
            raise UserError(
                "onnxruntime evaluates this model, on the processor and in its file's type; load it"
                " again to move it"
            )
        if dtype is not None:
            name = str(dtype).removeprefix("torch.")
            if name not in DTYPES:
                raise SettingError("dtype", f"is one of {', '.join(DTYPES)}, not {name}")
            self.dtype = getattr(torch, name)
        if device is not None:
            self.device = torch.device(device)
            self.denoiser.to(self.device)
            for part in ("scorer", "student"):  # made anew where the model is
                self.__dict__.pop(part, None)
        for network in self.denoisers:
            network.dtype = None if self.dtype == torch.float32 else self.dtype
        return self

    @property
    def config(self) -> ModelConfig:
        return self.checkpoint.config

    @property
    def classes(self) -> tuple[str, ...]:
        """What it can draw."""
        return self.config.classes

    @property
    def well_known(self) -> tuple[str, ...]:
        """Classes that it learned from 300 drawings or more."""
        found = zip(self.classes, self.checkpoint.drawings, strict=True)
        return tuple(name for name, count in found if count >= WELL_KNOWN)

    @property
    def barely_known(self) -> tuple[str, ...]:
        """Classes that it learned from fewer drawings."""
        known = set(self.well_known)
        return tuple(name for name in self.classes if name not in known)

    @cached_property
    def usual_classes(self) -> tuple[str, ...]:
        """What it draws when no class is named: the classes that its file names (``notes.usual``),
        else the well-known ones, or all where none is."""
        named = set(self.checkpoint.notes.get("usual", ()))
        kept = tuple(name for name in self.classes if name in named)
        return kept or self.well_known or self.classes

    # -- drawing -----------------------------------------------------------------------------------
    def sample(
        self,
        label: Label = None,
        n: int | None = None,
        *,
        seed: int | None = 0,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        timesteps: str | None = None,
        eta: float | None = None,
        interval: tuple[float, float] | None = None,
        clip: float | None = None,
        pen_break: float | None = None,
        temperature: float | None = None,
        tries: int | None = None,
        best_of: int | None = None,
        encourage: float | None = None,
        settings: Settings | None = None,
        batch_size: int = 64,
        progress: Callable[[SamplingProgress], None] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> list[Sketch]:
        """Draw new sketches.

        The noise of a sketch depends on the seed and its number alone, not on the batch it is in;
        drawings of one seed agree to 0.01 px whatever the batch size.

        Args:
            label: a class; a list of classes, drawn in turn; None for all ``usual_classes``
                evenly; or ``"none"`` for drawings of no class in particular.
            n: how many in all; default: one, or one of each class of a list.
            seed: same seed, same drawings. None takes a new one, says it by the logger
                ``sketchknitter`` and keeps it in ``last_seed``.
            steps, guidance, sampler, timesteps, eta, interval, clip, pen_break, temperature, tries,
                best_of, encourage: see :class:`Settings`; None leaves each as ``settings`` has it.
            settings: what they start from; default: ``Settings()``.
            batch_size: sketches denoised together.
            progress: called after each network evaluation.
            num_inference_steps, guidance_scale: other names of ``steps`` and ``guidance``.

        Raises:
            UserError: an unknown class, n < 1, or settings that cannot be.
        """
        chosen = {
            "steps": merged_alias("steps", steps, "num_inference_steps", num_inference_steps),
            "guidance": merged_alias("guidance", guidance, "guidance_scale", guidance_scale),
            "sampler": sampler,
            "timesteps": timesteps,
            "eta": eta,
            "interval": interval,
            "clip": clip,
            "pen_break": pen_break,
            "temperature": temperature,
            "tries": tries,
            "best_of": best_of,
            "encourage": encourage,
        }
        given = {k: v for k, v in chosen.items() if v is not None}
        return list(
            self.stream(
                label,
                n,
                seed=seed,
                batch_size=batch_size,
                progress=progress,
                settings=make_settings(given, settings),
            )
        )

    def stream(
        self,
        label: Label = None,
        n: int | None = None,
        *,
        seed: int | None = 0,
        batch_size: int = 64,
        settings: Settings | None = None,
        progress: Callable[[SamplingProgress], None] | None = None,
        watch: Callable[[np.ndarray, sampling.Frame], None] | None = None,
        first: int = 0,
    ) -> Iterator[Sketch]:
        """:meth:`sample`, one sketch after another: memory stays flat for any ``n``.

        Args:
            label: a class, several that are drawn in turn, or None for ``usual_classes`` evenly.
            first: start with the sketch of this number; a multiple of :func:`window_of` the batch
                size gives bit by bit what a stream from 0 would come to.
            watch: called for each evaluation with the sketch numbers of the batch and the frame.
        """
        fixed = self._label_indices(label)
        if n is None:
            n = 1 if label is None or isinstance(label, str) else len(label)
        if n < 1:
            raise SettingError("n", f"must be at least 1, not {n}")
        if batch_size < 1:
            raise SettingError("batch_size", f"must be at least 1, not {batch_size}")
        self.last_seed = fresh_seed() if seed is None else seed
        settings = settings or Settings()
        settings = self._with_tries(settings, watched=watch is not None)
        return self._stream(
            self.way(settings),
            settings,
            fixed,
            n,
            self.last_seed,
            batch_size,
            progress,
            watch,
            first,
        )

    def _with_tries(self, settings: Settings, watched: bool) -> Settings:
        """``settings`` that say how often a sketch is tried, and by what guidance a student draws
        that may try again."""
        student, tries = self.student_for(settings.few_steps, settings.steps), settings.tries
        if tries is None:
            # who watches sees one way to each sketch
            tries = TRIES if student and settings.best_of == 1 and not watched else 1
        guidance = settings.guidance
        if guidance is None and student and tries > 1:
            guidance = LESS_GUIDANCE * student.guidance
        return replace(settings, tries=tries, guidance=guidance)

    def _label_indices(self, label: Label) -> list[int] | None:
        """Class indices to draw in turn; None for the usual classes, shuffled."""
        if label is None:
            return None
        names = [label] if isinstance(label, str) else list(label)
        if not names:
            raise SettingError("label", "is an empty list; name a class, or give None for all")
        none = NO_CLASS not in self.classes
        return [
            len(self.classes) if none and name == NO_CLASS else class_index(self.classes, name)
            for name in names
        ]

    def _stream(
        self,
        way: Way,
        settings: Settings,
        fixed: list[int] | None,
        n: int,
        seed: int,
        batch_size: int,
        progress: Callable[[SamplingProgress], None] | None,
        watch: Callable[[np.ndarray, sampling.Frame], None] | None,
        first: int,
    ) -> Iterator[Sketch]:
        window = window_of(batch_size)
        for start in range(first, n, window):
            numbers = np.arange(start, min(n, start + window))
            labels = np.array(
                [fixed[i % len(fixed)] if fixed else self._class(seed, int(i)) for i in numbers]
            )
            streams = [stream(seed, Stream.DRAWING, int(i)) for i in numbers]
            report = partial(_Report, total=n, steps=way[2].steps, progress=progress, watch=watch)
            yield from self._window(way, settings, numbers, labels, streams, batch_size, report)
            if progress is not None:
                progress(SamplingProgress(start + len(numbers), 1.0, n))

    def _window(
        self,
        way: Way,
        settings: Settings,
        numbers: np.ndarray,
        labels: np.ndarray,
        streams: Sequence[np.random.Generator],
        batch_size: int,
        report: Callable[[np.ndarray, int], Callable[[sampling.Frame], None]],
    ) -> list[Sketch]:
        """The sketches of some numbers, drawn in batches of similar lengths."""
        lengths = np.array([self.draw_length(c, s) for c, s in zip(labels, streams, strict=True)])

        def draw(
            rows: np.ndarray, streams: Sequence[np.random.Generator], again: bool = True
        ) -> list[Sketch]:
            out: dict[int, Sketch] = {}
            for part in _alike(lengths[rows], batch_size):
                mine = rows[part]
                task = self._task(labels[mine], lengths[mine], [streams[i] for i in part])
                tell = None if again else report(numbers[mine], int(numbers[0]) + len(out))
                sketches = self._draw(way, task, settings, tell)
                out.update(zip(part.tolist(), sketches, strict=True))
            return [out[i] for i in range(len(rows))]

        once = draw(np.arange(len(numbers)), streams, again=False)
        return until_recognized(once, draw, streams, settings.tries or 1)

    def _task(
        self, labels: np.ndarray, lengths: np.ndarray, streams: Sequence[np.random.Generator]
    ) -> sampling.Task:
        mask = torch.arange(int(lengths.max()))[None] < torch.as_tensor(lengths)[:, None]
        label = torch.as_tensor(labels, device=self.device)
        return sampling.Task(label, mask.to(self.device), SketchNoise(streams))

    def _draw(
        self,
        way: Way,
        task: sampling.Task,
        settings: Settings,
        watch: Callable[[sampling.Frame], None] | None,
    ) -> list[Sketch]:
        x = settings.temperature * task.normal(self.width)
        drawn = sampling.draw(*way, task, x, watch=watch)
        if settings.best_of != 1:

            def again(task: sampling.Task, noise: Tensor) -> sampling.Drawn:
                return sampling.draw(*way, task, settings.temperature * noise)

            drawn = best_of(settings.best_of, drawn, again, task, self.width, self.scorer)
        return self.decode(drawn.x0, drawn.pen, task, settings.pen_break)

    # -- parts that other modes share ------------------------------------------------------------
    @property
    def width(self) -> int:
        """Channels of the state."""
        return 2 + self.denoiser.pens.channels

    def decode(
        self, x0: Tensor, pen: Tensor, task: sampling.Task, pen_break: float | None = None
    ) -> list[Sketch]:
        """Sketches (px) of clean states (B, N, D) and pen log-probabilities (B, N, 3)."""
        names = [self.classes[c] if c < len(self.classes) else None for c in task.label.tolist()]
        lengths = task.mask.sum(dim=1) if self.denoiser.length_given else None
        return self.config.codec.decode(x0, pen, lengths, names, pen_break)

    @cached_property
    def student(self) -> Student | None:
        """The checkpoint's distilled network on the model's device; None where it has none."""
        found = student_of(self.checkpoint)
        if found is None:
            return None
        return found.on(self.device)

    @property
    def denoisers(self) -> list[Denoiser]:
        """All that this model evaluates: its own network, and its student's."""
        return [self.denoiser, *([self.student.denoiser] if self.student else [])]

    def student_for(self, few_steps: bool, steps: int | None) -> Student | None:
        """The student, where the settings leave it a say and ask for no other number of steps."""
        student = self.student if few_steps else None
        return student if student and steps in (None, student.steps) else None

    def way(self, settings: Settings) -> Way:
        """What is evaluated, how it steps, and at which levels."""
        student = self.student_for(settings.few_steps, settings.steps)
        if student is None:
            many = settings.filled()
            method = sampling.method(many.sampler, many.eta)
            return self._wrapped(many), method, self.policy(many)
        weight = student.guidance if settings.guidance is None else settings.guidance
        model = student.model(weight, len(self.classes))
        return model, student.method, student.timesteps

    def policy(self, settings: Settings) -> policies.Timesteps:
        """The timesteps policy that ``settings`` name, of the many-step network."""
        many, schedule = settings.filled(), self.denoiser.schedule
        if many.timesteps not in shortcut.NAMES:
            return policies.grid(many.timesteps, many.steps, schedule)
        scorer = self.scorer  # first: it says what to do when there is none
        name, steps = many.timesteps, many.steps
        return shortcut.policy(name, steps, schedule, self.calibration, scorer)

    @property
    def calibration(self) -> shortcut.Calibration:
        """How recognizability and noise run along the checkpoint's trajectories."""
        return shortcut.Calibration.from_dict(self.checkpoint.notes["shortcut"])

    @cached_property
    def scorer(self) -> Scorer:
        """The checkpoint's recognizability network.

        Raises:
            UserError: the checkpoint has none.
        """
        note, prefix = self.checkpoint.notes.get("recognizability"), "recognizability."
        if note is None:
            raise UserError(
                "this checkpoint has no recognizability network; add one with "
                "`sketchknitter train --stage recognizability --model-path FILE`"
            )
        extras = self.checkpoint.extras.items()
        network = Recognizability(**note["network"])
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in extras if k.startswith(prefix)}
        )
        place = {name: i for i, name in enumerate(note["classes"])}
        none = len(place)
        labels = torch.tensor([place.get(name, none) for name in self.classes] + [none])
        return Scorer(
            network.to(self.device), note["inputs"], self.config.codec.rho, labels, note["rest"]
        )

    def _wrapped(self, settings: ManySteps) -> sampling.Model:
        model: sampling.Model = self.denoiser
        if settings.guidance != 1:
            model = Guided(model, settings.guidance, len(self.classes), settings.interval)
        if settings.clip is not None:
            model = Clamped(model, settings.clip)
        if settings.encourage:
            if self.scorer.inputs == "state":
                raise SettingError(
                    "encourage",
                    "needs a recognizability network that sees the estimate, and this model's sees"
                    " only the noisy state; train that stage again with inputs estimate",
                )
            model = Encouraged(model, self.scorer, settings.encourage)
        return model

    def draw_length(self, label: int, rng: np.random.Generator) -> int:
        """How many model points: drawn from the training drawings of the class.

        A model that learned its lengths (the pen's end state) always gets all N points.
        """
        if not self.denoiser.length_given:
            return self.config.codec.max_points
        return drawn_length(counts_of(self.checkpoint.lengths.numpy(), label), rng)

    def _class(self, seed: int, number: int) -> int:
        """Class of sketch ``number`` of a mixed run: all usual classes, shuffled, then again."""
        k = len(self.usual_classes)
        if not k:  # trained without labels: everything is "no label"
            return 0
        return self.classes.index(self.usual_classes[taken_turn(seed, number, k)])


def window_of(batch_size: int) -> int:
    """How many sketches, in order of number, are sorted into batches of ``batch_size`` at once."""
    return batch_size * max(1, 256 // batch_size)


def _alike(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Indices of drawings in batches of similar lengths: what is padded is computed for nothing.

    A batch ends before a drawing a quarter longer than its shortest, unless it is so small that the
    fixed costs of an evaluation would weigh more than the padding.
    """
    order = np.argsort(lengths, kind="stable")
    first = 0
    for i in range(1, len(order) + 1):
        size = i - first
        full = i == len(order) or size == batch_size
        if full or (size >= LEAST_BATCH and lengths[order[i]] > 1.25 * lengths[order[first]]):
            yield order[first:i]
            first = i


def make_settings(options: Mapping[str, object], base: Settings | None = None) -> Settings:
    """Settings from keyword arguments.

    Raises:
        UserError: an unknown name.
    """
    base = base or Settings()
    known = [f.name for f in fields(Settings)]
    if unknown := set(options) - set(known):
        raise UserError(f"no setting {sorted(unknown)[0]!r}; one of: {', '.join(known)}")
    return replace(base, **options)  # type: ignore[arg-type]


def merged_alias(name: str, value: T | None, other: str, same: T | None) -> T | None:
    """The value of a setting that has two names.

    Raises:
        UserError: both are given, and differ.
    """
    if value is not None and same is not None and value != same:
        raise SettingError(name, f"and {other} are two names of one setting; give one of them")
    return same if value is None else value
