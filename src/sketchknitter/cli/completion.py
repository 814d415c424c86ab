"""``sketchknitter completion``: what a shell needs to complete verbs and options with Tab."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any, Union

import tyro

from sketchknitter.errors import UserError

DESCRIPTION = """Print a script that completes verbs and options with Tab.

examples:
  sketchknitter completion bash > ~/.local/share/bash-completion/completions/sketchknitter
  sketchknitter completion zsh > ~/.zfunc/_sketchknitter      # a folder of your $fpath
  sketchknitter completion fish > ~/.config/fish/completions/sketchknitter.fish"""

SHELLS = ("bash", "zsh", "fish", "tcsh")

# verb -> (module, what holds its options)
OPTIONS = {
    "data": ("data", "Command"),
    "train": ("train", "Train"),
    "sample": ("sample", "Sample"),
    "complete": ("complete", "Complete"),
    "heal": ("heal", "Heal"),
    "vary": ("vary", "Vary"),
    "interpolate": ("interpolate", "Interpolate"),
    "studio": ("studio", "StudioOptions"),
    "explain": ("explain", "Explain"),
    "evaluate": ("evaluate", "Evaluate"),
    "evaluate-condition": ("evaluate_condition", "EvaluateCondition"),
    "table": ("table", "Table"),
    "export": ("export", "Export"),
}


def _all() -> Any:
    """One type whose subcommands are the verbs."""
    kinds = []
    for verb, (module, name) in OPTIONS.items():
        kind = getattr(import_module(f"sketchknitter.cli.{module}"), name)
        if verb == "data":  # verbs of its own: they need something around them
            kind = _nested(kind)
        kinds.append(Annotated[kind, tyro.conf.subcommand(verb)])
    return Union[tuple(kinds)]  # noqa: UP007, as many as there are


def _nested(union: Any) -> Any:
    def data(command: Any) -> None: ...

    data.__annotations__["command"] = union
    return data


def run(argv: list[str]) -> None:
    """Print the completion script of the shell that ``argv`` names."""
    if argv and argv[0] in ("-h", "--help"):
        print(DESCRIPTION)
        return
    if len(argv) != 1 or argv[0] not in SHELLS:
        raise UserError(f"name a shell: sketchknitter completion {'|'.join(SHELLS)}")
    try:
        tyro.cli(
            _all(),
            prog="sketchknitter",
            args=["--tyro-write-completion", argv[0], "-"],
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
    except SystemExit as stop:  # tyro leaves as soon as it has printed
        if stop.code:
            sys.exit(stop.code)
