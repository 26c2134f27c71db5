"""The details of one rollout or group: record and answer with marks, and the process audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from ehrmind.process_audit import audit
from ehrmind.process_audit.auditing import thinking_of
from ehrmind.process_audit.facts import known, with_numbers_of
from ehrmind.report.rollouts import split_blocks
from ehrmind.types import InputError
from ehrmind.view.cases import Asked, Cases
from ehrmind.view.difference import Pieces, word_difference
from ehrmind.view.marks import Piece, Span, grounded, pieces
from ehrmind.view.paging import Facts, StoredRow, facts, group_rows, row_at, stored
from ehrmind.view.rollout_index import Rollouts

SHOWN = 200_000  # characters of a text at a time
IN_A_GROUP = 20_000  # of each answer, side by side
GONE = "The text is gone meanwhile; the list shows what there is."


class Question(TypedDict):
    """A question with its record in marked pieces; `said` tells why the record cannot be shown."""

    record: list[Piece]
    record_rest: int
    question: str
    expected: str
    said: str
    shown: int


class Blocks(TypedDict, total=False):
    """An answer in marked pieces: `thinking` and `answer`, or `text` where it is not split."""

    thinking: list[Piece]
    answer: list[Piece]
    text: list[Piece]
    text_rest: int


class Answer(Facts, Blocks):
    """One answer of a group."""


class Detail(Answer, Question):
    """One rollout; `parts` has [passed, checked] by part of the audit."""

    earlier: str
    parts: dict[str, list[int]]
    findings: list[list[str]]


class Group(Question):
    answers: list[Answer]


class Difference(TypedDict):
    """Two answers word by word; `whole` is False where only their beginnings were compared."""

    before: Facts
    after: Facts
    words: Pieces
    whole: bool


class Rest(TypedDict):
    """The next stretch of a long text, where it ends, and how much is left."""

    text: str
    rest: int
    next: int


def detail(rollouts: Rollouts, cases: Cases, number: int, row: int) -> Detail:
    """One rollout with its record, its texts and its audit."""
    found, text = _whole(rollouts, number, row)
    asked = cases.asked(found["case"])
    earlier = found["earlier"] or ""
    here, there = grounded(asked.record, text)
    findings, parts = _audited(asked, text, earlier)
    return {
        **facts(found),
        **_question(asked, here),
        "earlier": earlier[:SHOWN],
        **_blocks(text, [*there, *findings]),
        "parts": parts,
        "findings": [[text[span.start : span.end][:160], span.said] for span in findings],
    }


def group(rollouts: Rollouts, cases: Cases, number: int, case: str) -> Group:
    """All answers to a question in one step; the record marks what any of them takes from it."""
    rows = group_rows(rollouts, number, case)
    if not rows:
        raise InputError("There is no such group (any more).")
    asked = cases.asked(case)
    marked: set[Span] = set()
    answers: list[Answer] = []
    for row in stored(rollouts, rows):
        text = GONE if row["text"] is None else row["text"]
        here, there = grounded(asked.record, text[:IN_A_GROUP])
        marked |= set(here)
        answers.append({**facts(row), **_blocks(text, there, IN_A_GROUP)})
    return {**_question(asked, sorted(marked)), "answers": answers}


def difference(rollouts: Rollouts, before: tuple[int, int], after: tuple[int, int]) -> Difference:
    """Compares two answers word by word. Raises InputError for answers to different questions."""
    (old, old_text), (new, new_text) = _whole(rollouts, *before), _whole(rollouts, *after)
    if old["case"] != new["case"]:
        raise InputError(
            "These are answers to two questions, so there is nothing to compare; choose two answers to one."
        )
    words, compared = word_difference(old_text[:SHOWN], new_text[:SHOWN])
    return {
        "before": facts(old),
        "after": facts(new),
        "words": words,
        "whole": compared and max(len(old_text), len(new_text)) <= SHOWN,
    }


def rest(rollouts: Rollouts, cases: Cases, number: int, row: int, what: Literal["text", "record"], start: int) -> Rest:
    found, answer = _whole(rollouts, number, row)
    text = cases.asked(found["case"]).record if what == "record" else answer
    return {"text": text[start : start + SHOWN], "rest": max(0, len(text) - start - SHOWN), "next": start + SHOWN}


def _whole(rollouts: Rollouts, number: int, row: int) -> tuple[StoredRow, str]:
    """A rollout and its text. Raises InputError where its file is gone meanwhile."""
    (found,) = stored(rollouts, [row_at(rollouts, number, row)])
    if found["text"] is None:
        raise InputError(GONE)
    return found, found["text"]


def _question(asked: Asked, spans: Sequence[Span]) -> Question:
    return {
        "record": pieces(asked.record, spans, 0, min(len(asked.record), SHOWN)),
        "record_rest": max(0, len(asked.record) - SHOWN),
        "question": asked.question,
        "expected": asked.expected,
        "said": asked.said,
        "shown": SHOWN,
    }


def _blocks(text: str, spans: Sequence[Span], most: int = SHOWN) -> Blocks:
    """Thinking and answer where the text follows the protocol and is shown whole, else the text."""
    thinking, answer = split_blocks(text) if len(text) <= most else (None, None)
    if thinking is None or answer is None:
        return {"text": pieces(text, spans, 0, min(len(text), most)), "text_rest": max(0, len(text) - most)}
    inner, start = thinking_of(text)
    start += len(inner) - len(inner.lstrip())
    behind = text.rindex(answer) if answer else len(text)
    return {
        "thinking": pieces(text, [span for span in spans if span.start >= start], start, start + len(thinking)),
        "answer": pieces(text, [span for span in spans if span.start >= behind], behind, behind + len(answer)),
        "text_rest": 0,
    }


def _audited(asked: Asked, text: str, earlier: str) -> tuple[list[Span], dict[str, list[int]]]:
    """The findings that have a place, and [passed, checked] of each part."""
    if asked.case is None:
        return [], {}
    about = with_numbers_of(known(asked.case), earlier) if earlier else None
    found = audit(asked.case, text, about=about)
    spans = [
        Span(one.start, one.end, "finding", f"{one.part}: {one.what}{f' ({one.detail})' if one.detail else ''}")
        for one in found.findings
        if one.start is not None and one.end is not None
    ]
    return spans, {name: [part.passed, part.checked] for name, part in found.parts.items() if part is not None}
