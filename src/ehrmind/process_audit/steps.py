"""Finds the steps of a thought that can be computed again: `expression = value`, chains of them,
and calculations with days."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ehrmind.process_audit.arithmetic import FUNCTIONS, Reading, read_expression
from ehrmind.process_audit.numbers import Token, equal_as_written
from ehrmind.process_audit.units import Unit, unit_behind

LONGEST = 480  # tokens of an expression
_ENDS = frozenset({"=", "\n", ";", "?", "!"})
_LEFT_OF = frozenset({"+", "-", "*", "/", "^"})
_DAYS = {"day": 1, "week": 7}


@dataclass(frozen=True, slots=True)
class Equation:
    """One `expression = value`.

    Places are of tokens: the expression, the value's number, and the place after the value's unit.
    `right`: the value is what the expression comes to, to the digits written. `unit_right` is None
    if units cannot be compared.
    """

    start: int
    equals: int
    value: int
    end: int
    comes_to: float
    right: bool
    unit: Unit
    unit_right: bool | None
    rounded: bool
    terms: tuple[int, ...] = ()
    """Tokens of the numbers, if the expression is a sum of bare numbers only: a running total."""


def equations(tokens: Sequence[Token]) -> list[Equation]:
    """Returns equations in the order of the text.

    It is linear: each stretch between two equals signs is read once as a right side and once as a
    left side.
    """
    found: list[Equation] = []
    rounded: set[float] = set()
    begin = 0
    for place, token in enumerate(tokens):
        if token.kind in _ENDS:
            if token.kind == "=":
                left = _left(tokens, max(begin, place - LONGEST), place, rounded)
                if left is not None and (step := _equation(tokens, left[0], left[1], place, rounded)) is not None:
                    found.append(step)
                    if step.rounded:
                        rounded.add(tokens[step.value].value)
            begin = place + 1
    return found


def _left(tokens: Sequence[Token], begin: int, equals: int, rounded: set[float]) -> tuple[int, Reading] | None:
    """Returns the expression that ends at an equals sign, and where it begins; None if there is
    none or a name is in it."""
    at = begin
    while at < equals:
        token = tokens[at]
        starts = token.kind in ("number", "(", "-") or (token.kind in ("word", "√") and token.text in FUNCTIONS)
        if not starts or (token.kind == "-" and at > begin and not _is_minus(tokens, at)):
            at += 1
            continue
        reading = read_expression(tokens, at, equals, rounded)
        if reading is None:
            at += 1
        elif reading.end == equals:
            behind_sign = at > 0 and (
                tokens[at - 1].kind in _LEFT_OF or (tokens[at - 1].text == "x" and _is_symbolic(tokens, at - 1))
            )
            return (at, reading) if reading.operators and not behind_sign else None
        else:
            at = max(reading.end, at + 1)
    return None


def _is_minus(tokens: Sequence[Token], at: int) -> bool:
    """True for a minus that belongs to the number after it: `the score -1 + 1`, not `age - 5`."""
    before, behind = tokens[at - 1], tokens[at + 1] if at + 1 < len(tokens) else None
    if before.kind not in ("number", ")", "word"):
        return True
    return (
        before.kind == "word"
        and before.end < tokens[at].start
        and behind is not None
        and behind.start == tokens[at].end
    )


def _is_symbolic(tokens: Sequence[Token], sign: int) -> bool:
    return sign > 0 and tokens[sign - 1].kind in ("word", ")")


def _equation(tokens: Sequence[Token], start: int, left: Reading, equals: int, rounded: set[float]) -> Equation | None:
    stop = min(len(tokens), equals + LONGEST)
    value = equals + 1
    sign = 1.0
    while value < stop and tokens[value].kind == "-":
        value, sign = value + 1, -sign
    if value >= stop:
        return None
    right = read_expression(tokens, equals + 1, _line_end(tokens, equals + 1, stop), rounded)
    if right is None:
        return None
    if right.operators:  # a = b * c = d: both sides are computed
        low, high = left.amount.low, left.amount.high
        slack = max(1e-9, abs(high) * 1e-6) + _slack(tokens, equals + 1, right.end)
        alike = right.amount.low - slack <= high and low <= right.amount.high + slack
        # a running sum as people jot it: 2 + 3 = 5 + 4 = 9
        carried = right.first.low - slack <= high and low <= right.first.high + slack
        return Equation(start, equals, equals + 1, right.end, left.amount.middle, alike or carried, (), None, False)
    number = tokens[value]
    if number.kind != "number":
        return None
    written = sign * number.value
    unit, end = unit_behind(tokens, value + 1)
    if math.isnan(left.amount.low):
        return Equation(
            start, equals, value, max(end, value + 1), math.nan, False, unit, None, False, _terms(tokens, start, equals)
        )
    if unit == (("week", 1),) and (age := weeks_and_days(tokens, value)) is not None:
        whole = left.amount.low <= age[0] * 7 + age[1] <= left.amount.high
        return Equation(start, equals, value, age[2], left.amount.middle, whole, unit, None, False)
    scales = (1.0, 100.0, 0.01) if left.percent or unit == (("%", 1),) else (1.0,)
    right_value = any(
        _within(left.amount.low * scale, left.amount.high * scale, written, number.worth) for scale in scales
    )
    exact = any(abs(left.amount.middle * scale - written) <= 1e-9 * abs(written) for scale in scales)
    return Equation(
        start,
        equals,
        value,
        max(_with_days(tokens, end) if unit == (("week", 1),) else end, value + 1),
        left.amount.middle,
        right_value,
        unit,
        _unit_right(left, unit),
        rounded=right_value and not exact,
        terms=_terms(tokens, start, equals),
    )


def _with_days(tokens: Sequence[Token], end: int) -> int:
    """Returns the place after the number and unit that follow weeks."""
    at = end + 1 if end < len(tokens) and (tokens[end].kind == "," or tokens[end].text == "and") else end
    return unit_behind(tokens, at + 1)[1] if at < len(tokens) and tokens[at].kind == "number" else end


def _line_end(tokens: Sequence[Token], start: int, stop: int) -> int:
    return next((place for place in range(start, stop) if tokens[place].kind in _ENDS), stop)


def _slack(tokens: Sequence[Token], start: int, end: int) -> float:
    """Returns the tolerance for a right side that is an expression: its numbers may have been
    rounded once more."""
    return max(
        (token.worth / 2 for token in tokens[start:end] if token.kind == "number" and token.worth < 1), default=0.0
    )


def _within(low: float, high: float, written: float, worth: float) -> bool:
    return low <= written <= high or equal_as_written(low, written, worth) or equal_as_written(high, written, worth)


def _unit_right(left: Reading, unit: Unit) -> bool | None:
    """True if the value's unit is the one that the expression's units come to; None if either has
    no unit."""
    if left.amount.clash:
        return False
    if not left.amount.unit or not unit or left.amount.unit == unit:
        return True if left.amount.unit and unit else None
    return None if left.amount.bare else False


def _terms(tokens: Sequence[Token], start: int, equals: int) -> tuple[int, ...]:
    """Returns the numbers of `0 + 1 - 2`: a sum of bare numbers and signs only."""
    places = [place for place in range(start, equals) if tokens[place].kind == "number"]
    bare = all(token.kind in ("number", "+", "-") for token in tokens[start:equals])
    return tuple(places) if bare and len(places) > 1 else ()


@dataclass(frozen=True, slots=True)
class DayStep:
    """A day or number of days computed from days: places of first and last token, and whether it is
    right."""

    start: int
    end: int
    right: bool


def day_steps(tokens: Sequence[Token]) -> list[DayStep]:
    """Returns calculations with days in the order of the text.

    Examples: `03/31/2006 + 280 days = 01/05/2007`, `adding 40 weeks … is 01/05/2007`, `the gap is
    14 weeks and 1 day`.
    """
    days = [place for place, token in enumerate(tokens) if token.kind == "date"]
    found: list[DayStep] = []
    for earlier, later in pairwise(days):
        if later - earlier > LONGEST:
            continue
        moved = _moved(tokens, earlier, later)
        if moved is not None:
            start = tokens[earlier].date
            assert start is not None
            try:
                expected = start + datetime.timedelta(days=moved)
            except OverflowError:
                continue
            found.append(DayStep(earlier, later, expected == tokens[later].date))
    return sorted([*found, *_gaps(tokens, days)], key=lambda step: step.end)


def _moved(tokens: Sequence[Token], earlier: int, later: int) -> int | None:
    """Returns the days that the text adds between one day and the next one written; None if it adds
    none."""
    total, sign, said = 0.0, 0, False
    for place in range(earlier + 1, later):
        token = tokens[place]
        if token.kind in ("+", "-"):
            sign = 1 if token.kind == "+" else -1
        elif token.text in ("adding", "add", "adds", "added", "plus"):
            sign = 1
        elif token.text in ("subtract", "subtracting", "subtracts", "subtracted", "minus"):
            sign = -1
        elif token.kind == "number" and sign:
            unit, _ = unit_behind(tokens, place + 1)
            days = _DAYS.get(unit[0][0]) if len(unit) == 1 else None
            if days is None:
                continue
            total, said, sign = total + sign * token.value * days, True, 0
    return round(total) if said and abs(total) < 1e6 else None


def _gaps(tokens: Sequence[Token], days: Sequence[int]) -> list[DayStep]:
    """Checks weeks and days that are said to lie between the two days written last before them."""
    found: list[DayStep] = []
    behind = 0
    for place, token in enumerate(tokens):
        while behind < len(days) and days[behind] < place:
            behind += 1
        if token.kind != "number" or behind < 2 or place - days[behind - 2] > LONGEST:
            continue
        age = weeks_and_days(tokens, place)
        if age is None or not _between(tokens, days[behind - 2], days[behind - 1]):
            continue
        first, second = tokens[days[behind - 2]].date, tokens[days[behind - 1]].date
        assert first is not None
        assert second is not None
        gap = abs((second - first).days)
        found.append(DayStep(place, age[2] - 1, age[0] * 7 + age[1] == gap and age[1] < 7))
    return found


def weeks_and_days(tokens: Sequence[Token], place: int) -> tuple[float, float, int] | None:
    """Returns (weeks, days, the place after them) for `14 weeks and 1 day`; None if no such text
    begins here."""
    unit, at = unit_behind(tokens, place + 1)
    if tokens[place].kind != "number" or unit != (("week", 1),):
        return None
    while at < len(tokens) and (tokens[at].kind == "," or tokens[at].text == "and"):
        at += 1
    if at >= len(tokens) or tokens[at].kind != "number":
        return None
    more, end = unit_behind(tokens, at + 1)
    return (tokens[place].value, tokens[at].value, end) if more == (("day", 1),) else None


def _between(tokens: Sequence[Token], first: int, second: int) -> bool:
    """True if two days stand close together, so that a gap is theirs."""
    return second - first <= 40 and _moved(tokens, first, second) is None
