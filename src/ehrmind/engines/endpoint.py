"""A model behind an OpenAI-compatible endpoint, asked through the `openai` client: the only module that opens connections.

Every question ends in an answer or in a named failure, after bounded tries, time and bytes. An endpoint that answers nothing any more,
refuses the key or points elsewhere ends the work with one sentence; what it answered is kept, and a run that goes on asks for the rest.

Left out on purpose: streaming, tool calls, log-probabilities, and an endpoint's error texts, which may quote what was asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehrmind import __version__
from ehrmind.config import Endpoint
from ehrmind.engines.answers import Answer, AnswerFile, Question, read_answer
from ehrmind.types import InputError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

TIMED_OUT, UNREACHABLE, BROKEN_OFF = "timed out", "not reachable", "connection broken off"
TOO_LARGE, NO_COMPLETION = "longer than answer_kilobytes", "not a chat completion"
AGAIN = {408, 409, 425, 429}  # and 5xx: worth another attempt
HOPELESS = {
    401: "refuses the key",
    403: "refuses access",
    404: "knows no such address or model",
    405: "takes no questions there",
}
ERROR_BYTES, GRACE_SECONDS = 1 << 14, 15.0
KEPT = "what it answered is kept, and the same command with --resume asks for the rest"
NO_KEY = "none"  # what is sent where the recipe names no key: the client insists on one
SENT_HEADERS = {
    "host",
    "connection",
    "content-length",
    "content-type",
    "accept",
    "authorization",
    "x-stainless-raw-response",
}


class _FailureError(Exception):
    """One attempt at a question failed; `wait` is what the endpoint asked for, in seconds."""

    def __init__(self, name: str, *, again: bool, wait: float = 0.0) -> None:
        super().__init__(name)
        self.name, self.again, self.wait = name, again, wait


class EndpointClient:
    """Asks an endpoint. `where` is its place in the recipe, for messages; `cache` keeps every answer."""

    def __init__(self, settings: Endpoint, where: str, cache: Path) -> None:
        self.settings, self.where, self.file = settings, where, AnswerFile(cache)
        self.failures: Counter[str] = Counter()  # by name, of attempts
        self.in_a_row: list[str] = []
        self.next_at = 0.0
        self.stopping = False

    def ask(self, questions: Sequence[Question], answered: Callable[[Answer], None] | None = None) -> list[Answer]:
        """An answer to each, in their order; one that has none says why. `answered` is called as they come. Raises InputError where it is
        pointless to go on."""
        found: dict[int, Answer] = {}
        keys = [question.key(self.settings.model, self.settings.body) for question in questions]
        for place, key in enumerate(keys):
            if key in self.file.answers:
                found[place] = self.file.answers[key]
                if answered:
                    answered(found[place])
        waiting = [place for place in range(len(questions)) if place not in found]
        if waiting:
            _run(self._ask_all(questions, keys, waiting, found, answered))
        return [found[place] for place in range(len(questions))]

    def facts(self) -> dict[str, Any]:
        """Of everything answered so far, earlier sittings included; failures are of this one."""
        prompt, completion = self.file.tokens
        counts = {"answers": len(self.file.answers), "prompt_tokens": prompt, "completion_tokens": completion}
        return {
            "model": self.settings.model,
            **counts,
            "cost": round(self.cost(), 6),
            "failed_attempts": dict(self.failures),
        }

    def cost(self) -> float:
        """By the recipe's price, of everything answered so far."""
        prompt, completion = self.file.tokens
        return (prompt * self.settings.price.input + completion * self.settings.price.output) / 1e6

    async def _ask_all(
        self,
        questions: Sequence[Question],
        keys: Sequence[str],
        waiting: Sequence[int],
        found: dict[int, Answer],
        answered: Callable[[Answer], None] | None,
    ) -> None:
        left = iter(waiting)

        async def work(client: AsyncOpenAI) -> None:
            for place in left:  # one iterator for all: each takes the next
                if self.stopping:
                    return
                found[place] = answer = await self._answer(client, questions[place])
                if answer.failure is None:
                    self.file.add(keys[place], answer)
                if answered:
                    answered(answer)
                self._give_up_on_silence(answer)

        async with self._open() as client:
            tasks = [asyncio.create_task(work(client)) for _ in range(min(self.settings.concurrency, len(waiting)))]
            try:
                done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                if others:  # one met what all would meet: what is on its way may still arrive
                    self.stopping = True
                    await asyncio.wait(others, timeout=GRACE_SECONDS)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, client: AsyncOpenAI, question: Question) -> Answer:
        """Attempts until there is an answer or no sense in a further one."""
        settings, name = self.settings, ""
        for attempt in range(settings.attempts):
            await self._turn()
            try:
                async with asyncio.timeout(settings.answer_seconds):
                    answer = read_answer(await self._post(client, question), question)
                if answer is not None:
                    return answer
                failure = _FailureError(NO_COMPLETION, again=True)
            except TimeoutError:
                failure = _FailureError(TIMED_OUT, again=True)
            except _FailureError as error:
                failure = error
            name = failure.name
            self.failures[name] += 1
            if not failure.again or self.stopping:
                break
            if failure.wait > settings.longest_wait:
                raise InputError(f"{self._whose()} asks to wait for {failure.wait:.0f} seconds; {KEPT}.")
            if failure.wait:  # for all questions, not only for this one
                self.next_at = max(self.next_at, time.monotonic() + failure.wait)
            if attempt + 1 < settings.attempts:
                await asyncio.sleep(min(settings.backoff * 2**attempt, settings.longest_wait))
        return Answer(finish_reason="error", failure=name)

    async def _turn(self) -> None:
        """Waits until a further request keeps to the rate."""
        begin = max(time.monotonic(), self.next_at)
        self.next_at = (
            begin + 60.0 / self.settings.requests_per_minute if self.settings.requests_per_minute else self.next_at
        )
        await asyncio.sleep(begin - time.monotonic())

    async def _post(self, client: AsyncOpenAI, question: Question) -> bytes:
        """The reply's bytes. Raises _FailureError, or InputError where every further question would meet the same."""
        import openai

        library = sys.modules[
            (openai.DefaultAsyncHttpxClient.__base__ or object).__module__.partition(".")[0]
        ]  # httpx or httpx2
        decoding, sampled = question.decoding, question.decoding.temperature > 0
        settings: dict[str, Any] = {
            "temperature": decoding.temperature,
            self.settings.limit_key: decoding.max_new_tokens,
        }
        settings |= {"top_p": decoding.top_p} if sampled and decoding.top_p < 1 else {}
        settings |= {"seed": question.draw % 2**31} if sampled and self.settings.seed else {}
        messages: Any = [{"role": part.role, "content": part.content} for part in question.messages]
        try:
            async with client.chat.completions.with_streaming_response.create(
                model=self.settings.model, messages=messages, extra_body={**settings, **self.settings.body}
            ) as reply:
                return await _read(reply.http_response, self.settings.answer_kilobytes * 1024)
        except (openai.APIConnectionError, library.HTTPError) as error:
            cause = error if isinstance(error, library.HTTPError) else error.__cause__
            if isinstance(cause, _FailureError | InputError):
                raise cause from None
            if isinstance(cause, library.ConnectError | library.ConnectTimeout):
                raise _FailureError(UNREACHABLE, again=True) from None
            raise _FailureError(
                TIMED_OUT if isinstance(cause, library.TimeoutException) else BROKEN_OFF, again=True
            ) from None

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AsyncOpenAI]:
        """The client: no redirects, no retries of its own, and nothing from the environment but, for endpoints elsewhere, the proxy."""
        import openai

        limits = openai.Timeout(self.settings.answer_seconds, connect=self.settings.connect_seconds)
        http = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            trust_env=not self.settings.is_loopback,
            timeout=limits,
            event_hooks={"request": [self._leave_out_what_nobody_asked_for], "response": [self._look_at_status]},
        )
        client = openai.AsyncOpenAI(
            base_url=self.settings.url,
            api_key=key_of(self.settings, self.where),
            max_retries=0,
            timeout=limits,
            http_client=http,
        )
        try:
            yield client
        finally:
            await client.close()

    async def _leave_out_what_nobody_asked_for(self, request: Any) -> None:
        """No account of the machine, no organisation or header from the environment; and no other host than the recipe's."""
        if request.url.raw_host.decode("ascii").strip("[]").lower() != self.settings.host:
            raise InputError(f"{self._whose()} would be asked at another address; check {self.where}.url.")
        kept = {name: value for name, value in request.headers.items() if name.lower() in SENT_HEADERS}
        request.headers.clear()
        request.headers.update({**kept, "user-agent": f"ehrmind/{__version__}", "accept-encoding": "identity"})

    async def _look_at_status(self, response: Any) -> None:
        """Here, because the client would read an error's text to its end, however long, and follow its own rules for retries."""
        status: int = response.status_code
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise InputError(
                f"{self._whose()} points to another address ({status}), which is not followed; write that one if it is right."
            )
        if status in HOPELESS:
            raise InputError(
                f"{self._whose()} {HOPELESS[status]} ({status}); check {self.where}'s url, model and api_key_env; {KEPT}."
            )
        name = f"status {status}"
        if status not in AGAIN and status < 500:
            name += await _error_code(response)
        raise _FailureError(
            name, again=status in AGAIN or status >= 500, wait=_seconds(response.headers.get("retry-after"))
        )

    def _give_up_on_silence(self, answer: Answer) -> None:
        if answer.failure is None:
            self.in_a_row.clear()
            return
        self.in_a_row.append(answer.failure)
        if len(self.in_a_row) >= self.settings.give_up_after:
            raise InputError(
                f"{self._whose()} left {len(self.in_a_row)} questions in a row unanswered ({told(self.in_a_row)}); {KEPT}."
            )

    def _whose(self) -> str:
        return f"The endpoint of {self.where}, {self.settings.host},"


