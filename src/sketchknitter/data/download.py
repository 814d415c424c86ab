"""Drawings from the public QuickDraw bucket: resumed where they broke off, checked, whole or not.

Size and MD5 of the official files (simplified, raw and binary, 345 categories each) come with the
package (``quickdraw.csv.xz``), so what arrives is compared with what it should be, and not with
what the server says of it; for sketch-rnn archives the server's word has to do.

Data: The Quick, Draw! Dataset, Google, CC BY 4.0 (https://github.com/googlecreativelab/
quickdraw-dataset).
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tqdm import tqdm

from sketchknitter.errors import UserError

BASE_URL = "https://storage.googleapis.com/quickdraw_dataset"
Form = Literal["simplified", "raw", "npz", "bin"]
_PLACES: dict[str, tuple[str, str]] = {  # form -> folder in the bucket, suffix
    "simplified": ("full/simplified", ".ndjson"),
    "raw": ("full/raw", ".ndjson"),
    "npz": ("sketchrnn", ".npz"),
    "bin": ("full/binary", ".bin"),
}
_LIST = "https://github.com/googlecreativelab/quickdraw-dataset/blob/master/categories.txt"
_PIECE = 1 << 18  # bytes
_TRIES = 4
_TIMEOUT = 30.0  # seconds without a byte
_PATIENCE, _LEAST = 30.0, 30_000  # seconds in which so many bytes arrive, or we give up
_OFFICIAL = Path(__file__).with_name("quickdraw.csv.xz")


class _Broken(Exception):
    """The connection failed half-way; what has arrived is kept."""


class _Wrong(Exception):
    """The server sends something else; trying again would not help."""


@dataclass(frozen=True)
class _Remote:
    """What is known of a file: size in bytes, ETag, MD5 in hex; None for what is not known."""

    size: int | None
    etag: str
    md5: str | None


@lru_cache(maxsize=1)
def official_files() -> dict[str, tuple[int, str]]:
    """Size in bytes and MD5 in hex of the bucket's files, by their path below ``full/``."""
    lines = lzma.decompress(_OFFICIAL.read_bytes()).decode().splitlines()[1:]
    rows = (line.rsplit(",", 2) for line in lines)
    return {path: (int(size), md5) for path, size, md5 in rows}


def _official(category: str, form: Form, base_url: str) -> tuple[int, str] | None:
    """What the file is in QuickDraw's own bucket; None where we do not know, and elsewhere.

    Raises:
        UserError: no such category.
    """
    if base_url != BASE_URL:
        return None
    files = official_files()
    names = [Path(p).stem for p in files if p.startswith("simplified/")]
    if category not in names:
        near = get_close_matches(category, names, 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"{_LIST} lists them"
        raise UserError(f"{category!r} is no QuickDraw category; {hint}")
    folder, suffix = _PLACES[form]
    return files.get(f"{folder.removeprefix('full/')}/{category}{suffix}")


def url_of(category: str, form: Form, base_url: str = BASE_URL) -> str:
    """Address of one category's file."""
    folder, suffix = _PLACES[form]
    return f"{base_url.rstrip('/')}/{folder}/{quote(category)}{suffix}"


def download(
    categories: Sequence[str],
    out: str | os.PathLike[str],
    form: Form = "simplified",
    *,
    base_url: str = BASE_URL,
    progress: bool = True,
) -> list[Path]:
    """Fetch one file for each category; one that is there already, in full size, is left alone.

    While a file is on its way it is called ``NAME.part``; a broken download leaves that behind, and
    the next call continues it with a Range request, provided the server's file is still the same.

    Args:
        categories: QuickDraw names (``"cat"``, ``"alarm clock"``).
        out: folder, made if its parent exists.
        form: simplified or raw ndjson, sketch-rnn npz, QuickDraw's bin.
        base_url: another place with the bucket's layout.
        progress: show a bar on stderr.

    Returns:
        The files, in the order of the categories.

    Raises:
        UserError: an unknown category, no connection, a size or checksum that does not match.
    """
    folder = Path(out)
    if not categories:
        raise UserError("name a category: sketchknitter data download --category cat")
    for name in categories:
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"{name!r} is no QuickDraw category; {_LIST} lists them")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}") from None
    suffix = _PLACES[form][1]
    paths = []
    for name in dict.fromkeys(categories):
        path = folder / f"{name}{suffix}"
        _fetch(url_of(name, form, base_url), path, progress, _official(name, form, base_url))
        paths.append(path)
    return paths


def _fetch(url: str, path: Path, progress: bool, official: tuple[int, str] | None) -> None:
    """One file, with a few tries, each continuing the last."""
    wanted = None if official is None else _Remote(official[0], "", official[1])
    if wanted is not None and path.exists() and _sound(path, wanted):
        return
    part = path.with_name(path.name + ".part")
    state = path.with_name(path.name + ".part.json")  # which version of the file the part is of
    reason = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.2 * 4**attempt)
        try:
            if wanted is None and path.exists() and _same_size(url, path):
                return
            remote = _receive(url, part, state, progress, official)
        except _Broken as broken:
            reason = str(broken)
            continue
        except _Wrong as wrong:
            raise UserError(f"{url}: {wrong}; nothing was kept of it") from None
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
        if _sound(part, remote):
            os.replace(part, path)
            state.unlink(missing_ok=True)
            return
        whose = "the server's" if official is None else "QuickDraw's"
        reason = f"what arrived does not match {whose} size and checksum"
        part.unlink()
    raise UserError(f"{url}: {reason}; run the same command again to continue")


