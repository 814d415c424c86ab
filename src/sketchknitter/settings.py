"""Every setting, as frozen records that read without torch; a checkpoint stores the model's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sketchknitter.errors import SettingError

ScheduleName = Literal["linear", "cosine"]
ParametrizationName = Literal["eps", "v", "x0"]
PenName = Literal["head", "bits"]
LevelSamplerName = Literal["uniform", "loss-second-moment"]
BackboneName = Literal["unet1d", "transformer", "official"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
DistillationName = Literal["progressive", "consistency"]
StudentName = Literal[DistillationName, "matching"]
RepresentationName = Literal["offset", "leaky", "absolute"]
MOST_BLOCKS = 1000  # residual blocks for each level


def _share(record: object, *names: str, below_one: bool = False) -> None:
    """Refuse values outside 0 … 1 (or of 1 itself); None is left alone."""
    for name in names:
        value = getattr(record, name)
        if value is not None and not (0 <= value < 1 if below_one else 0 <= value <= 1):
            end = "0 … 1, without 1" if below_one else "0 … 1"
            raise SettingError(name, f"must lie in {end}, not {value:g}")


def _at_least(record: object, least: float, *names: str) -> None:
    """Refuse values below ``least`` and such as are no finite number."""
    for name in names:
        value = getattr(record, name)
        if not (value >= least and math.isfinite(value)):
            raise SettingError(name, f"must be at least {least}, not {value:g}")


def _positive(record: object, *names: str) -> None:
    """Refuse values that are not above 0 and finite; None is left alone."""
    for name in names:
        value = getattr(record, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise SettingError(name, f"must be more than 0, not {value:g}")


def _interval(interval: tuple[float, float]) -> None:
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise SettingError(
            "interval", f"takes two shares of T, the lower one first, not {low:g} {high:g}"
        )


@dataclass(frozen=True)
class BackboneConfig:
    """The network."""

    backbone: BackboneName = "unet1d"
    """unet1d (points are the sequence), transformer, or official (the paper's released network)"""
    widths: tuple[int, ...] = (64, 128, 192)
    """channels of each U-Net level, finest first (transformer: depth copies of the first)"""
    num_res_blocks: int = 2
    """residual blocks for each level"""
    attention_levels: tuple[int, ...] = (2,)
    """U-Net levels that attend, 0 is the finest"""
    num_heads: int = 4
    """attention heads"""
    dropout: float = 0.0
    """dropout inside residual blocks"""
    use_scale_shift_norm: bool = True
    """condition by scale and shift (FiLM) instead of by addition"""

    def __post_init__(self) -> None:
        if not self.widths or not all(isinstance(w, int) and w >= 1 for w in self.widths):
            raise SettingError("widths", f"are numbers of channels, not {self.widths}")
        _at_least(self, 1, "num_res_blocks", "num_heads")
        if self.num_res_blocks > MOST_BLOCKS:  # a list so long would fill the memory
            raise SettingError(
                "num_res_blocks", f"must be at most {MOST_BLOCKS}, not {self.num_res_blocks}"
            )
        _share(self, "dropout", below_one=True)


@dataclass(frozen=True)
class DiffusionConfig:
    """The diffusion."""

    diffusion_steps: int = 1000
    """T, how many noise levels"""
    noise_schedule: ScheduleName = "cosine"
    """linear (the paper's) or cosine"""
    parametrization: ParametrizationName = "v"
    """what the network regresses: eps (the paper's), v or x0"""
    pens: PenName = "bits"
    """bits (diffused with the coordinates) or head (predicted, the paper's way)"""
    pen_weight: float = 0.1
    """weight of the pen head's cross-entropy"""
    length: Literal["given", "learned"] = "given"
    """given: draw the number of points from the data first; learned: the pen's end state decides"""
    show_positions: bool = True
    """show the network the noisy positions beside (leaky) offsets"""
    conditions: bool = False
    """show the network what is known of a drawing, so that it finishes and heals"""

    def __post_init__(self) -> None:
        _at_least(self, 2, "diffusion_steps")
        _at_least(self, 0, "pen_weight")


@dataclass(frozen=True)
class TrainingConfig:
    """How the weights of any network are learned."""

    iterations: int = 20_000
    """training updates"""
    batch_size: int = 64
    """drawings for each update, over all processes together"""
    microbatch: int = -1
    """drawings for each backward pass of one process; -1 takes its whole share at once"""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw, or muon for hidden matrices (fewer, costlier updates) and adamw for the rest"""
    lr: float = 1e-3
    """peak learning rate of AdamW; Muon's is twice that"""
    weight_decay: float = 0.01
    """decoupled weight decay"""
    warmup: int = 500
    """updates of linear warm-up, before the cosine decay to zero at --iterations"""
    lr_anneal_steps: int = 0
    """where the cosine reaches zero, when not at --iterations"""
    clip: float = 1.0
    """largest norm of the gradient"""
    ema_rate: str = "0.999"
    """decay of the averaged weights; a comma list keeps several, the first is shipped"""
    precision: PrecisionName = "float32"
    """autocast type; bfloat16 pays off only where the processor has it"""
    fp16_scale_growth: float = 1e-3
    """float16: growth of log2(loss scale) at each update that does not overflow"""
    seed: int = 0
    """of weights, data order, noise, augmentation"""


@dataclass(frozen=True)
class CodecOptions:
    """How drawings become model points."""

    representation: RepresentationName = "leaky"
    """offset (the paper's), leaky (offsets whose errors are forgotten) or absolute"""
    leak: float = 0.5
    """of leaky: 1 would be offset, 0 absolute"""
    points: int = 96
    """N, the longest drawing in stroke-3 rows; longer ones are left out"""


@dataclass(frozen=True)
class OptimConfig(TrainingConfig):
    """How the weights are learned."""

    schedule_sampler: LevelSamplerName = "uniform"
    """noise levels seen: uniform, or loss-second-moment"""
    precision: PrecisionName = "auto"
    """autocast type; auto tries float32 and bfloat16 at the start of a long training and takes the
    faster one"""
    label_dropout: float = 0.1
    """share of drawings trained without their label, for classifier-free guidance"""

    def __post_init__(self) -> None:
        _at_least(self, 1, "iterations", "batch_size")
        if self.microbatch != -1:
            _at_least(self, 1, "microbatch")
        _positive(self, "lr", "clip")
        _at_least(self, 0, "weight_decay", "warmup", "lr_anneal_steps", "fp16_scale_growth")
        _share(self, "label_dropout")


@dataclass(frozen=True)
class StudentConfig(OptimConfig):
    """What every student has that draws in few steps."""

    steps: int = 4
    """evaluations of a drawing by the student"""
    guidance: tuple[float, float] = (1.0, 4.0)
    """the least and the largest guidance weight that the student takes as an input"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "steps")
        if not 0 <= self.guidance[0] <= self.guidance[1]:
            low, high = self.guidance
            raise SettingError("guidance", f"takes the lower weight first, not {low:g} {high:g}")


@dataclass(frozen=True)
class DistillConfig(StudentConfig):
    """How a student learns to draw in few steps."""

    iterations: int = 1000
    batch_size: int = 128
    optimizer: Literal["adamw", "muon"] = "muon"
    lr: float = 3e-4
    warmup: int = 50
    ema_rate: str = "0.995"
    teacher_steps: int = 16
    """steps of the teacher; where the model has a student already, that one teaches, with its own
    number"""
    distillation: DistillationName = "progressive"
    """progressive (a step leads where the teacher is at the next level; such a student can teach
    another) or consistency (every step leads to the data, and sampling adds fresh noise)"""
    interval: tuple[float, float] = (0.1, 0.95)
    """the teacher's guidance acts between these shares of T"""
    autoguidance: float = 2.0
    """how far the teacher steers away from what the model of --weak-path makes of it; 1 is not at
    all"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "teacher_steps")
        _interval(self.interval)


@dataclass(frozen=True)
class MatchConfig(StudentConfig):
    """How a student's drawings come to be distributed as its teacher's."""

    iterations: int = 1600
    batch_size: int = 96
    lr: float = 5e-5
    weight_decay: float = 0.0
    warmup: int = 100
    clip: float = 100.0
    ema_rate: str = "0.99"
    guidance: tuple[float, float] = (1.0, 3.0)
    """the least and the largest guidance weight that the student takes as an input"""
    critic_lr: float = 12.0
    """learning rate of the critic, as a multiple of the student's: it has to keep up"""
    interval: tuple[float, float] = (0.1, 0.95)
    """the teacher's guidance acts between these shares of T"""
    adversary: float = 0.5
    """how much the critic's verdict on what was drawn counts beside the teacher's estimate; 0 is
    pure distribution matching, and much of it makes lines angular"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "critic_lr")
        _at_least(self, 0, "adversary")
        _interval(self.interval)
        if self.optimizer != "adamw":
            raise SettingError("optimizer", "is adamw where two networks follow each other")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training drawings."""

    mirror: float = 0.5
    """probability of a left-right flip"""
    rotate: float = 8.0
    """largest rotation, degrees"""
    resize: float = 0.12
    """largest relative change of size"""
    point_drop: float = 0.0
    """probability of dropping a point inside a stroke"""

    def __post_init__(self) -> None:
        _share(self, "mirror")
        _at_least(self, 0, "rotate")
        _share(self, "resize", "point_drop", below_one=True)


@dataclass(frozen=True)
class Settings:
    """How to sample.

    A distilled model draws in its few steps, one evaluation each, unless sampler, timesteps, steps,
    eta, interval, clip or encourage ask for something else: then its many-step network draws, as
    any model without a student does.
    """

    sampler: str | None = None
    """ancestral (the default; DDPM's posterior over the steps visited, ddpm is another name for
    it), dpm++ (2M, deterministic), ddim (with eta), ddpm-large (ancestral with beta as its
    variance), renoised (fresh noise at every level)"""
    timesteps: str | None = None
    """uniform (the default), trailing, linear, quadratic, quadratic-ddim, geometric, logsnr, marks,
    shortcut, shortcut-adaptive: which noise levels are visited"""
    steps: int | None = None
    """budget of network evaluations, guidance not counted; by default a distilled model's own, and
    12 for others"""
    eta: float = 0.0
    """DDIM's noise, 0 … 1"""
    guidance: float | None = None
    """classifier-free guidance weight; 1 is none; by default the model's own (three quarters of
    it where sketches are tried again), else 3"""
    interval: tuple[float, float] | None = None
    """guidance acts between these shares of T, by default 0.35 0.95; a distilled model has its
    own"""
    clip: float | None = None
    """clamp estimates of x_0 to ±clip model units; None leaves them alone"""
    pen_break: float | None = None
    """probability above which the pen lifts; None (or auto) is the calibrated value"""
    temperature: float = 1.0
    """size of the noise that drawings start from; below 1 they are plainer, above 1 wilder"""
    tries: int | None = None
    """how often a sketch is drawn at most, until its class is recognized; by default twice by a
    distilled model in its few steps, else once"""
    best_of: int = 1
    """draw so many for each sketch and keep the most recognizable"""
    encourage: float = 0.0
    """weight of gradient guidance by the recognizability score; 0 is none"""

    def __post_init__(self) -> None:
        _share(self, "eta", "pen_break")
        _at_least(self, 0, "encourage")
        if self.guidance is not None:
            _at_least(self, 0, "guidance")
        _at_least(self, 1, "best_of")
        if self.tries is not None:
            _at_least(self, 1, "tries")
        _positive(self, "clip", "temperature")
        if self.interval is not None:
            _interval(self.interval)

    @property
    def few_steps(self) -> bool:
        """Whether a distilled student may draw so, if it draws in ``steps``."""
        said = (self.sampler, self.timesteps, self.interval, self.clip)
        return all(v is None for v in said) and not self.eta and not self.encourage

    def filled(self) -> ManySteps:
        """For a network that is not distilled: its defaults where nothing is said."""
        return ManySteps(**{k: v for k, v in vars(self).items() if v is not None})


@dataclass(frozen=True)
class ManySteps(Settings):
    """How a network that is not distilled draws; the defaults stand where nobody says."""

    sampler: str = "ancestral"
    timesteps: str = "uniform"
    steps: int = 12
    guidance: float = 3.0
    interval: tuple[float, float] = (0.35, 0.95)


@dataclass(frozen=True)
class Editing:
    """How an edit is sampled; what is None is chosen by the method."""

    sampler: str | None = None
    """ancestral (the default: fresh noise lets old and new settle together), ddim (with eta),
    dpm++"""
    steps: int | None = None
    """noise levels from pure noise to ink: in a plain run a distilled model's own, else 12; 30 when
    guided, of which healing visits its share"""
    eta: float = 0.0
    """DDIM's noise, 0 … 1"""
    guidance: float | None = None
    """classifier-free guidance weight; 1 is none; by default a distilled model's own, else 2 in a
    plain run and 3 when guided"""
    interval: tuple[float, float] | None = None
    """guidance acts between these shares of T, by default 0.1 0.95; a distilled model has its
    own"""
    temperature: float = 1.0
    """size of the noise that new parts start from, against the usual one; below 1 they are plainer,
    above 1 wilder"""
    lean: bool = True
    """let new parts lean on known ones through the network, in twice the time; a plain run has no
    use for it"""

    def __post_init__(self) -> None:
        if self.steps is not None:
            _at_least(self, 1, "steps")
        _share(self, "eta")
        if self.guidance is not None:
            _at_least(self, 0, "guidance")
        _positive(self, "temperature")
        if self.interval is not None:
            _interval(self.interval)

    @property
    def rounds(self) -> tuple[int, ...]:
        """How often each drawing of a plain run is drawn, at most, round by round: after each the
        ones that are good enough are done."""
        return (1,)


@dataclass(frozen=True)
class Completing(Editing):
    """How a completion is sampled."""

    timesteps: str | None = None
    """which noise levels are visited: uniform (the default), trailing, quadratic, geometric …"""
    resamples: int = 0
    """how often each step is taken back and repeated (RePaint); a plain run has no use for it"""
    tries: int = 12
    """how often each ending is drawn at most in a plain run: until one shows its class clearly;
    else the one that shows it best is kept"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 0, "resamples")
        _at_least(self, 1, "tries")

    @property
    def rounds(self) -> tuple[int, ...]:
        """1, 1, 2, 4 …, in all ``tries``."""
        sizes: list[int] = []
        while sum(sizes) < self.tries:
            sizes.append(min(max(1, sum(sizes)), self.tries - sum(sizes)))
        return tuple(sizes)


@dataclass(frozen=True)
class Varying(Editing):
    """How variations are drawn."""

    perceptual: float = 0.0
    """weight of looking like the input; 0 is none; a plain run has no use for it"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 0, "perceptual")


@dataclass(frozen=True)
class Healing(Varying):
    """How a drawing is redrawn."""

    perceptual: float = 0.5
    """weight of looking like the input; 0 is none; a plain run has no use for it"""
    tries: int = 5
    """how often the drawing is redrawn in a plain run; the one is kept that is near to the others
    and shows its class clearly"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "tries")

    @property
    def rounds(self) -> tuple[int, ...]:
        return (self.tries,)


@dataclass(frozen=True)
class RefineConfig:
    """How a student's lines come to be as clean as people's."""

    drawings: int = 5000
    """drawings of the student that are cleaned, and of people that show how"""
    updates: int = 600
    """training updates"""
    stage_batch: int = 192
    """drawings for each update"""
    stage_lr: float = 2e-3
    """peak learning rate of Adam"""
    width: int = 96
    """channels of the network"""
    keep: float = 0.01
    """how much it counts that points stay where they were: a squared distance, px"""

    def __post_init__(self) -> None:
        _at_least(self, 1, "updates", "stage_batch", "width")
        _at_least(self, 10, "drawings")
        _positive(self, "stage_lr")
        _at_least(self, 0, "keep")


@dataclass(frozen=True)
class StageConfig:
    """The recognizability stage."""

    drawings: int = 6144
    """drawings noised forward, one level each"""
    trajectories: int = 192
    """drawings made by the reverse process, --levels moments each"""
    levels: int = 16
    """moments looked at on each trajectory"""
    updates: int = 500
    """training updates of each network"""
    stage_batch: int = 128
    """examples for each update"""
    stage_lr: float = 3e-3
    """peak learning rate of Adam"""
    hidden: int = 64
    """units of the GRU, each direction"""
    inputs: Literal["best", "state", "estimate", "both", "placed"] = "best"
    """what the network sees; best compares all and keeps the highest R2"""
    target: Literal["estimate", "state"] = "estimate"
    """which drawing the guide judges: the predicted x_0, or the noisy state itself"""
    warp_weight: float = 0.5
    """lam: how much recognizability counts beside noise when timesteps are chosen"""

    def __post_init__(self) -> None:
        _at_least(self, 1, "drawings", "trajectories", "updates", "stage_batch", "hidden")
        _at_least(self, 2, "levels")
        _positive(self, "stage_lr")
        _at_least(self, 0, "warp_weight")