def _run(work: Coroutine[Any, Any, None]) -> None:
    """To its end; beside an event loop that already runs, as a notebook has one, in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def key_of(settings: Endpoint, where: str) -> str:
    """The key, from the environment. Raises InputError where it is missing, or the client is."""
    if find_spec("openai") is None:
        raise InputError(
            f"{where} is asked through the package openai, which is not installed; pip install 'ehrmind[teacher]'."
        )
    if settings.api_key_env is None:
        return NO_KEY
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(
            f"{where}.api_key_env names the environment variable {settings.api_key_env}, which holds no key; set it."
        )
    return key


async def _read(response: Any, most: int) -> bytes:
    """A reply's bytes as they came, no more than `most` and one piece of them."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _FailureError(NO_COMPLETION, again=False)  # it was asked for none, and what it unpacks to has no bound
    pieces, size = [], 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > most:
            raise _FailureError(TOO_LARGE, again=False)
        pieces.append(piece)
    return b"".join(pieces)


async def _error_code(response: Any) -> str:
    """The error's own short name in brackets, such as context_length_exceeded; its message stays unread, for it may quote a record."""
    try:
        code = json.loads(await _read(response, ERROR_BYTES))["error"]["code"]
    except (_FailureError, ValueError, RecursionError, LookupError, TypeError):
        return ""
    return f" ({code})" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else ""


def _seconds(retry_after: str | None) -> float:
    """Of a Retry-After header, in either of its forms; 0 for none or nonsense."""
    if retry_after is None:
        return 0.0
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", retry_after.strip()):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def told(names: Sequence[str]) -> str:
    """Names with how often each occurs."""
    return ", ".join(f"{name}: {count}" for name, count in Counter(names).most_common())
