"""What all readers and writers share: rejects, size caps, file kinds, class names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path

from sketchknitter.classes import is_seen
from sketchknitter.errors import UserError

AnyPath = str | PathLike[str]

MIB = 1 << 20
MAX_LINE = 16 * MIB  # bytes in one line of ndjson, or in one QuickDraw .bin record
MAX_POINTS = 1_000_000  # points (rows) in one drawing
SPLITS = ("train", "valid", "test")
_MAX_LABEL = 200  # characters of a class name


@dataclass(frozen=True)
class Reject:
    """A drawing that could not be read.

    Args:
        position: where in the file: ``"line 7"``, ``"train[12]"``, ``"record 3"``.
        reason: why, in a few words that are the same for every drawing with the same fault.
    """

    position: str
    reason: str

    def error(self, path: AnyPath) -> UserError:
        """The same fault as an error that names the file."""
        return UserError(
            f"{path}, {self.position}: {self.reason}; repair or remove that drawing"
            " (data prepare skips and counts it)"
        )


class BadDrawing(ValueError):
    """A drawing's fault, raised by parsers and turned into a :class:`Reject` by readers."""


_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a RIFF (WebP, WAV) file"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x93NUMPY", "a NumPy .npy array"),
    (b"\x1f\x8b", "a gzip file: unpack it first"),
    (b"\x80", "a bare pickle"),
    (b"{", "JSON"),
    (b"[", "a JSON list"),
    (b"<", "XML or HTML"),
)


def read_head(path: AnyPath, size: int = 64) -> bytes:
    """The first bytes of a regular file.

    Raises:
        UserError: no such file, a folder, not readable, or empty.
    """
    p = Path(path)
    try:
        if p.is_dir():
            raise UserError(f"{path} is a folder; name a drawing file")
        with open(p, "rb") as f:
            head = f.read(size)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not head:
        raise UserError(f"{path} is an empty file (0 bytes)")
    return head


def kind_of(head: bytes) -> str:
    """What a file looks like by its first bytes, in words."""
    bare = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, name in _MAGIC:
        if head.startswith(magic) or bare.startswith(magic):
            return name
    return "something else"


@lru_cache(maxsize=4096)
def as_label(name: str | None) -> str | None:
    """A class name as it may go into files, terminals and command lines; None for an empty one.

    Line breaks and other white space become single spaces; control characters, unpaired surrogates
    and the marks that turn the direction of text fall out; the rest is cut at 200 characters.
    """
    if name is None:
        return None
    if not (name.isascii() and name.isprintable()):
        name = "".join(c for c in name if c.isspace() or is_seen(c))
    return " ".join(name.split())[:_MAX_LABEL] or None


def no_splits(path: AnyPath, split: str | None) -> None:
    """Refuse a split asked of a format that has none."""
    if split is not None:
        raise UserError(f"{path} has no splits; leave the split ({split!r}) out")


def check_split(path: AnyPath, split: str | None) -> None:
    """Refuse a split whose name is not one of train, valid, test."""
    if split is not None and split not in SPLITS:
        raise UserError(f"{path}: no split {split!r}; one of: {', '.join(SPLITS)}")


def digits_for(extent: float) -> int:
    """Digits after the point that a drawing of this extent (px) needs: 2, more below 10 px."""
    if not 0 < extent < 10:
        return 2
    return min(12, 3 - math.floor(math.log10(extent)))
