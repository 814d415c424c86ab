"""Downloading from a local server that can break off, change its mind, and lie."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sketchknitter.data import download as downloading
from sketchknitter.data.download import download, url_of
from sketchknitter.errors import UserError

BODY = bytes(range(256)) * 3000


@dataclass
class Bucket:
    """A server with one file, and what it was asked for.

    Attributes:
        cut: bytes after which each answer breaks off.
        cuts: how many answers do.
        md5: checksum that it claims, base64.
        asked: (method, path, Range) of all requests.
    """

    url: str = ""
    body: bytes = BODY
    path: str = "/full/simplified/alarm%20clock.ndjson"
    etag: str = '"one"'
    cut: int = 300_000
    cuts: int = 0
    md5: str = ""
    ranges: bool = True
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    state = Bucket()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(send=False)

        def do_GET(self) -> None:
            self.answer(send=True)

        def answer(self, send: bool) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.command, self.path, wanted))
            if self.path != state.path:
                self.send_error(404)
                return
            same = self.headers.get("If-Range") == state.etag
            start = int(wanted[6:-1]) if wanted and same and state.ranges else 0
            if start and start >= len(state.body):
                self.send_error(416)
                return
            body = state.body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", state.etag)
            if state.md5:
                self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={state.md5}")
            self.end_headers()
            if send and state.cuts:
                state.cuts -= 1
                self.wfile.write(body[: state.cut])
            elif send:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(downloading.time, "sleep", lambda seconds: None)
    yield state
    server.shutdown()
    server.server_close()


def fetch(bucket: Bucket, folder: Path) -> Path:
    (path,) = download(["alarm clock"], folder, base_url=bucket.url, progress=False)
    return path


def ranges(bucket: Bucket) -> list[str | None]:
    return [r for method, _, r in bucket.asked if method == "GET"]


def test_addresses_are_those_of_the_bucket() -> None:
    base = "https://storage.googleapis.com/quickdraw_dataset"
    assert url_of("cat", "simplified") == f"{base}/full/simplified/cat.ndjson"
    assert url_of("alarm clock", "raw") == f"{base}/full/raw/alarm%20clock.ndjson"
    assert url_of("cat", "npz") == f"{base}/sketchrnn/cat.npz"
    assert url_of("cat", "bin") == f"{base}/full/binary/cat.bin"


def test_a_file_arrives_whole_and_is_not_fetched_twice(bucket: Bucket, tmp_path: Path) -> None:
    path = fetch(bucket, tmp_path / "new")
    assert path == tmp_path / "new" / "alarm clock.ndjson"
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    fetch(bucket, tmp_path / "new")
    assert len(ranges(bucket)) == 1
    path.write_bytes(b"something shorter")
    assert fetch(bucket, tmp_path / "new").read_bytes() == BODY


def test_a_broken_connection_is_continued(bucket: Bucket, tmp_path: Path) -> None:
    bucket.cuts = 2
    assert fetch(bucket, tmp_path).read_bytes() == BODY
    assert ranges(bucket) == [None, "bytes=300000-", "bytes=600000-"]


def test_the_next_call_continues_too(bucket: Bucket, tmp_path: Path) -> None:
    bucket.cuts, bucket.cut = 4, 100_000
    with pytest.raises(UserError, match=r"broke after 400000 of 768000 bytes.*to continue"):
        fetch(bucket, tmp_path)
    assert not (tmp_path / "alarm clock.ndjson").exists()
    assert fetch(bucket, tmp_path).read_bytes() == BODY
    assert ranges(bucket)[-1] == "bytes=400000-"


def test_a_changed_file_starts_again(bucket: Bucket, tmp_path: Path) -> None:
    bucket.cuts, bucket.cut = 4, 100_000
    with pytest.raises(UserError):
        fetch(bucket, tmp_path)
    bucket.body, bucket.etag = BODY[::-1], '"two"'
    assert fetch(bucket, tmp_path).read_bytes() == BODY[::-1]


def test_a_server_without_ranges_starts_again(bucket: Bucket, tmp_path: Path) -> None:
    bucket.cuts, bucket.ranges = 1, False
    assert fetch(bucket, tmp_path).read_bytes() == BODY


def test_a_complete_part_is_taken(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "alarm clock.ndjson.part").write_bytes(BODY)
    (tmp_path / "alarm clock.ndjson.part.json").write_text('{"etag": "\\"one\\""}')
    assert fetch(bucket, tmp_path).read_bytes() == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["alarm clock.ndjson"]


def test_the_checksum_counts(bucket: Bucket, tmp_path: Path) -> None:
    bucket.md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    assert fetch(bucket, tmp_path / "a").read_bytes() == BODY
    bucket.md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with pytest.raises(UserError, match="size and checksum"):
        fetch(bucket, tmp_path / "b")
    assert not (tmp_path / "b" / "alarm clock.ndjson").exists()


def test_what_is_not_there_is_one_line(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"caat\.ndjson: no such file \(404\).*categories\.txt"):
        download(["caat"], tmp_path, base_url=bucket.url, progress=False)
    with pytest.raises(UserError, match="no connection"):
        download(["cat"], tmp_path, base_url="http://127.0.0.1:9", progress=False)
    for bad in ("../etc", "", ".x"):
        with pytest.raises(UserError, match="no QuickDraw category"):
            download([bad], tmp_path, progress=False)
    with pytest.raises(UserError, match="https://"):
        download(["cat"], tmp_path, base_url="file:///etc", progress=False)
    assert list(tmp_path.iterdir()) == []
