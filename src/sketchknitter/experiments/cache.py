"""Finished work on disk, each part under a hash of everything it depends on.

A part is a folder ``<what>-<digest>`` with ``key.json`` (what the digest was taken of), whatever
the work leaves behind, and, written last, ``done.json``: without it the part is unfinished, and its
worker goes on from what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sketchknitter.errors import UserError
from sketchknitter.files import atomic

try:
    import fcntl
except ImportError:  # no such locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """A cache held by one run; the system lets go of it when the process ends.

    Raises:
        UserError: another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another run works there; wait for it, or name another folder"
                ) from None
            except OSError:  # a file system without locks
                pass
        yield


@dataclass(frozen=True)
class Part:
    """One piece of work.

    Attributes:
        folder: its own.
        digest: of its key; parts that build on it put this into theirs.
        key: everything it depends on, as JSON.
    """

    folder: Path
    digest: str
    key: dict[str, Any] = field(default_factory=dict, compare=False)

    def begin(self) -> Path:
        """Make the folder, with the key in it, if it is not there; returns it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / "key.json"
        if not note.exists():
            with atomic(note) as f:
                f.write(json.dumps(self.key, indent=1, ensure_ascii=False).encode())
        return self.folder

    @property
    def done(self) -> bool:
        return (self.folder / "done.json").exists()

    @property
    def record(self) -> dict[str, Any]:
        """What :meth:`finish` was given.

        Raises:
            UserError: unfinished, or the file is damaged.
        """
        path = self.folder / "done.json"
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {error}; remove the folder and run again") from None

    def finish(self, record: dict[str, Any]) -> None:
        """Mark as done; ``record`` is JSON."""
        self.begin()
        with atomic(self.folder / "done.json") as f:
            f.write(json.dumps(record, indent=1, allow_nan=False).encode())


def digest(key: Any) -> str:
    """16 hex digits of the sha256 of a JSON value, whatever the order of its names."""
    text = json.dumps(key, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cache:
    """All parts of the tables that write to one folder."""

    folder: Path

    def part(self, what: str, key: dict[str, Any]) -> Part:
        """The part of this key, begun or not."""
        name = digest([what, key])
        return Part(self.folder / f"{what}-{name}", name, key)
