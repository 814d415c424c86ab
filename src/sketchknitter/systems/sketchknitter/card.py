"""The model card that goes to the hub with a model: what it draws, and how it was made."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint

HEAD = """---
library_name: sketchknitter
tags:
- sketch
- vector-graphics
- diffusion
---
"""
USE = """```python
from sketchknitter import Sketch, SketchKnitter

model = SketchKnitter.from_pretrained("{name}")
drawings = model.sample(n=9, seed=0)
drawings[0].save("drawing.svg")
model.complete(Sketch.open("half.svg"), n=6)
```
"""
_SPECIAL = re.compile(r"[\\`*_{}\[\]()<>#|~!&]")


def card(checkpoint: Checkpoint, name: str) -> str:
    """The README of a hub repository.

    Args:
        checkpoint: the model.
        name: of the repository, ``owner/name``.
    """
    config, record = checkpoint.config, checkpoint.record
    size = sum(w.numel() for w in checkpoint.weights.values())
    classes = ", ".join(map(_plain, config.classes)) or "none: it draws without a label"
    facts = "\n".join(f"| {what} | {value} |" for what, value in _facts(record))
    codec = config.codec
    return f"""{HEAD}
# {_plain(name.split("/")[-1])}

A diffusion model of [sketchknitter](https://pypi.org/project/sketchknitter/) that draws vector
sketches: strokes, not pixels. {size / 1e6:.2f} M parameters, drawings of up to {codec.max_rows}
points, representation `{codec.representation}`.

{USE.format(name=name)}
Classes ({len(config.classes)}): {classes}.

| how it was made | |
|---|---|
{facts}

Nothing here says how well it draws: `sketchknitter evaluate` measures drawings against real ones.
"""


def _facts(record: dict[str, object]) -> Iterator[tuple[str, str]]:
    """What the checkpoint knows of its training; paths and commands stay at home."""
    named = {
        "data_name": "data",
        "drawings": "training drawings",
        "updates": "updates",
        "batch_size": "drawings in an update",
        "seconds": "seconds of training",
        "device": "device",
        "sha256": "sha256 of the weights",
    }
    for key, what in named.items():
        if key in record:
            yield what, _plain(str(record[key]))
    losses = record.get("losses")
    if isinstance(losses, dict):
        for key, what in (("train_loss", "training"), ("valid_loss", "held-out")):
            if key in losses:
                yield f"loss on {what} drawings", _plain(str(losses[key]))


def _plain(text: str) -> str:
    """Text that Markdown and HTML show as it stands."""
    return _SPECIAL.sub(lambda m: f"&#{ord(m[0])};", " ".join(text.split()))
