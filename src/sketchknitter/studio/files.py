"""Drawings as files: what is dropped on the page, what is taken home."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from sketchknitter import io
from sketchknitter.errors import UserError
from sketchknitter.io.sheet import Sheet
from sketchknitter.studio.messages import Export, Film
from sketchknitter.studio.reading import SECONDS

TYPES = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "gif": "image/gif",
    "ndjson": "application/x-ndjson",
}


async def opened(name: str, data: bytes) -> dict[str, Any]:
    """The drawings of an uploaded file, read by a process of its own (:mod:`reading`).

    Raises:
        UserError: it cannot be read.
    """
    safe = re.sub(r"[^\w .()-]", "_", Path(name).name)[-80:].lstrip(". ") or "drawing"
    with tempfile.TemporaryDirectory(prefix="sketchknitter-") as folder:
        (Path(folder) / safe).write_bytes(data)
        paths = os.pathsep.join(p for p in sys.path if p)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sketchknitter.studio.reading", safe),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), SECONDS + 5)
        except TimeoutError:
            out = b""
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if not out:
        raise UserError(f"{safe} takes more time or memory than a drawing needs; is it damaged?")
    answer = orjson.loads(out)
    if "error" in answer:
        raise UserError(answer["error"])
    return answer


def exported(message: Export) -> bytes:
    """A drawing as a file of the format asked for.

    Raises:
        UserError: it has no extent that could be drawn.
    """
    sketch = message.sketch()
    if message.format == "svg" and message.paper is not None:
        paper = message.paper
        sheet = Sheet(paper.width, paper.height, paper.margin, paper.pen)
        return io.to_svg(sketch, sheet=sheet).encode()
    if message.format == "svg":
        return io.to_svg(sketch, size=message.size, width=message.width).encode()
    options: dict[str, Any] = {}
    if message.format == "png":
        options = {"size": message.size, "width": message.width}
    elif message.format == "gif":
        size = min(message.size, 512)
        options = {"size": size, "width": message.width, "seconds": message.seconds}
    return _written(f"drawing.{message.format}", lambda path: io.write([sketch], path, **options))


def filmed(message: Film) -> bytes:
    """Frames of one drawing as an animated file."""
    pages = [[s] for s in message.sketches()]
    options = {"size": message.size, "seconds": message.seconds, "width": 0.012}
    return _written(f"film.{message.format}", lambda path: io.write_frames(pages, path, **options))


def _written(name: str, write: Callable[[Path], None]) -> bytes:
    """What ``write`` writes to a file of that name."""
    with tempfile.TemporaryDirectory(prefix="sketchknitter-") as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()
