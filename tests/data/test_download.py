"""Downloading from a local server that can break off, change its mind, and lie."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
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
        headers: sent with each answer; one whose value is None is left out.
        drip: send a byte at a time, so many seconds apart.
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
    headers: dict[str, str | None] = field(default_factory=dict)
    drip: float = 0.0
    pause: threading.Event = field(default_factory=threading.Event)
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
            headers = {"Content-Length": str(len(body)), "ETag": state.etag} | state.headers
            for name, value in headers.items():
                if value is not None:
                    self.send_header(name, value)
            if state.md5:
                self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={state.md5}")
            self.end_headers()
            if send and state.drip:
                with contextlib.suppress(OSError):
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        state.pause.wait(state.drip)
            elif send and state.cuts:
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
    state.pause.set()
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


# -- servers that lie ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, "answers with a web page"),
        ({"Content-Encoding": "gzip"}, "sends it gzip-encoded, though asked not to"),
        ({"Content-Length": "many"}, "gives 'many' as a length"),
        ({"Content-Length": "-5"}, "gives '-5' as a length"),
        ({"Content-Length": "9" * 5000}, "gives '999"),
        ({"Content-Length": None}, "does not say how large the file is"),
    ],
)
def test_headers_that_cannot_be(
    bucket: Bucket, tmp_path: Path, headers: dict[str, str | None], message: str
) -> None:
    bucket.headers = headers
    with pytest.raises(UserError, match=message):
        fetch(bucket, tmp_path)
    assert not (tmp_path / "alarm clock.ndjson").exists()


def test_a_page_without_its_type_is_no_drawing(bucket: Bucket, tmp_path: Path) -> None:
    bucket.body = b"\n <!DOCTYPE html><html>please log in</html>"
    with pytest.raises(UserError, match="a web page or XML, not drawings; nothing was kept"):
        fetch(bucket, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_cut_in_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading.time, "sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def cut_off() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")
                    connection.close()

        threading.Thread(target=cut_off, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UserError, match=r"does not say how large|connection"):
            download(["cat"], tmp_path, base_url=url, progress=False)
        listener.close()
    assert not (tmp_path / "cat.ndjson").exists()


def test_a_trickle_is_given_up(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "_PATIENCE", 0.2)
    bucket.drip = 0.02
    with pytest.raises(UserError, match=r"sends no more than [0-9]+ bytes a second"):
        fetch(bucket, tmp_path)
    assert not (tmp_path / "alarm clock.ndjson").exists()


def test_official_files_are_known_beforehand(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = downloading.official_files()
    assert len(files) == 3 * 345
    assert all(size > 1_000_000 and len(md5) == 32 for size, md5 in files.values())
    # as if the server were the official one
    monkeypatch.setattr(downloading, "BASE_URL", bucket.url)
    size, path = len(BODY), "simplified/alarm clock.ndjson"
    right = hashlib.md5(BODY).hexdigest()
    known = {path: (size, right)}
    monkeypatch.setattr(downloading, "official_files", lambda: known)
    bucket.headers = {"Content-Length": None}  # we know it ourselves
    assert fetch(bucket, tmp_path).read_bytes() == BODY
    asked = len(bucket.asked)
    fetch(bucket, tmp_path)
    assert len(bucket.asked) == asked  # not even a question
    bucket.headers = {}
    known[path] = (size, hashlib.md5(b"other").hexdigest())
    with pytest.raises(UserError, match="does not match QuickDraw's size and checksum"):
        fetch(bucket, tmp_path)
    assert (tmp_path / "alarm clock.ndjson").read_bytes() == BODY  # nothing is lost
    known[path] = (size + 1, right)
    with pytest.raises(UserError, match="has 768000 bytes there, and QuickDraw's has 768001"):
        fetch(bucket, tmp_path)
    with pytest.raises(
        UserError, match=r"'alarm clok' is no QuickDraw category; did you mean alarm"
    ):
        download(["alarm clok"], tmp_path, base_url=bucket.url, progress=False)