def _open(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> HTTPResponse:
    if not url.startswith(("https://", "http://")):
        raise UserError(f"{url}: --base-url begins with https:// or http://")
    try:
        return urlopen(Request(url, headers=headers or {}, method=method), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code in (403, 404):
            raise UserError(
                f"{url}: no such file ({error.code}); is the category spelled as in {_LIST}?"
            ) from None
        if error.code == 416:
            raise
        raise _Broken(f"the server answers {error.code} {error.reason}") from None
    except ValueError as error:  # an address that it redirects to
        raise _Broken(f"the server redirects to what is no address ({error})") from None
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise _Broken(f"no connection ({getattr(error, 'reason', error)})") from None


def _describe(response: HTTPResponse, offset: int) -> _Remote:
    length = response.headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 16):
        raise _Broken(f"the server gives {length[:40]!r} as a length")
    md5 = None
    for value in response.headers.get_all("x-goog-hash") or []:
        for item in value.split(","):
            if item.strip().startswith("md5="):
                md5 = _hex(item.strip()[4:])
    etag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return _Remote(int(length) + offset if length else None, etag, md5)


def _hex(text: str) -> str | None:
    """An MD5 in base64 as hex; None for what is none."""
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == 16 else None


def _check_kind(response: HTTPResponse, remote: _Remote, official: tuple[int, str] | None) -> None:
    """Refuse, by its headers, what is not the file.

    Raises:
        _Wrong: a web page, an encoded body, another size than the official one.
        _Broken: nobody says how large it is, so that nobody could tell whether it is whole.
    """
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _Wrong("the server answers with a web page instead of drawings (a proxy's, perhaps)")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise _Wrong(f"the server sends it {encoding}-encoded, though asked not to")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    if official is not None and remote.size is not None and remote.size != official[0]:
        raise _Wrong(f"the file has {remote.size} bytes there, and QuickDraw's has {official[0]}")
    if official is None and remote.size is None and not chunked:
        raise _Broken("the server does not say how large the file is, so a part could pass for it")


def _same_size(url: str, path: Path) -> bool:
    with _open(url, "HEAD") as response:
        return _describe(response, 0).size == path.stat().st_size


def _receive(
    url: str, part: Path, state: Path, progress: bool, official: tuple[int, str] | None
) -> _Remote:
    """Append what is missing to ``part``; the server's version decides whether that is possible."""
    done = part.stat().st_size if part.exists() else 0
    etag = _known_etag(state) if done else ""
    headers = {"Range": f"bytes={done}-", "If-Range": etag} if etag else {}
    try:
        response = _open(url, headers=headers)
    except HTTPError:  # 416: nothing is left, or the file became shorter
        with _open(url, "HEAD") as head:
            remote = _describe(head, 0)
        if remote.size != done or remote.etag != etag:
            part.unlink()
            raise _Broken("the file changed on the server") from None
        return remote
    with response:
        if response.status != 206:
            done = 0
        remote = _describe(response, done)
        _check_kind(response, remote, official)
        if official is not None:
            remote = _Remote(official[0], remote.etag, official[1])
        piece = _read(response)
        if not done and piece.lstrip()[:1] == b"<":
            raise _Wrong("what arrives is a web page or XML, not drawings")
        state.write_text(json.dumps({"etag": remote.etag}))
        bar = tqdm(
            total=remote.size,
            initial=done,
            unit="B",
            unit_scale=True,
            desc=part.name.removesuffix(".part"),
            disable=not progress,
        )
        pace = _Pace()
        with bar, open(part, "ab" if done else "wb") as f:
            while piece:
                f.write(piece)
                bar.update(len(piece))
                pace.add(len(piece))
                piece = _read(response)
    if remote.size is not None and part.stat().st_size < remote.size:
        raise _Broken(f"the connection broke after {part.stat().st_size} of {remote.size} bytes")
    return remote


class _Pace:
    """Gives up on a server that sends next to nothing."""

    def __init__(self) -> None:
        self.since, self.bytes = time.monotonic(), 0

    def add(self, count: int) -> None:
        """After each piece.

        Raises:
            _Broken: too few bytes for too long.
        """
        self.bytes += count
        now = time.monotonic()
        if now - self.since < _PATIENCE:
            return
        if self.bytes < _LEAST:
            rate = self.bytes / (now - self.since)
            raise _Broken(f"the server sends no more than {rate:.0f} bytes a second")
        self.since, self.bytes = now, 0


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_PIECE)  # what there is: a slow server must be noticed
    except (HTTPException, TimeoutError, ConnectionError) as error:
        raise _Broken(f"the connection broke ({error})") from None


def _known_etag(state: Path) -> str:
    try:
        return str(json.loads(state.read_text())["etag"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _sound(part: Path, remote: _Remote) -> bool:
    if remote.size is not None and part.stat().st_size != remote.size:
        return False
    if remote.md5 is None:
        return True
    with open(part, "rb") as f:
        return hashlib.file_digest(f, "md5").hexdigest() == remote.md5
