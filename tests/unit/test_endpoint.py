"""The client of endpoints against a real server on this machine: whatever that does, every question
ends, in bounded time, by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import Decoding, Endpoint
from ehrmind.engines.answers import Answer, AnswerFile, Question
from ehrmind.engines.endpoint import EndpointClient
from ehrmind.types import InputError
from tests.loopback_endpoint import CANARY, LIMITS, Do, chat, client, loopback_endpoint, questions


def once(first: str | Do, then: str = "fine") -> Callable[[dict[str, Any]], str | Do]:
    """The first request of every question gets one thing, further ones another."""
    seen: set[str] = set()

    def say(body: dict[str, Any]) -> str | Do:
        text = body["messages"][0]["content"]
        if text in seen:
            return then
        seen.add(text)
        return first

    return say


def test_answers_come_back_in_order_with_their_tokens_and_what_they_cost(tmp_path: Path) -> None:
    with loopback_endpoint(lambda body: body["messages"][0]["content"].upper()) as server:
        asking = client(server, tmp_path, price={"input": 2.0, "output": 10.0})
        answers = asking.ask(questions(20))
    assert [answer.text for answer in answers] == [f"QUESTION {n} {CANARY.upper()}" for n in range(20)]
    facts = asking.facts()
    assert (facts["answers"], facts["prompt_tokens"], facts["completion_tokens"]) == (20, 2000, 400)
    assert facts["cost"] == pytest.approx((2000 * 2 + 400 * 10) / 1e6)
    assert {body["max_tokens"] for body in server.requests} == {50} and {
        body["temperature"] for body in server.requests
    } == {0.0}


def test_no_more_questions_are_on_their_way_at_once_than_the_recipe_says(tmp_path: Path) -> None:
    def slowly(body: dict[str, Any]) -> str:
        time.sleep(0.05)
        return "fine"

    with loopback_endpoint(slowly) as server:
        client(server, tmp_path, concurrency=3).ask(questions(12))
    assert server.most_at_once == 3


def test_requests_keep_to_the_rate(tmp_path: Path) -> None:
    with loopback_endpoint(lambda body: "fine") as server:
        client(server, tmp_path, requests_per_minute=1200, concurrency=8).ask(questions(9))
    assert server.times[-1] - server.times[0] >= 8 * 0.05 - 0.02


@pytest.mark.parametrize(
    ("trouble", "name", "requests"),
    [
        (Do(stall=True), "timed out", 2),
        (Do(trickle=True), "timed out", 2),
        (Do(body=chat("half"), drop=True), "connection broken off", 2),
        (Do(flood=True), "longer than answer_kilobytes", 1),
        (Do(body=b"<html>busy</html>"), "not a chat completion", 2),
        (Do(body=b"\xff\xfe\x00garbage"), "not a chat completion", 2),
        (Do(body=b'{"choices": []}'), "not a chat completion", 2),
        (Do(body=b'{"choices": [{"message": "text"}]}'), "not a chat completion", 2),
        (Do(body=b'{"choices": [{"message": {"content": ["a"]}}]}'), "not a chat completion", 2),
        (Do(body=b"[" * 50_000), "not a chat completion", 2),
        (Do(body=b"9" * 50_000), "not a chat completion", 2),
        (Do(headers={"Content-Encoding": "gzip"}, body=b"x"), "not a chat completion", 1),
        (Do(status=500, flood=True), "status 500", 2),
        (Do(status=429), "status 429", 2),
        (
            Do(status=400, body=json.dumps({"error": {"code": "context_length_exceeded", "message": CANARY}}).encode()),
            "status 400",
            1,
        ),
        (Do(status=422, flood=True), "status 422", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_server_that_misbehaves_leaves_a_named_gap_in_bounded_time(
    tmp_path: Path, trouble: Do, name: str, requests: int
) -> None:
    with loopback_endpoint(lambda body: trouble) as server:
        started = time.monotonic()
        (answer,) = client(server, tmp_path, answer_seconds=0.5 if name == "timed out" else 10.0).ask(questions(1))
        assert time.monotonic() - started < 8
        assert answer.failure is not None and answer.failure.startswith(name) and CANARY not in answer.failure
        assert answer.text == "" and answer.finish_reason == "error"
        assert len(server.requests) == requests
        time.sleep(0.1)
        assert server.sent < 20 << 20, "a flood was drunk to the end"


def test_an_error_is_named_by_its_code_and_never_by_its_text(tmp_path: Path) -> None:
    for code, shown in (
        ("context_length_exceeded", "status 400 (context_length_exceeded)"),
        (CANARY, "status 400"),
        (7, "status 400"),
    ):
        trouble = Do(status=400, body=json.dumps({"error": {"code": code, "message": CANARY}}).encode())
        with loopback_endpoint(lambda body, trouble=trouble: trouble) as server:
            assert client(server, tmp_path).ask(questions(1))[0].failure == shown


@pytest.mark.parametrize(
    "first", [Do(status=500), Do(status=503), Do(status=429), Do(drop=True), Do(stall=True), Do(body=b"{")]
)
def test_what_passes_by_itself_is_tried_again(tmp_path: Path, first: Do) -> None:
    with loopback_endpoint(once(first)) as server:
        asking = client(server, tmp_path, answer_seconds=1.0 if first.stall else 10.0)
        assert [answer.text for answer in asking.ask(questions(4))] == ["fine"] * 4
    assert len(server.requests) == 8 and sum(asking.facts()["failed_attempts"].values()) == 4


@pytest.mark.parametrize("in_seconds", [True, False])
def test_an_endpoint_that_asks_to_wait_is_waited_for(tmp_path: Path, in_seconds: bool) -> None:
    asked = "1" if in_seconds else formatdate(time.time() + 2, usegmt=True)
    with loopback_endpoint(once(Do(status=429, headers={"Retry-After": asked}))) as server:
        assert client(server, tmp_path).ask(questions(1))[0].text == "fine"
    assert server.times[1] - server.times[0] >= (1.0 if in_seconds else 0.9)


def test_an_endpoint_that_asks_to_wait_for_longer_than_anyone_will_ends_the_work(tmp_path: Path) -> None:
    trouble, sentence = Do(status=429, headers={"Retry-After": "86400"}), r"asks to wait for 86400 seconds.*--resume"
    with loopback_endpoint(lambda body: trouble) as server, pytest.raises(InputError, match=sentence):
        client(server, tmp_path).ask(questions(3))
    assert len(server.requests) <= 3


@pytest.mark.parametrize("value", ["soon", "-5", "1e9", "nan", "Thu, 99 Xyz 2026"])
def test_nonsense_in_retry_after_is_no_reason_to_wait_or_fall(tmp_path: Path, value: str) -> None:
    with loopback_endpoint(once(Do(status=429, headers={"Retry-After": value}))) as server:
        assert client(server, tmp_path).ask(questions(1))[0].text == "fine"


@pytest.mark.parametrize(
    ("status", "sentence"), [(401, "refuses the key"), (403, "refuses access"), (404, "knows no such address or model")]
)
def test_what_every_question_would_meet_ends_the_work_at_once(tmp_path: Path, status: int, sentence: str) -> None:
    trouble = Do(status=status, body=CANARY.encode())
    with loopback_endpoint(lambda body: trouble) as server, pytest.raises(InputError, match=sentence) as found:
        client(server, tmp_path, concurrency=1).ask(questions(9))
    assert CANARY not in str(found.value) and len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_never_followed(tmp_path: Path, status: int) -> None:
    with (
        loopback_endpoint(lambda body: "the record arrived") as other,
        loopback_endpoint(
            lambda body: Do(status=status, headers={"Location": f"{other.url}/chat/completions"})
        ) as server,
        pytest.raises(InputError, match=rf"points to another address \({status}\)"),
    ):
        client(server, tmp_path).ask(questions(1))
    assert not other.requests


def test_a_server_that_answers_nothing_any_more_is_given_up_and_what_came_before_is_kept(tmp_path: Path) -> None:
    said = iter(["fine"] * 5)
    with loopback_endpoint(lambda body: next(said, Do(status=503))) as server:
        asking = client(server, tmp_path, concurrency=1, give_up_after=3)
        with pytest.raises(InputError, match=r"3 questions in a row unanswered \(status 503: 3\).*--resume"):
            asking.ask(questions(50))
    assert len(server.requests) == 5 + 3 * 2 and len(asking.file.answers) == 5


def test_a_server_that_is_not_there_is_named_so(tmp_path: Path) -> None:
    with loopback_endpoint(lambda body: "fine") as server:
        pass
    assert client(server, tmp_path).ask(questions(1))[0].failure == "not reachable"


def test_what_was_answered_is_never_asked_again(tmp_path: Path) -> None:
    with loopback_endpoint(lambda body: "fine") as server:
        client(server, tmp_path).ask(questions(6))
        seen: list[Answer] = []
        again = client(server, tmp_path).ask(questions(8), seen.append)
    assert len(server.requests) == 8 and [answer.text for answer in again] == ["fine"] * 8 and len(seen) == 8


def test_other_messages_models_and_decodings_are_other_questions(tmp_path: Path) -> None:
    (one,) = questions(1)
    hotter = Question(one.messages, Decoding(temperature=0.9, max_new_tokens=50), one.draw)
    keys = {one.key("m", {}), one.key("n", {}), one.key("m", {"reasoning_effort": "low"}), hotter.key("m", {})}
    keys |= {
        Question(one.messages, one.decoding, 9).key("m", {}),
        Question((*one.messages, *one.messages), one.decoding).key("m", {}),
    }
    assert len(keys) == 6


def test_a_line_that_a_crash_tore_is_asked_again_and_the_others_are_not(tmp_path: Path) -> None:
    with loopback_endpoint(lambda body: "fine") as server:
        asking = client(server, tmp_path)
        asking.ask(questions(5))
        file = asking.file.path
        file.write_bytes(file.read_bytes()[:-20])
        again = client(server, tmp_path)
        assert len(again.file.answers) == 4
        again.ask(questions(5))
    assert len(server.requests) == 6
    assert len(AnswerFile(file).answers) == 5 and file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b'{"kee": 3}\n[]\n{"key": "a", "prompt_tokens": "x"}\n' + file.read_bytes())
    assert len(AnswerFile(file).answers) == 5


@pytest.mark.parametrize("host", ["modèles.invalid", "[::1]:1", "LOCALHOST:1"])
def test_addresses_of_every_form_are_the_ones_that_were_checked(tmp_path: Path, host: str) -> None:
    asking = EndpointClient(Endpoint(url=f"http://{host}/v1", model="m", **LIMITS), "teacher", tmp_path / "cache.jsonl")
    assert asking.ask(questions(1))[0].failure in ("not reachable", "timed out")


RESUMED = """
import sys
from pathlib import Path
from ehrmind.config import Endpoint
from ehrmind.engines.endpoint import EndpointClient
from tests.loopback_endpoint import questions
settings = Endpoint(url=sys.argv[1], model="m", concurrency=int(sys.argv[3]))
EndpointClient(settings, "teacher", Path(sys.argv[2])).ask(questions(30))
"""


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_process_that_is_killed_resumes_without_asking_anything_answered_again(
    tmp_path: Path, repository: Path, concurrency: int
) -> None:
    file, said = tmp_path / "warmup.jsonl", 0

    def twelve_then_nothing(body: dict[str, Any]) -> str | Do:
        nonlocal said
        said += 1
        return "fine" if said <= 12 else Do(stall=True)

    with loopback_endpoint(twelve_then_nothing) as server:
        command = [sys.executable, "-c", RESUMED, server.url, str(file), str(concurrency)]
        process = subprocess.Popen(
            command, cwd=repository, env={**os.environ, "PYTHONPATH": f"{repository}:{repository}/tests"}
        )
        deadline = time.monotonic() + 60
        while not (file.is_file() and file.read_bytes().count(b"\n") == 12):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        server.say = lambda body: "fine"
        subprocess.run(
            command,
            cwd=repository,
            env={**os.environ, "PYTHONPATH": f"{repository}:{repository}/tests"},
            check=True,
            timeout=60,
        )
        assert sorted(server.answered) == sorted(question.messages[0].content for question in questions(30))
    assert file.read_bytes().count(b"\n") == 30


def test_a_person_who_stops_the_work_is_obeyed_at_once(tmp_path: Path, repository: Path) -> None:
    said = iter(["fine"] * 3)
    with loopback_endpoint(lambda body: next(said, Do(stall=True))) as server:
        command = [sys.executable, "-c", RESUMED, server.url, str(tmp_path / "warmup.jsonl"), "2"]
        environment = {**os.environ, "PYTHONPATH": f"{repository}:{repository}/tests"}
        process = subprocess.Popen(command, cwd=repository, env=environment, stderr=subprocess.PIPE, text=True)
        while len(server.requests) < 5:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said_then = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in said_then and (tmp_path / "warmup.jsonl").read_bytes().count(b"\n") == 3


def test_questions_can_be_asked_from_a_notebook_whose_event_loop_runs(tmp_path: Path) -> None:
    async def cell() -> list[Answer]:
        return client(server, tmp_path).ask(questions(2))

    with loopback_endpoint(lambda body: "fine") as server:
        assert [answer.text for answer in asyncio.run(cell())] == ["fine", "fine"]


def test_the_key_is_sent_and_stands_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A_KEY", "sk-very-secret")
    with loopback_endpoint(once(Do(status=500))) as server:
        asking = client(server, tmp_path, api_key_env="A_KEY")
        asking.ask(questions(1))
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert (
        "sk-very-secret"
        not in json.dumps(asking.facts()) + asking.file.path.read_text() + asking.settings.model_dump_json()
    )
    assert "sk-very-secret" not in "".join(capfd.readouterr())


def test_a_key_that_is_not_there_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    sentence = r"teacher\.api_key_env names the environment variable A_KEY, which holds no key"
    with loopback_endpoint(lambda body: "fine") as server, pytest.raises(InputError, match=sentence):
        client(server, tmp_path, api_key_env="A_KEY").ask(questions(1))
    assert not server.requests


def test_nothing_of_the_environment_or_of_the_machine_is_sent_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "192.0.2.1"
    for name, value in {
        "OPENAI_API_KEY": "sk-of-somebody-else",
        "OPENAI_ORG_ID": "org-1",
        "OPENAI_PROJECT_ID": "project-1",
        "OPENAI_CUSTOM_HEADERS": "X-Mine: mine",
        "OPENAI_BASE_URL": f"http://{nowhere}/v1",
        "HTTP_PROXY": f"http://{nowhere}:9",
        "http_proxy": f"http://{nowhere}:9",
        "ALL_PROXY": f"http://{nowhere}:9",
    }.items():
        monkeypatch.setenv(name, value)
    with loopback_endpoint(lambda body: "fine") as server:
        assert client(server, tmp_path).ask(questions(1))[0].text == "fine"
    (headers,) = server.headers
    assert headers.keys() <= {
        "host", "connection", "accept", "accept-encoding", "content-type", "content-length", "user-agent", "authorization",
        "x-stainless-raw-response",
    }  # fmt: skip
    assert headers["user-agent"].startswith("ehrmind/") and headers["authorization"] == "Bearer none"


LOGGED = """
import sys
from pathlib import Path
from ehrmind.config import Endpoint
from ehrmind.engines.endpoint import EndpointClient
from tests.loopback_endpoint import LIMITS, questions
client = EndpointClient(Endpoint(url=sys.argv[1], model="m", **LIMITS), "teacher", Path(sys.argv[2]))
client.ask(questions(3))
"""


def test_no_question_stands_in_the_log_even_where_the_client_is_told_to_log_everything(
    tmp_path: Path, repository: Path
) -> None:
    environment = {**os.environ, "OPENAI_LOG": "debug", "PYTHONPATH": f"{repository}:{repository}/tests"}
    with loopback_endpoint(once(Do(status=500, body=CANARY.encode()), f"fine {CANARY}")) as server:
        command = [sys.executable, "-c", LOGGED, server.url, str(tmp_path / "warmup.jsonl")]
        done = subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
    assert CANARY not in done.stdout + done.stderr and len(server.requests) == 6
