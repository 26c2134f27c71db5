"""Reads a text into the answer it gives, or the named reason why it gives none.

Knows no task, executes nothing, never raises. Time is linear in the text: each tag is searched
once, from left to right. Only an answer block of at most `MAX_ANSWER` characters reaches the JSON
reader, which also bounds nesting and digits. A thought must hold at least one letter or digit. With
`think=False`, a thought before the answer is tolerated, empty or not, because templates of thinking
models write an empty one when thinking is off.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ehrmind.parsing import reasons
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN

MAX_ANSWER = 2000

_VISIBLE = re.compile(r"\S")
_WORD = re.compile(r"[^\W_]")


class Parsed(NamedTuple):
    """`answer` and `unit` as JSON gave them. `reason` is None if the text keeps the protocol and
    the schema."""

    answer: Any = None
    unit: Any = None
    reason: str | None = None


def parse(text: str, think: bool = True) -> Parsed:
    """Reads a whole response: blocks, then JSON, then the schema `{"answer": …}` with an optional
    `"unit"`."""
    start = text.find(ANSWER_OPEN)
    if start < 0:
        return Parsed(reason=reasons.NO_ANSWER)
    end = text.find(ANSWER_CLOSE, start)
    if end < 0:
        return Parsed(reason=reasons.UNCLOSED_ANSWER)
    if text.find(ANSWER_OPEN, start + 1) >= 0:
        return Parsed(reason=reasons.TWO_ANSWERS)
    after = end + len(ANSWER_CLOSE)
    if _VISIBLE.search(text, after):
        return Parsed(reason=reasons.TEXT_AFTER)
    reason = _thought(text[:start].strip(), think)
    if reason is not None:
        return Parsed(reason=reason)
    return _schema(text[start + len(ANSWER_OPEN) : end])


def _thought(head: str, think: bool) -> str | None:
    """Names what is wrong with the text before the answer; None if nothing is."""
    if not head:
        return reasons.NO_THINKING if think else None
    if not head.startswith(THINK_OPEN):
        return reasons.TEXT_BEFORE if THINK_OPEN in head or not think else reasons.NO_THINKING
    close = head.find(THINK_CLOSE)
    if close < 0:
        return reasons.UNCLOSED_THINKING
    if head.find(THINK_OPEN, 1) >= 0:
        return reasons.TWO_THOUGHTS
    if close + len(THINK_CLOSE) != len(head):
        return reasons.TEXT_BEFORE
    if ANSWER_CLOSE in head:
        return reasons.TWO_ANSWERS
    if think and not _WORD.search(head, len(THINK_OPEN), close):
        return reasons.EMPTY_THINKING
    return None


def _schema(block: str) -> Parsed:
    if len(block) > MAX_ANSWER:
        return Parsed(reason=reasons.TOO_LONG)
    try:
        tree = _JSON.decode(block)
    except _DuplicatedKeyError:
        return Parsed(reason=reasons.DUPLICATED_KEY)
    except (ValueError, RecursionError):
        return Parsed(reason=reasons.NOT_JSON)
    if type(tree) is not dict or "answer" not in tree:
        return Parsed(reason=reasons.MISSING_KEY)
    if len(tree) == 1:
        return Parsed(tree["answer"])
    if len(tree) == 2 and "unit" in tree:
        return Parsed(tree["answer"], tree["unit"])
    return Parsed(reason=reasons.UNEXPECTED_KEY)


class _DuplicatedKeyError(Exception):
    """An object names a key twice. JSON readers disagree on which one counts."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise _DuplicatedKeyError
    return tree


def _integer(digits: str) -> int | float:
    """Turns long runs of digits into floats, which avoids the interpreter's limit on digits and
    costs no time."""
    return int(digits) if len(digits) < 20 else float(digits)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)
