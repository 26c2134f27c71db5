"""Answers of an endpoint, and the file that keeps them so that a resumed run asks nothing twice.

The file is append-only JSONL. A line holds an answer, the hash of its question and a digest of the
line. A torn line at the end is cut off; the question of a damaged line is asked again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrmind.config import Decoding
from ehrmind.runs.lines import Line, append_line, lines_in, mend
from ehrmind.types import FinishReason, Message

MOST_TOKENS = 1 << 18  # a larger number is no count of tokens
CHARACTERS_PER_TOKEN = 3  # rough estimate for endpoints that do not count


@dataclass(frozen=True, slots=True)
class Question:
    """A question to an endpoint.

    `draw` tells samples of the same messages apart and seeds their sampling.
    """

    messages: tuple[Message, ...]
    decoding: Decoding
    draw: int = 0

    def key(self, model: str, body: dict[str, Any]) -> str:
        """Hashes everything that decides the answer."""
        messages = [[message.role, message.content] for message in self.messages]
        asked = [model, body, messages, self.decoding.model_dump(mode="json"), self.draw]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: the message's content, and the reasoning that some endpoints return separately.

    `failure` says why there is no answer.
    """

    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failure: str | None = None


def read_answer(raw: bytes, question: Question) -> Answer | None:
    """Reads a chat completion; None for anything else.

    Estimates tokens from the text if the endpoint does not count them.
    """
    try:
        tree = json.loads(raw)
        choice = tree["choices"][0]
        message = choice["message"]
        text, reasoning = (
            _text(message.get("content")),
            _text(message.get("reasoning_content") or message.get("reasoning")),
        )
        usage = tree.get("usage")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    asked = sum(len(part.content) for part in question.messages)
    return Answer(
        text,
        reasoning,
        finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
        prompt_tokens=_tokens(usage, "prompt_tokens", asked),
        completion_tokens=_tokens(usage, "completion_tokens", len(text) + len(reasoning)),
    )


def _text(value: Any) -> str:
    """Returns a text that can be stored, empty for null. Raises TypeError for anything else."""
    if value is not None and not isinstance(value, str):
        raise TypeError
    return (value or "").encode("utf-8", "replace").decode()


def _tokens(usage: Any, name: str, characters: int) -> int:
    counted = usage.get(name) if isinstance(usage, dict) else None
    return counted if type(counted) is int and 0 <= counted <= MOST_TOKENS else -(-characters // CHARACTERS_PER_TOKEN)


class AnswerFile:
    """Keeps the answers of one stage in a file that only its owner can read, because answers quote
    records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.tokens = (0, 0)  # of all prompts, of all answers
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        mend(path)
        lost = [line.number for line in lines_in(path) if not self._read(line)]
        if lost:
            many = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
            sys.stderr.write(f"{path}, line {lost[0]}{many}: damaged; what was asked there is asked again\n")

    def add(self, key: str, answer: Answer) -> None:
        append_line(self.path, {"key": key, **dataclasses.asdict(answer)}, private=True)
        self._keep(key, answer)

    def _read(self, line: Line) -> bool:
        """Reads a line; tells whether it holds an answer.

        Lines of an earlier version have no digest.
        """
        try:
            row = line.row if line.row is not None or b'"digest"' in line.text else json.loads(line.text)
            row = dict(row or {})
            self._keep(row.pop("key"), Answer(**row))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        return True

    def _keep(self, key: str, answer: Answer) -> None:
        prompt, completion = self.tokens
        self.tokens = (prompt + answer.prompt_tokens, completion + answer.completion_tokens)
        self.answers[key] = answer
