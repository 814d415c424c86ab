"""The original scripts' spelling of options, rewritten into ours before they are parsed.

``docs/options.md`` is the table of all of them.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sketchknitter.errors import UserError
from sketchknitter.settings import BackboneConfig

TRUE, FALSE = ("true", "1", "yes", "on", "y", "t"), ("false", "0", "no", "off", "n", "f")


@dataclass(frozen=True)
class Ours:
    """What an original option becomes.

    Attributes:
        args: words of our command line.
        note: what the person should know, one line without the option's name.
    """

    args: tuple[str, ...] = ()
    note: str | None = None


Rule = Callable[[str], Ours]  # the option's value -> our words


def truth(text: str) -> bool | None:
    """True or False as people write them; None for anything else."""
    word = text.lower()
    return True if word in TRUE else False if word in FALSE else None


def _bool(name: str, text: str) -> bool:
    value = truth(text)
    if value is None:
        raise UserError(f"--{name} takes True or False, not {text!r}")
    return value


# -- kinds of rules ------------------------------------------------------------------------------
def renamed(option: str) -> Rule:
    """The same thing under our name."""
    return lambda value: Ours((f"--{option}", value))


def gone(reason: str) -> Rule:
    """An option that no longer means anything; it says so instead of being ignored."""
    return lambda value: Ours(note=f"no meaning anymore; {reason}")


def switch(name: str, on: Ours, off: Ours) -> Rule:
    """A True/False option that is something else with us."""
    return lambda value: on if _bool(name, value) else off


def _num_channels(value: str) -> Ours:
    """Width of the finest level; the others keep their ratio to it."""
    if not value.isdigit() or int(value) < 8:
        raise UserError(f"--num_channels takes a whole number of 8 or more, not {value!r}")
    default = BackboneConfig().widths
    widths = [max(8, round(int(value) * w / default[0] / 8) * 8) for w in default[1:]]
    return Ours(("--widths", value, *map(str, widths)))


def _respacing(value: str) -> Ours:
    """``ddimN`` and ``N`` of guided-diffusion's respacing."""
    if not value:
        return Ours()
    if match := re.fullmatch(r"ddim(\d+)", value):
        return Ours(("--timesteps", "linear", "--steps", match[1]))
    if value.isdigit():
        return Ours(("--timesteps", "uniform", "--steps", value))
    raise UserError(
        f"--timestep_respacing {value!r}: section counts are gone; give ddimN or N, or take"
        " --timesteps quadratic or geometric with --steps N"
    )


def _save_path(value: str) -> Ours:
    """A folder got ``result.npz``, as it did then; a file name is taken as it is."""
    if not value:
        return Ours()
    folder = not re.search(r"\.\w+$", value)
    return Ours(("--output", f"{value.rstrip('/')}/result.npz" if folder else value))


def _resume_checkpoint(value: str) -> Ours:
    return Ours(("--resume-checkpoint", value)) if value else Ours()


# -- the tables ----------------------------------------------------------------------------------
_BOTH: dict[str, Rule] = {
    "learn_sigma": gone("samplers know their variance; the original crashed with it"),
    "sigma_small": gone("--sampler ddpm draws with the posterior's variance, ddpm-large with beta"),
    "use_kl": gone("the loss is the squared error, which is what the paper trains"),
    "rescale_timesteps": gone("the network gets the level as it is"),
    "rescale_learned_sigmas": gone("no variance is learned"),
    "use_checkpoint": gone("the network fits in memory; --microbatch saves more"),
    "num_heads_upsample": gone("all levels have --num-heads"),
    "emb_channels": gone("the embedding is four times as wide as the finest level"),
    "out_channels": gone("it follows from --pens"),
}

