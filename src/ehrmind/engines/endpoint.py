"""Asks a model behind an OpenAI-compatible endpoint through the `openai` client.

No other module opens connections. Every question ends in an answer or in a named failure, within
limits on tries, time and bytes. An endpoint that stops answering, refuses the key or points to
another address ends the work with one sentence. Its answers are kept, and a resumed run asks for
the rest.

Left out on purpose: streaming, tool calls, log-probabilities, and an endpoint's error texts, which
may quote the question.
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
NO_KEY = "none"  # is sent if the recipe names no key, because the client insists on one
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
    """A failed attempt at a question.

    `again` says whether to retry, `wait` how many seconds the endpoint asks for.
    """

    def __init__(self, name: str, *, again: bool, wait: float = 0.0) -> None:
        super().__init__(name)
        self.name, self.again, self.wait = name, again, wait


class EndpointClient:
    """Asks an endpoint.

    `where` is its place in the recipe, for messages. The file `cache` keeps every answer.
    """

    def __init__(self, settings: Endpoint, where: str, cache: Path) -> None:
        self.settings, self.where, self.file = settings, where, AnswerFile(cache)
        self.failures: Counter[str] = Counter()  # failed attempts by name
        self.in_a_row: list[str] = []
        self.next_at = 0.0
        self.stopping = False

    def ask(self, questions: Sequence[Question], answered: Callable[[Answer], None] | None = None) -> list[Answer]:
        """Returns an answer to each question, in order; a missing one says why.

        `answered` is called as answers come. Raises InputError if it is pointless to go on.
        """
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
        """Reports model, answers, tokens and cost so far, earlier sittings included, and failures
        of this sitting.
        """
        prompt, completion = self.file.tokens
        counts = {"answers": len(self.file.answers), "prompt_tokens": prompt, "completion_tokens": completion}
        return {
            "model": self.settings.model,
            **counts,
            "cost": round(self.cost(), 6),
            "failed_attempts": dict(self.failures),
        }

    def cost(self) -> float:
        """Returns the cost of all answers so far, by the recipe's price."""
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
            for place in left:  # all workers share this iterator
                if self.stopping:
                    return
                found[place] = answer = await self._answer(client, questions[place])
                if answer.failure is None:
                    self.file.add(keys[place], answer)
                if answered:
                    answered(answer)
                self._give_up_after_silence(answer)

        async with self._open() as client:
            tasks = [asyncio.create_task(work(client)) for _ in range(min(self.settings.concurrency, len(waiting)))]
            try:
                done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                if others:  # one met a failure that all would meet; replies on their way may still arrive
                    self.stopping = True
                    await asyncio.wait(others, timeout=GRACE_SECONDS)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, client: AsyncOpenAI, question: Question) -> Answer:
        """Tries until there is an answer, or until a further attempt is pointless."""
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
            if failure.wait:  # all questions wait, not only this one
                self.next_at = max(self.next_at, time.monotonic() + failure.wait)
            if attempt + 1 < settings.attempts:
                await asyncio.sleep(min(settings.backoff * 2**attempt, settings.longest_wait))
        return Answer(finish_reason="error", failure=name)

    async def _turn(self) -> None:
        """Waits until the next request keeps to the rate limit."""
        begin = max(time.monotonic(), self.next_at)
        self.next_at = (
            begin + 60.0 / self.settings.requests_per_minute if self.settings.requests_per_minute else self.next_at
        )
        await asyncio.sleep(begin - time.monotonic())

    async def _post(self, client: AsyncOpenAI, question: Question) -> bytes:
        """Posts a question and returns the reply's bytes.

        Raises _FailureError, or InputError if every further question would fail in the same way.
        """
        import openai

        # The client's base is httpx or httpx2
        library = sys.modules[(openai.DefaultAsyncHttpxClient.__base__ or object).__module__.partition(".")[0]]
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
        """Opens the client without redirects and retries.

        It reads nothing from the environment, except the proxy for endpoints on other machines.
        """
        import openai

        limits = openai.Timeout(self.settings.answer_seconds, connect=self.settings.connect_seconds)
        http = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            trust_env=not self.settings.is_loopback,
            timeout=limits,
            event_hooks={"request": [self._strip_headers], "response": [self._check_status]},
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

    async def _strip_headers(self, request: Any) -> None:
        """Removes headers about the machine and from the environment.

        Raises InputError for another host than the recipe's.
        """
        if request.url.raw_host.decode("ascii").strip("[]").lower() != self.settings.host:
            raise InputError(f"{self._whose()} would be asked at another address; check {self.where}.url.")
        kept = {name: value for name, value in request.headers.items() if name.lower() in SENT_HEADERS}
        request.headers.clear()
        request.headers.update({**kept, "user-agent": f"ehrmind/{__version__}", "accept-encoding": "identity"})

    async def _check_status(self, response: Any) -> None:
        """Raises for an error status.

        The client itself would read an error's text to its end, however long, and retry by its own
        rules.
        """
        status: int = response.status_code
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise InputError(
                f"{self._whose()} points to another address ({status}), which is not followed; write that one if it is "
                "right."
            )
        if status in HOPELESS:
            raise InputError(
                f"{self._whose()} {HOPELESS[status]} ({status}); check {self.where}'s url, model and api_key_env; "
                f"{KEPT}."
            )
        name = f"status {status}"
        if status not in AGAIN and status < 500:
            name += await _error_code(response)
        raise _FailureError(
            name, again=status in AGAIN or status >= 500, wait=_seconds(response.headers.get("retry-after"))
        )

    def _give_up_after_silence(self, answer: Answer) -> None:
        if answer.failure is None:
            self.in_a_row.clear()
            return
        self.in_a_row.append(answer.failure)
        if len(self.in_a_row) >= self.settings.give_up_after:
            raise InputError(
                f"{self._whose()} left {len(self.in_a_row)} questions in a row unanswered ({counted(self.in_a_row)}); "
                f"{KEPT}."
            )

    def _whose(self) -> str:
        return f"The endpoint of {self.where}, {self.settings.host},"


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end.

    If an event loop already runs, as in a notebook, uses a thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def key_of(settings: Endpoint, where: str) -> str:
    """Reads the key from the environment. Raises InputError if the key or the client is missing."""
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
    """Reads a reply's bytes, and stops at the first piece beyond `most`."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _FailureError(NO_COMPLETION, again=False)  # was not asked for, and could unpack to any size
    pieces, size = [], 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > most:
            raise _FailureError(TOO_LARGE, again=False)
        pieces.append(piece)
    return b"".join(pieces)


async def _error_code(response: Any) -> str:
    """Returns the error's short name in brackets, such as context_length_exceeded.

    Its message stays unread, because it may quote a record.
    """
    try:
        code = json.loads(await _read(response, ERROR_BYTES))["error"]["code"]
    except (_FailureError, ValueError, RecursionError, LookupError, TypeError):
        return ""
    return f" ({code})" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else ""


def _seconds(retry_after: str | None) -> float:
    """Reads the seconds of a Retry-After header in both of its forms; 0 for none or nonsense."""
    if retry_after is None:
        return 0.0
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", retry_after.strip()):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def counted(names: Sequence[str]) -> str:
    """Lists names with how often each occurs."""
    return ", ".join(f"{name}: {count}" for name, count in Counter(names).most_common())
