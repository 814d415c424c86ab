"""Files written whole or not at all, and what a killed process leaves of them swept away.

A file on its way is called ``.sketchknitter-<random>.tmp`` and stands in the folder of its target,
so that the last step is a rename. Its name cannot be guessed, it is made with ``O_EXCL`` and
``O_NOFOLLOW``, so that nobody can put a link in its place, and its writer holds a lock on it: one
without a lock belongs to a process that died.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sketchknitter.errors import UserError

try:
    import fcntl
except ImportError:  # no such locks: age alone tells
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor

AnyPath = str | os.PathLike[str]
WEIGHTS = Path(__file__).parent / "weights"  # what is shipped
# what a training leaves in its folder: the model, what a resume needs, a line for every few updates
MODEL, STATE, LOG = "model.safetensors", "state.safetensors", "log.jsonl"
FORMAT = 1  # of our .safetensors files
KEY = "sketchknitter"  # of the JSON in their header

PREFIX, SUFFIX = ".sketchknitter-", ".tmp"
OLD = ".old"  # of a folder that is about to be replaced: ``.<its name>.<random>.old``
_DISPLACED = re.compile(r"\.(.+)\.[0-9a-f]{16}\.old", re.DOTALL)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a full disk, quota or limit answers
_YOUNG = 60.0  # seconds in which a file may still wait for its lock
_OLD = 86_400.0  # seconds after which a file that cannot be locked is nobody's, either
_LOCK, _KEY = "lock", "key"  # inside a folder on its way
_KEPT = 30 * 86_400.0  # seconds in which one with a key may be taken up again
_swept: set[str] = set()


def full_disk(error: OSError) -> UserError | None:
    """The error to show when there is no room left; None for any other fault."""
    if error.errno not in FULL:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return UserError(f"{where}no room left on the disk ({error.strerror}); free some, then go on")


@contextmanager
def atomic(path: AnyPath, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """A binary file that takes the name ``path`` only when the block ends well.

    Args:
        path: the file to make or replace; its folder must exist.
        durable: survive a power cut too (``fsync``).

    Raises:
        UserError: the folder is missing or cannot be written, ``path`` is a folder, or there is no
            room left.
    """
    target = Path(path)
    sweep(target.parent)
    aside = target.parent / _fresh_name()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        fd = os.open(aside, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}: {target.parent};"
            " name a folder that exists and is yours"
        ) from None
    try:
        with os.fdopen(fd, "wb") as f:
            _lock(f.fileno())
            yield f
            f.flush()
            if durable:
                os.fsync(f.fileno())
            if os.name != "nt":
                os.replace(aside, target)  # before the lock falls
        if os.name == "nt":
            os.replace(aside, target)
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a file") from None
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"{path} cannot be written: no room left on the disk ({error.strerror});"
                " nothing was changed"
            ) from None
        raise
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: AnyPath, key: str = "") -> Iterator[Path]:
    """A folder that takes the name ``path`` when the block ends well.

    A folder in the way is replaced as a whole and removed only afterwards.

    Args:
        path: the folder to make.
        key: of what is made; where a process died making the same, its folder is taken up again as
            it was left, else the folder is empty. Without a key it always is.

    Raises:
        UserError: it cannot be written, or there is no room left.
    """
    target = Path(path)
    aside, held = _left_of(target.parent, key) if key else (None, None)
    sweep(target.parent)
    aside = aside or target.parent / _fresh_name()
    try:
        if held is None:
            aside.mkdir()
            held = open(aside / _LOCK, "xb")  # noqa: SIM115 - held over the block
            _lock(held.fileno())
            if key:
                (aside / _KEY).write_text(key)
        yield aside
        for name in (_LOCK, _KEY):
            (aside / name).unlink(missing_ok=True)
        _swap(aside, target)
    except OSError as error:
        full = "no room left on the disk: " if error.errno in FULL else ""
        raise UserError(f"{path} cannot be written: {full}{error.strerror or error}") from None
    finally:
        if held is not None:
            held.close()
        shutil.rmtree(aside, ignore_errors=True)


def _left_of(folder: Path, key: str) -> tuple[Path | None, IO[bytes] | None]:
    """A folder that a dead process left on its way to what has this key, and our lock on it."""
    if fcntl is None:
        return None, None
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):  # such as a lock that a living process holds
                if not (entry.name.startswith(PREFIX) and entry.name.endswith(SUFFIX)):
                    continue
                state = entry.stat(follow_symlinks=False)
                if not entry.is_dir(follow_symlinks=False) or state.st_uid != os.getuid():
                    continue
                if Path(entry.path, _KEY).read_text() != key:
                    continue
                fd = os.open(Path(entry.path, _LOCK), os.O_RDWR | os.O_NOFOLLOW)
                held = os.fdopen(fd, "rb+")
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    held.close()
                    raise
                return Path(entry.path), held
    return None, None


def sweep(folder: AnyPath) -> None:
    """Remove what dead processes left on its way in ``folder``; once for each process and folder.

    What a living process holds a lock on stays, and so does what cannot be removed.
    """
    place = os.path.realpath(folder)
    if place in _swept:
        return
    _swept.add(place)
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith(PREFIX) and entry.name.endswith(SUFFIX):
                    _remove_if_dead(entry)
                elif match := _DISPLACED.fullmatch(entry.name):
                    _settle(entry, Path(place, match[1]))


def _settle(entry: os.DirEntry[str], target: Path) -> None:
    """A folder that was moved out of the way, and then its process died."""
    if time.time() - entry.stat(follow_symlinks=False).st_ctime < _YOUNG:
        return
    if target.exists():
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        os.replace(entry.path, target)


def _remove_if_dead(entry: os.DirEntry[str]) -> None:
    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
    if entry.is_symlink() or age < _YOUNG:
        return
    is_folder = entry.is_dir(follow_symlinks=False)
    if is_folder and age < _KEPT and Path(entry.path, _KEY).exists():
        return
    lock = Path(entry.path, _LOCK) if is_folder else Path(entry.path)
    if lock.exists() and _is_held(lock, age):
        return
    if is_folder:
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        os.unlink(entry.path)


def _is_held(path: Path, age: float) -> bool:
    if fcntl is None:
        return age < _OLD
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return age < _OLD
    finally:
        os.close(fd)
    return False


def _fresh_name() -> str:
    return f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"


def _lock(fd: int) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _swap(folder: Path, target: Path) -> None:
    """Rename over nothing, an empty folder, or another one."""
    if not target.exists() or not any(target.iterdir()):
        os.replace(folder, target)
        return
    # between the two renames a kill leaves no target; the next sweep then puts the old one back
    old = target.parent / f".{target.name}.{secrets.token_hex(8)}{OLD}"
    os.replace(target, old)
    try:
        os.replace(folder, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


# -- headers ------------------------------------------------------------------------------------
# what code trips over when a header has something else where it looks for a number, name or table
_MISFITS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError and torch's own among them
    TypeError,
    ValueError,
)


@contextmanager
def described_by(path: AnyPath, what: str = "its header") -> Iterator[None]:
    """What is built from the header of a file: one that makes no sense is the file's fault.

    Args:
        path: the file.
        what: the part of it that describes what is built.

    Raises:
        UserError: whatever went wrong inside for the values of the header; those that say so
            already pass as they are.
    """
    try:
        yield
    except _MISFITS as error:
        lines = str(error).strip().splitlines()
        why = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
        raise UserError(f"{path}: {what} is damaged ({why})") from None


# -- tensors ------------------------------------------------------------------------------------
def write_tensors(path: AnyPath, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header, aside first, then renamed into place."""
    from safetensors.torch import save  # here, for torch takes seconds to import

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data = save(
        {k: v.detach().contiguous().cpu() for k, v in tensors.items()},
        metadata={KEY: json.dumps(header)},
    )
    with atomic(target, durable=True) as file:
        file.write(data)


def read_tensors(path: AnyPath) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON header of a file written by :func:`write_tensors`, of this version or older.

    Raises:
        UserError: as :func:`read_archive`, or another kind of file, or a newer version.
    """
    tensors, header = read_archive(path)
    form = header.get("format", 0)
    if not isinstance(form, int):
        raise UserError(f"{path}: another kind of file ({form!r})")
    if form > FORMAT:
        raise UserError(
            f"{path}: written by a newer version (format {form}, this one reads up to {FORMAT}); "
            "upgrade sketchknitter"
        )
    return tensors, header


def read_archive(path: AnyPath) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON header of any file written by :func:`write_tensors`. Runs no code.

    Raises:
        UserError: no such file, not a safetensors file, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with described_by(path), safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise UserError(f"{path}: a safetensors file, but not one of sketchknitter's")
            try:
                header = json.loads(metadata[KEY])
            except json.JSONDecodeError as error:
                raise SafetensorError(f"its header is no JSON: {error}") from None
            if not isinstance(header, dict):
                raise SafetensorError("its header is no JSON object")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable .safetensors file ({error})") from None
    return tensors, header