TRAIN: dict[str, Rule] = _BOTH | {
    "image_size": renamed("points"),
    "num_channels": _num_channels,
    "attention_resolutions": gone(
        "it never reached a level but the deepest; --attention-levels counts from the finest"
    ),
    "class_cond": gone("every model learns its classes, and to do without; see --label-dropout"),
    "predict_xstart": switch(
        "predict_xstart",
        on=Ours(("--parametrization", "x0")),
        off=Ours(("--parametrization", "eps")),
    ),
    "use_fp16": switch(
        "use_fp16", on=Ours(("--precision", "float16")), off=Ours(("--precision", "float32"))
    ),
    "timestep_respacing": gone("training sees every level; --timesteps picks them when sampling"),
    "resume_checkpoint": _resume_checkpoint,
}

_KNOWN = gone("the checkpoint knows how its model was built")
_MODEL = (
    "image_size num_channels num_res_blocks num_heads attention_resolutions dropout"
    " diffusion_steps noise_schedule predict_xstart use_scale_shift_norm use_fp16"
)
SAMPLE: dict[str, Rule] = (
    _BOTH
    | {name: _KNOWN for name in (*_MODEL.split(), "emb_channels", "out_channels")}
    | {
        "class_cond": gone("name a CLASS to draw it; without one the usual classes are mixed"),
        "category": lambda value: Ours((value,)),
        "log_dir": gone("sampling keeps no log"),
        "use_ddim": switch(
            "use_ddim", on=Ours(("--sampler", "ddim")), off=Ours(("--sampler", "ddpm"))
        ),
        "timestep_respacing": _respacing,
        "save_path": _save_path,
        "clip_denoised": switch(
            "clip_denoised",
            on=Ours(("--clip", "1"), "stunts strokes longer than one unit; drawings do without"),
            off=Ours(),
        ),
        "model_path": lambda value: Ours(("--model-path", value)) if value else Ours(),
        "pen_break": lambda value: Ours(("--pen-break", "None" if value == "auto" else value)),
    }
)


# -- rewriting -----------------------------------------------------------------------------------
def rewrite(
    argv: Sequence[str], rules: Mapping[str, Rule], flags: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Our words for a command line in any of the old spellings.

    ``--some_name``, ``--some-name`` and ``--some-name=value`` are one; our own True/False options
    (``flags``) may be followed by their value (``--resume True``) or not.

    Args:
        argv: words after the verb.
        rules: original name -> what becomes of it.
        flags: names of our own True/False options, with underscores.

    Returns:
        Our words, and notes for the person, one line each.

    Raises:
        UserError: a value is missing or cannot be what it is given for.
    """
    words, out, notes = deque(argv), [], dict[str, list[str]]()
    known = set(flags)
    while words:
        word = words.popleft()
        if not word.startswith("--") or word == "--":
            out.append(word)
            continue
        spelled, equals, value = word[2:].partition("=")
        name = spelled.replace("-", "_")
        if name in rules:
            if not equals:
                if not words or _is_option(words[0]):
                    raise UserError(f"--{spelled} needs a value")
                value = words.popleft()
            ours = rules[name](value)
            out += ours.args
            if ours.note:
                notes.setdefault(ours.note, []).append(f"--{spelled} {value}".strip())
        elif name in known:
            if not equals and words and truth(words[0]) is not None:
                value, equals = words.popleft(), "="
            on = _bool(spelled, value) if equals else True
            out.append(f"--{'' if on else 'no-'}{name.replace('_', '-')}")
        else:
            out.append(word)
    return out, [f"{', '.join(names)}: {reason}" for reason, names in notes.items()]


def _is_option(word: str) -> bool:
    return bool(re.match(r"--?[A-Za-z]", word))


def apply(argv: Sequence[str], rules: Mapping[str, Rule], flags: Iterable[str]) -> list[str]:
    """:func:`rewrite`, with the notes on stderr."""
    out, notes = rewrite(argv, rules, flags)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return out


def flags_of(*records: type) -> set[str]:
    """Names of the True/False options of dataclasses."""
    from dataclasses import fields

    return {f.name for record in records for f in fields(record) if isinstance(f.default, bool)}
