"""Reads a thought once into tokens, sentences and steps. Also defines what the parts of the audit
return: findings and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ehrmind.process_audit.numbers import Token, tokens
from ehrmind.process_audit.steps import DayStep, Equation, day_steps, equations

_ENDS = frozenset({".", "\n", ";", "?", "!"})


class Finding(NamedTuple):
    """An error, and where it is in the characters of the audited text.

    `what` is one of a few fixed sentences and holds nothing of a record. `detail` may, such as the
    value of a step. A finding about something absent has no place.
    """

    part: str
    start: int | None
    end: int | None
    what: str
    detail: str = ""


class Looked(NamedTuple):
    """How many things one part looked at, and the findings among them."""

    checked: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Thought:
    """A tokenized thought.

    `sentences` are ranges of tokens. `results` are the tokens of values that an expression before
    them comes to; `operands` are those inside the expressions.
    """

    text: str
    offset: int
    tokens: Sequence[Token]
    sentences: Sequence[tuple[int, int]]
    equations: Sequence[Equation]
    days: Sequence[DayStep]
    results: frozenset[int]
    operands: frozenset[int]

    def found(self, part: str, first: int, last: int, what: str, detail: str = "") -> Finding:
        """Makes a finding from one token to another, both included."""
        return Finding(part, self.offset + self.tokens[first].start, self.offset + self.tokens[last].end, what, detail)

    def kind(self, place: int) -> str:
        return self.tokens[place].kind if 0 <= place < len(self.tokens) else ""

    def word(self, place: int) -> str:
        return self.tokens[place].text if 0 <= place < len(self.tokens) and self.tokens[place].kind == "word" else ""

    def signed(self, place: int) -> float:
        """Returns a number with its minus sign, if the sign touches the number and nothing touches
        the sign."""
        value = self.tokens[place].value
        if self.kind(place - 1) != "-" or self.tokens[place - 1].end != self.tokens[place].start:
            return value
        before = self.tokens[place - 2] if place > 1 else None
        return (
            value
            if before and before.end == self.tokens[place - 1].start and before.kind in ("number", "word", ")")
            else -value
        )


def read_thought(text: str, offset: int = 0) -> Thought:
    """Reads a thought; `offset` is where it begins in the text that findings point into."""
    found = tokens(text)
    steps = equations(found)
    operands = frozenset(place for step in steps for place in range(step.start, step.equals))
    return Thought(
        text,
        offset,
        found,
        _sentences(found),
        steps,
        day_steps(found),
        frozenset(step.value for step in steps),
        operands,
    )


def _sentences(found: Sequence[Token]) -> list[tuple[int, int]]:
    begin, ranges = 0, []
    for place, token in enumerate(found):
        if token.kind in _ENDS and not _list_number(found, place):
            if place > begin:
                ranges.append((begin, place))
            begin = place + 1
    return [*ranges, (begin, len(found))] if begin < len(found) else ranges


def _list_number(found: Sequence[Token], dot: int) -> bool:
    """True for the full stop of `12. heart rate` at the start of a line."""
    return found[dot].kind == "." and is_list_number(found, dot - 1)


def is_list_number(found: Sequence[Token], place: int) -> bool:
    """True if a number only counts the lines."""
    if place < 0 or found[place].kind != "number" or found[place].worth != 1:
        return False
    follows = (
        place + 1 < len(found) and found[place + 1].kind in (".", ")") and found[place + 1].start == found[place].end
    )
    return follows and (place == 0 or found[place - 1].kind == "\n")
