"""A server on this machine that has the hub's layout: one data set, `owner/medcalc`, or one model,
`owner/model`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

COMMIT, OLDER = "a" * 40, "b" * 40


class Hub(BaseHTTPRequestHandler):
    """Speaks the parts of the hub's protocol that reading takes. `state` says how it misbehaves."""

    protocol_version = "HTTP/1.1"
    state: SimpleNamespace

    def do_GET(self) -> None:
        self.state.requests.append(f"{self.command} {unquote(self.path)}")
        parts = unquote(self.path).split("?")[0].strip("/").split("/")
        if parts[0] == "api" and "tree" in parts:
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
                for name, content in self.state.files.items()
            ]
            self.answer(json.dumps(tree).encode())
        elif parts[0] == "api":
            self.describe("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        elif "resolve" in parts:
            place = parts.index("resolve")
            self.send_file("/".join(parts[place + 2 :]), parts[place + 1])
        else:
            self.fail("EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Serves what an upload needs: a repository, a look at its card, small files in one
        commit."""
        self.state.requests.append(f"{self.command} {unquote(self.path)}")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        found: dict[str, object] = {"errors": [], "warnings": []}
        if self.path == "/api/repos/create":
            self.state.private = self.state.private and json.loads(content)["visibility"] == "private"
            found = {"url": f"{self.state.endpoint}/owner/model"}
        elif "/preupload/" in self.path:
            found = {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(content)["files"]
                ]
            }
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in content.splitlines()]
            self.state.sent |= {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            found = {"commitUrl": f"{self.state.endpoint}/owner/model/commit/{COMMIT}", "commitOid": COMMIT}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def describe(self, name: str, revision: str) -> None:
        if name not in ("owner/medcalc", "owner/model"):
            self.fail("RepoNotFound")
            return
        commit = {"main": self.state.head, "v1": OLDER, COMMIT: COMMIT, OLDER: OLDER}.get(revision)
        if commit is None:
            self.fail("RevisionNotFound")
            return
        siblings = [{"rfilename": file} for file in self.state.files]
        about = {
            "id": name,
            "sha": commit,
            "siblings": siblings,
            "private": self.state.private,
            "gated": "manual" if self.state.gated else False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }
        self.answer(json.dumps(about).encode())

    def send_file(self, name: str, commit: str) -> None:
        content = self.state.files.get(name)
        if content is None or self.state.gated:
            self.fail("EntryNotFound" if content is None else "GatedRepo")
            return
        asked = self.headers["Range"] if self.state.resumes else None
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        cut = self.command == "GET" and self.state.cuts > 0
        self.state.cuts -= cut
        cut = cut or (self.command == "GET" and name in self.state.broken)
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit}
        self.answer(content, headers, start, max(start, len(content) // 2) if cut else None)

    def answer(
        self, content: bytes, headers: dict[str, str] | None = None, start: int = 0, end: int | None = None
    ) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in {"Content-Length": str(len(content) - start), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:end])
        self.close_connection = end is not None

    def fail(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """A test's output stays quiet."""


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def loopback_hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The server's state; the hub's client is pointed at it, with an empty cache and no waiting
    between tries."""

    from huggingface_hub import constants, file_download

    state = SimpleNamespace(
        files=files, requests=[], cuts=0, resumes=True, cache=tmp_path / "cache", private=True, sent={}
    )
    state.head, state.gated, state.broken = COMMIT, False, set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisHub", (Hub,), {"state": state}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", state.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(state.cache))
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.chdir(tmp_path)
    yield state
    server.shutdown()
    server.server_close()
