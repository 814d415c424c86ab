"""A process of its own that reads one file that somebody dropped on the page.

    python -m sketchknitter.studio.reading FILE

Writes one JSON object: ``drawings`` (strokes and label of each) and ``skipped``, or ``error``. It
has little memory and time, so that no file, however made, can hold the server.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import orjson

from sketchknitter import io
from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch

MEMORY = 1 << 30  # bytes
SECONDS = 10
MOST = 60  # drawings of one file that are offered
MAX_STROKES, MAX_POINTS = 500, 20_000  # as in messages, which would have to be loaded for them


def limit() -> None:
    """Take memory and time from this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def drawings(path: str) -> dict[str, object]:
    """The first drawings of a file; those that are damaged or too large are counted."""
    found: list[dict[str, object]] = []
    skipped = 0
    reason = ""
    for item in islice(io.read_counted(path), 4 * MOST):
        if not isinstance(item, Sketch):
            skipped, reason = skipped + 1, f"{item.position}: {item.reason}"
        elif len(item) > MAX_STROKES or item.num_points > MAX_POINTS:
            skipped += 1
            reason = f"more than {MAX_STROKES} strokes or {MAX_POINTS} points"
        elif item.num_points:
            strokes = [s.round(3).tolist() for s in item.strokes]
            found.append({"strokes": strokes, "label": item.label})
        if len(found) == MOST:
            break
    if not found:
        raise UserError(f"{path} holds no drawing that can be used; {reason or 'it is empty'}")
    return {"drawings": found, "skipped": skipped}


def main() -> None:
    limit()
    path = Path(sys.argv[1])
    try:
        out = drawings(str(path))
    except UserError as error:
        out = {"error": str(error)}
    except MemoryError:
        out = {"error": f"{path} asks for more memory than a drawing needs"}
    except Exception as error:  # whatever a library makes of a damaged file: the page shows it
        out = {"error": f"{path} cannot be read ({type(error).__name__}); is it damaged?"}
    sys.stdout.buffer.write(orjson.dumps(out))


if __name__ == "__main__":
    main()
