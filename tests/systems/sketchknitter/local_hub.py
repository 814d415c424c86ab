"""A hub on this machine: the part of its protocol that pushing and pulling a model needs.

Endpoints as https://huggingface.co/docs/hub/api and the client's own requests name them:
repositories are made, large files go the way of Git LFS (batch, upload), small ones into the commit
itself, and ``resolve`` answers with commit and etag.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """What was pushed.

    Attributes:
        repos: repository to file name to content.
        commits: how many commits each has.
        tokens: that requests came with.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, int] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.refuse = ""  # said to who pushes

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *unused: object) -> None:
        pass

    def _answer(self, body: Any = None, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path == "/":
            return self._answer()
        name, _, file = self.path.lstrip("/").partition("/resolve/main/")
        files = self.server.repos.get(name)
        if files is None:
            return self._answer(status=404, X_Error_Code="RepoNotFound")
        if file not in files:
            return self._answer(status=404, X_Error_Code="EntryNotFound")
        content = files[file]
        commit = f"{self.server.commits[name]:040x}"
        self._answer(content, X_Repo_Commit=commit, ETag=f'"{hashlib.sha256(content).hexdigest()}"')

    def do_PUT(self) -> None:
        self.server.objects[self.path.rsplit("/", 1)[-1]] = self._body()
        self._answer()

    def do_POST(self) -> None:
        body = self._body()
        self.server.tokens.add(self.headers.get("Authorization", ""))
        parts = self.path.strip("/").split("/")
        if self.server.refuse:
            return self._answer(
                {"error": self.server.refuse}, 403, X_Error_Message=self.server.refuse
            )
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in self.server.repos
            self.server.repos.setdefault(name, {})
            return self._answer({"url": f"{self.server.endpoint}/{name}"}, 409 if known else 200)
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if "preupload" in parts:
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["size"] > 9999 else "regular"}
                for f in json.loads(body)["files"]
            ]
            return self._answer({"files": [m | {"shouldIgnore": False} for m in modes]})
        if self.path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for each in objects:
                each["actions"] = {"upload": {"href": f"{self.server.endpoint}/lfs/{each['oid']}"}}
            return self._answer({"transfer": "basic", "objects": objects})
        name = "/".join(parts[2:4])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.server.repos[name][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.server.repos[name][value["path"]] = self.server.objects[value["oid"]]
        self.server.commits[name] = self.server.commits.get(name, 0) + 1
        oid = f"{self.server.commits[name]:040x}"
        self._answer({"commitUrl": f"{self.server.endpoint}/{name}/commit/{oid}", "commitOid": oid})


@contextmanager
def local_hub() -> Iterator[Hub]:
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()
