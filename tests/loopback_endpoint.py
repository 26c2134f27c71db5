"""A chat-completions endpoint on this machine that answers as planned, and misbehaves in every way
a test asks for.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ehrmind.config import Decoding, Endpoint
from ehrmind.engines.answers import Question
from ehrmind.engines.endpoint import EndpointClient
from ehrmind.types import Message

CANARY = "zebra-canary-7311"
LIMITS = {"backoff": 0.01, "connect_seconds": 5.0, "answer_seconds": 10.0, "answer_kilobytes": 64, "attempts": 2}
Say = Callable[[dict[str, Any]], "str | Do"]  # from a request's body


@dataclass
class Do:
    """Something else than an answer: a status, headers, a body of any kind, or a way to break
    off."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stall: bool = False  # say nothing until the client goes
    drop: bool = False  # promise more than comes, and close
    flood: bool = False  # go on for ever
    trickle: bool = False  # go on for ever, slowly
    usage: dict[str, Any] | None = None


@dataclass
class Server:
    """`requests` are the bodies as they came; `answered` those that got a whole answer."""

    say: Say
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    now: int = 0
    sent: int = 0  # bytes of a flood
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)


def chat(text: str | None, finish_reason: str = "stop", **more: Any) -> bytes:
    """A chat completion as servers write it."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    tree = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": usage, **more}
    return json.dumps({**tree, "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server

    def do_POST(self) -> None:
        state = self.server_state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with state.lock:
            state.requests.append(body)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.times.append(time.monotonic())
            state.now += 1
            state.most_at_once = max(state.most_at_once, state.now)
        try:
            said = state.say(body)
            self.do(said if isinstance(said, Do) else Do(body=chat(said)))
            if not isinstance(said, Do):
                with state.lock:
                    state.answered.append(body["messages"][0]["content"])
        except OSError:
            self.close_connection = True  # the client went
        finally:
            with state.lock:
                state.now -= 1

    def do(self, what: Do) -> None:
        state = self.server_state
        if what.stall:
            state.over.wait(30)
            self.close_connection = True
            return
        self.send_response(what.status)
        length = (
            str(len(what.body) + 1000)
            if what.drop
            else str(1 << 40)
            if what.flood or what.trickle
            else str(len(what.body))
        )
        for name, value in {"Content-Type": "application/json", "Content-Length": length, **what.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(what.body)
        self.close_connection = what.drop or what.flood or what.trickle
        while (what.flood or what.trickle) and not state.over.is_set():
            piece = b" " if what.trickle else b" " * 65536
            self.wfile.write(piece)
            self.wfile.flush()
            with state.lock:
                state.sent += len(piece)
            time.sleep(0.02 if what.trickle else 0)

    def do_GET(self) -> None:
        raise AssertionError("a redirect was followed")

    def log_message(self, *_: object) -> None:
        """A test's output stays quiet."""


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


@contextmanager
def loopback_endpoint(say: Say) -> Iterator[Server]:
    state = Server(say)
    server = Quiet(("127.0.0.1", 0), type("ThisHandler", (Handler,), {"server_state": state}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        state.over.set()
        server.shutdown()
        server.server_close()


def questions(count: int, temperature: float = 0.0) -> list[Question]:
    decoding = Decoding(temperature=temperature, max_new_tokens=50)
    return [Question((Message("user", f"question {number} {CANARY}"),), decoding, number) for number in range(count)]


def client(server: Server, tmp_path: Path, **settings: Any) -> EndpointClient:
    chosen = Endpoint(**{"url": server.url, "model": "m", **LIMITS, **settings})
    return EndpointClient(chosen, "teacher", tmp_path / "protected" / "teacher" / "warmup.jsonl")
