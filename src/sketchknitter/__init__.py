"""Vector sketches drawn, completed and healed by a diffusion model over pen strokes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch

if TYPE_CHECKING:
    from sketchknitter.editing.model import SketchKnitter

__all__ = ["Sketch", "SketchKnitter", "UserError", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes two seconds to import; people who only read files should not wait for it
    if name == "SketchKnitter":
        from sketchknitter.editing.model import SketchKnitter

        return SketchKnitter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
