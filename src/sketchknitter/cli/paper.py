"""Options of every verb that writes a page: the paper and the pen of a plotter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sketchknitter.errors import UserError


@dataclass(frozen=True)
class Paper:
    """A sheet for a pen plotter (.svg only): in mm, with the lifted pen's way made short."""

    paper: str | None = None
    """A6 … A1, letter, legal, tabloid, or WxH in mm (200x300, 8inx10in)"""
    landscape: bool = False
    """the paper's longer side lies across"""
    margin: float | None = None
    """mm of paper kept free on each side (10)"""
    pen_width: float | None = None
    """mm, of the line that the pen draws (0.3)"""
    layers: bool = False
    """an Inkscape layer for each class, for a pen of its own"""

    def options(self, output: str) -> dict[str, Any]:
        """What ``io.write`` needs: nothing, or the sheet.

        Args:
            output: the file that is going to be written.

        Raises:
            UserError: no such paper, no room on it, a file that is no .svg, or mm without paper.
        """
        from sketchknitter.io.sheet import Sheet

        sizes = {"margin": self.margin, "pen_width": self.pen_width}
        given = {name: value for name, value in sizes.items() if value is not None}
        if self.paper is None:
            flags = [name for name in ("landscape", "layers") if getattr(self, name)]
            if asked := [*given, *flags]:
                raise UserError(f"--{asked[0].replace('_', '-')} needs paper, such as --paper A4")
            return {}
        if Path(output).suffix.lower() != ".svg":
            raise UserError(f"--paper writes .svg, not {Path(output).suffix or 'no suffix'}")
        return {"sheet": Sheet.named(self.paper, self.landscape, layers=self.layers, **given)}
