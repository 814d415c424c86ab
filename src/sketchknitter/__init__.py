"""Vector sketches drawn, completed and healed by a diffusion model over pen strokes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.editing.training import finetune, train
    from sketchknitter.errors import UserError
    from sketchknitter.io import read, write
    from sketchknitter.reports.measure import evaluate
    from sketchknitter.settings import Settings
    from sketchknitter.sketch import Sketch

__all__ = [
    "Settings",
    "Sketch",
    "SketchKnitter",
    "UserError",
    "evaluate",
    "finetune",
    "read",
    "train",
    "write",
]
__version__ = "0.1.0"

# name -> its module; loaded when it is asked for, since torch takes two seconds to import
_HOME = {
    "Settings": "settings",
    "Sketch": "sketch",
    "SketchKnitter": "editing.model",
    "UserError": "errors",
    "evaluate": "reports.measure",
    "finetune": "editing.training",
    "read": "io",
    "train": "editing.training",
    "write": "io",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
