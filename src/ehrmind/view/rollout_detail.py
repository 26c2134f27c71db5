"""What an opened rollout shows: record, thinking and answer with what is grounded, the audit's findings, and where a long text goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ehrmind.process_audit import audit
from ehrmind.process_audit.auditing import thinking_of
from ehrmind.process_audit.facts import known, with_numbers_of
from ehrmind.report.rollouts import split_blocks
from ehrmind.types import InputError
from ehrmind.view.cases import Asked, Cases
from ehrmind.view.difference import word_difference
from ehrmind.view.marks import Span, grounded, pieces
from ehrmind.view.paging import FIGURES, facts, group_rows, row_at, with_columns
from ehrmind.view.rollout_index import Rollouts

SHOWN = 200_000  # characters of a text at a time
IN_A_GROUP = 20_000  # of each answer, side by side
GONE = "The text is gone meanwhile; the list shows what there is."


def opened(rollouts: Rollouts, cases: Cases, number: int, row: int) -> dict[str, Any]:
    """One rollout with everything there is to it."""
    found = _whole(rollouts, number, row)
    asked = cases.asked(found["case"])
    text, earlier = found["text"], found["earlier"] or ""
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


def group(rollouts: Rollouts, cases: Cases, number: int, case: str) -> dict[str, Any]:
    """All answers to a question in one step, side by side; the record marked with what any of them takes from it."""
    rows = group_rows(rollouts, number, case)
    if not rows:
        raise InputError("There is no such group (any more).")
    asked = cases.asked(case)
    marked: set[Span] = set()
    answers = []
    for row in with_columns(rollouts, rows, ("text", *FIGURES)):
        text = GONE if row["text"] is None else row["text"]
        here, there = grounded(asked.record, text[:IN_A_GROUP])
        marked |= set(here)
        answers.append({**facts(row), **_blocks(text, there, IN_A_GROUP)})
    return {**_question(asked, sorted(marked)), "answers": answers}


def difference(rollouts: Rollouts, before: tuple[int, int], after: tuple[int, int]) -> dict[str, Any]:
    """Two answers to one question word by word. Raises InputError where they are answers to two questions."""
    old, new = _whole(rollouts, *before), _whole(rollouts, *after)
    if old["case"] != new["case"]:
        raise InputError(
            "These are answers to two questions, so there is nothing to compare; choose two answers to one."
        )
    texts = [row["text"] for row in (old, new)]
    words, compared = word_difference(*(text[:SHOWN] for text in texts))
    return {
        "before": facts(old),
        "after": facts(new),
        "words": words,
        "whole": compared and max(map(len, texts)) <= SHOWN,
    }


def rest(
    rollouts: Rollouts, cases: Cases, number: int, row: int, what: Literal["text", "record"], start: int
) -> dict[str, Any]:
    """The next stretch of a long text, and how much is left behind it."""
    found = _whole(rollouts, number, row)
    text = cases.asked(found["case"]).record if what == "record" else found["text"]
    return {"text": text[start : start + SHOWN], "rest": max(0, len(text) - start - SHOWN), "next": start + SHOWN}


def _whole(rollouts: Rollouts, number: int, row: int) -> dict[str, Any]:
    """A rollout with its texts. Raises InputError where its file is gone meanwhile."""
    (found,) = with_columns(rollouts, [row_at(rollouts, number, row)], ("text", "earlier", *FIGURES))
    if found["text"] is None:
        raise InputError(GONE)
    return found


def _question(asked: Asked, spans: Sequence[Span]) -> dict[str, Any]:
    return {
        "record": pieces(asked.record, spans, 0, min(len(asked.record), SHOWN)),
        "record_rest": max(0, len(asked.record) - SHOWN),
        "question": asked.question,
        "expected": asked.expected,
        "said": asked.said,
        "shown": SHOWN,
    }


def _blocks(text: str, spans: Sequence[Span], most: int = SHOWN) -> dict[str, Any]:
    """Thinking and answer apart where the text keeps the protocol's shape and is shown whole; otherwise the text as it is."""
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
    """The findings that have a place, and of each part how much was looked at and how much of it is right."""
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
