"""Marks numbers with units, and days, that stand both in the record and in the answer.

A number is grounded here if the record has the same number, in the same unit or with none. A bare
digit is left out, since every record has some. The process audit decides what is wrong with a
number (`ehrmind.process_audit`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ehrmind.process_audit.amounts import alike, digits
from ehrmind.process_audit.numbers import Token, tokens
from ehrmind.process_audit.thought import is_list_number
from ehrmind.process_audit.units import Unit, unit_behind

LONGEST = 200_000  # characters of a text that are searched for values
MOST_MARKS = 2_000

Piece = list[str]  # [words, kind, sentence], as the page takes it


class Span(NamedTuple):
    """A stretch of a text of the kind "grounded" or "finding", with a sentence about it."""

    start: int
    end: int
    kind: str
    said: str = ""


class Value(NamedTuple):
    key: object
    unit: Unit
    start: int
    end: int


def grounded(record: str, text: str) -> tuple[list[Span], list[Span]]:
    """(spans of the record, spans of the text) with the values that stand in both."""
    by_key: dict[object, list[Value]] = defaultdict(list)
    for value in _values(record):
        by_key[value.key].append(value)
    here: set[Span] = set()
    there: list[Span] = []
    for value in _values(text):
        same = [other for other in by_key.get(value.key, ())[:64] if alike(value.unit, other.unit)]
        if same and len(there) < MOST_MARKS:
            there.append(Span(value.start, value.end, "grounded"))
            here |= {Span(other.start, other.end, "grounded") for other in same}
    return sorted(here)[:MOST_MARKS], there


def _values(text: str) -> Iterator[Value]:
    """Numbers with their units, and days; without list numbers and bare digits."""
    found = tokens(text[:LONGEST])
    for place, token in enumerate(found):
        if token.date is not None:
            yield Value(token.date, (), token.start, token.end)
        elif token.kind == "number" and not is_list_number(found, place):
            unit, behind = unit_behind(found, place + 1)
            if unit or _tells(token):
                yield Value(round(token.value, 9), unit, token.start, found[behind - 1].end if unit else token.end)


def _tells(token: Token) -> bool:
    return digits(token) > 1 or token.worth < 1


def pieces(text: str, spans: Iterable[Span], start: int = 0, end: int | None = None) -> list[Piece]:
    """The text from `start` to `end` in pieces; where spans overlap, findings win."""
    end = len(text) if end is None else end
    cut: list[Piece] = []
    at = start
    for span in _apart(spans):
        if span.start < at or span.end > end:
            continue
        if span.start > at:
            cut.append([text[at : span.start], "", ""])
        cut.append([text[span.start : span.end], span.kind, span.said])
        at = span.end
    return [*cut, [text[at:end], "", ""]] if at < end else cut


def _apart(spans: Iterable[Span]) -> Sequence[Span]:
    """The spans in order, without those that overlap a finding or an earlier span."""
    taken: list[Span] = []
    last = -1
    ordered = sorted(spans, key=lambda span: (span.start, span.kind != "finding", -span.end))
    findings = [span for span in ordered if span.kind == "finding"]
    place = 0
    for span in ordered:
        if span.kind != "finding":
            while place < len(findings) and findings[place].end <= span.start:
                place += 1
            if place < len(findings) and findings[place].start < span.end:
                continue
        if span.start >= last:
            taken.append(span)
            last = span.end
    return taken[:MOST_MARKS]
