"""Losses, words and previews of a save."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch
from sketchknitter.training.saving import finite, loss_words, preview

CROSS = Sketch([[[0, 0], [9, 9]], [[0, 9], [9, 0]]], "cross")


def test_losses_are_finite_and_told() -> None:
    losses = finite({"train_loss": 0.12345678, "valid_loss": float("nan")})
    assert losses == {"train_loss": 0.123457}
    assert loss_words(losses) == "loss 0.1235 on training drawings"
    both = loss_words({"valid_loss": 0.25, "train_loss": 0.5}, digits=2)
    assert both == "loss 0.50 on training drawings, 0.25 on held-out ones"
    assert loss_words({}) == "no loss measured"


def test_a_preview_is_written(tmp_path: Path) -> None:
    path = tmp_path / "previews" / "00000012.png"
    assert preview(tmp_path, 12, lambda: [CROSS], captions=True) == f"; {path}"
    assert path.stat().st_size > 0


@pytest.mark.parametrize("fault", [UserError("no weights"), OSError("no space left")])
def test_a_preview_that_cannot_be_drawn_is_said(fault: Exception, tmp_path: Path) -> None:
    def draw() -> Sequence[Sketch]:
        raise fault

    assert preview(tmp_path, 12, draw, captions=False) == f"; no preview ({fault})"


def test_a_preview_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "previews").write_text("in the way")
    assert preview(tmp_path, 12, lambda: [CROSS], captions=False).startswith("; no preview (")
