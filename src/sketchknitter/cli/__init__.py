"""The ``sketchknitter`` command: a skin over the library, one module for each verb."""

from __future__ import annotations

import sys
from importlib import import_module

from sketchknitter.cli.process import wait_asleep
from sketchknitter.errors import SettingError, UserError

# verb -> (module, what it does); the module has ``run(argv: list[str]) -> None``
VERBS = {
    "data": (
        "data",
        "prepare | info | view | download | trace: drawing files, training sets",
    ),
    "train": ("train", "train a model, with progress, previews and exact resume"),
    "sample": ("sample", "draw new sketches: .svg .png .gif .npz .ndjson, by suffix"),
    "complete": ("complete", "finish an unfinished drawing; what was drawn stays"),
    "heal": ("heal", "redraw a clumsy drawing; it stays itself"),
    "vary": ("vary", "variations of one drawing"),
    "interpolate": ("interpolate", "the drawings between two drawings"),
    "studio": ("studio", "draw in the browser; the model answers while you draw"),
    "explain": ("explain", "shortcut: the method's evidence, as a figure"),
    "evaluate": ("evaluate", "FID, KID, IS, precision, recall, Geometry Score, recognition"),
    "evaluate-condition": ("evaluate_condition", "healing and completion, measured"),
    "table": ("table", "the results table, every system, one command"),
    "export": ("export", "the network as an ONNX file, for other languages"),
    "completion": ("completion", "bash | zsh | fish | tcsh: complete options with Tab"),
}

EXAMPLES = """examples:
  sketchknitter sample cat -n 25 -o cats.svg
  sketchknitter sample -n 100 --seed 7 -o page.png
  sketchknitter data prepare drawings/*.ndjson -o prepared
  sketchknitter train --data-dir prepared --log-dir runs/mine
  sketchknitter evaluate cats.npz --against prepared --split test"""


def _usage() -> str:
    lines = [f"  {verb:<20}{what}" for verb, (_, what) in VERBS.items()]
    usage = "usage: sketchknitter VERB …   (sketchknitter VERB --help for its options)"
    return "\n".join([usage, "", *lines, "", EXAMPLES])


def main(argv: list[str] | None = None) -> None:
    """Run one verb. Exit status: 0 done, 2 bad input (one line on stderr), 130 Ctrl-C."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage())
        return
    if args[0] == "--version":
        from sketchknitter import __version__

        print(f"sketchknitter {__version__}")
        return
    if args[0] not in VERBS:
        print(f"error: no verb {args[0]!r}; one of: {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(2)
    wait_asleep()
    try:
        import_module(f"sketchknitter.cli.{VERBS[args[0]][0]}").run(args[1:])
    except UserError as error:
        from sketchknitter.classes import visible

        print(f"error: {visible(typed(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        from sketchknitter.files import full_disk  # here: it takes a while to import

        if (full := full_disk(error)) is None:
            raise
        print(f"error: {full}", file=sys.stderr)
        sys.exit(2)


# settings of the library that the command spells otherwise than --name-with-dashes
_SPELLED = {"n": "-n", "label": "CLASS"}


def typed(error: UserError) -> str:
    """An error's message with settings named as they are typed."""
    if not isinstance(error, SettingError):
        return str(error)
    option = _SPELLED.get(error.setting) or f"--{error.setting.replace('_', '-')}"
    return f"{option} {error.problem}"
