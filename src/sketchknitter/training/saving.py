"""What products of a run do alike when they are saved: losses, words for them, a preview."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sketchknitter import io
from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch

MEASURED_ON = {"train_loss": "training drawings", "valid_loss": "held-out ones"}


def finite(losses: Mapping[str, float]) -> dict[str, float]:
    """Losses as they are kept. Where nothing is held out the loss is not a number, which no JSON
    file can hold."""
    return {k: round(v, 6) for k, v in losses.items() if math.isfinite(v)}


def loss_words(losses: Mapping[str, float], digits: int = 4) -> str:
    """Losses in words: "loss 0.1234 on training drawings, 0.2345 on held-out ones"."""
    shown = [f"{losses[k]:.{digits}f} on {what}" for k, what in MEASURED_ON.items() if k in losses]
    return f"loss {', '.join(shown)}" if shown else "no loss measured"


def preview(
    folder: Path, iteration: int, draw: Callable[[], Sequence[Sketch]], captions: bool
) -> str:
    """Write ``folder/previews/00001000.png``; returns what to say of it.

    A picture is no reason to lose a run: what goes wrong with it is said, not raised.
    """
    path = folder / "previews" / f"{iteration:08d}.png"
    try:
        path.parent.mkdir(exist_ok=True)
        io.write(draw(), path, captions=captions)
    except (UserError, OSError) as error:
        return f"; no preview ({error})"
    return f"; {path}"
