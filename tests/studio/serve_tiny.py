"""A studio with the small model, as a process of its own: ``python serve_tiny.py PORT``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sketchknitter.editing.model import SketchKnitter
from sketchknitter.studio import server
from tiny_model import tiny

VERBS = ("endings", "heal", "vary", "interpolate")


def quick() -> SketchKnitter:
    """The small model; its edits take four steps."""
    model = tiny()
    for verb in VERBS:
        setattr(model, verb, partial(getattr(model, verb), steps=4))
    return model


if __name__ == "__main__":
    server.run(quick, port=int(sys.argv[1]), threads=1, browser=False)
