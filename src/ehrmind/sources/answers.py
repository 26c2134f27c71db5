"""Sources: the texts of a benchmark row's answer and limits become a truth, checked against each other.

A truth's shape follows the calculator's kind of answer:
  decimal     {"value", "low", "high", "unit"}      integer     {"value", "unit"}
  date        {"value": "2007-01-09"}               weeks_days  {"weeks", "days"}
each with "kind" and "calculator" (its id). Only what the published files write is read; nothing is evaluated.
"""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Any

from ehrmind.calculators.catalogue import Entry

ANSWER, LOWER, UPPER = "Ground Truth Answer", "Lower Limit", "Upper Limit"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})", re.ASCII)
_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
_WEEKS_DAYS = re.compile(r"""\(\s*['"]?(\d{1,2}) weeks?['"]?\s*,\s*['"]?([0-6]) days?['"]?\s*\)""", re.ASCII)
_ABSTAINED = {"n/a", "na"}


class MisfitError(Exception):
    """A cell that does not fit: its column and what is wrong with it. Never holds a note, a question or entities."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(column, problem)
        self.column = column
        self.problem = problem


def abstention(answer: str, lower: str, upper: str) -> str | None:
    """Why the row has no answer, if it has none. An empty answer beside limits is a damaged row, not an abstention."""
    if answer.casefold() in _ABSTAINED:
        return "no answer (N/A)"
    if not answer and {lower.casefold(), upper.casefold()} <= {"", *_ABSTAINED}:
        return "no answer (empty)"
    return None


def truth(calculator: Entry, unit: str | None, answer: str, lower: str, upper: str) -> dict[str, Any]:
    """`unit` is what the question asks for. Raises MisfitError for the first cell that does not fit."""
    about = {"kind": calculator.kind, "calculator": calculator.id}
    if calculator.kind == "date":
        day, low_day, high_day = _date(answer, ANSWER), _date(lower, LOWER), _date(upper, UPPER)
        _check_order(low_day, day, high_day)
        return about | {"value": day.isoformat()}
    if calculator.kind == "weeks_days":
        age, least, most = _days(answer, ANSWER), _days(lower, LOWER), _days(upper, UPPER)
        _check_order(least, age, most)
        if age % 1:
            raise MisfitError(ANSWER, f"{shown(answer)} is not a whole number of days")
        return about | {"weeks": int(age) // 7, "days": int(age) % 7}
    value, low, high = _number(answer, ANSWER), _number(lower, LOWER), _number(upper, UPPER)
    _check_order(low, value, high)
    if calculator.kind == "decimal":
        return about | {"value": value, "low": low, "high": high, "unit": unit}
    if value % 1:
        raise MisfitError(ANSWER, f"{shown(answer)} is not a whole number, and the {calculator.name} is one")
    return about | {"value": int(value), "unit": unit}


def shown(value: str) -> str:
    """A cell for a message: quoted if it is one short word, else its length, since a shifted row may put record text anywhere."""
    return f"'{value}'" if len(value) <= 24 and len(value.split()) == 1 else f"a text of {len(value):,} characters"


def _check_order(low: float | date, value: float | date, high: float | date) -> None:
    if low > high:  # type: ignore[operator]  # all three are of one type
        raise MisfitError(LOWER, f"it is above '{UPPER}'")
    if not low <= value <= high:  # type: ignore[operator]
        raise MisfitError(ANSWER, "it is outside the row's own limits")


def _number(text: str, column: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    if not math.isfinite(value):
        raise MisfitError(column, f"{shown(text)} is not a number" if text else "it is empty, a number is wanted")
    return value


def _date(text: str, column: str) -> date:
    if match := _US_DATE.fullmatch(text):
        month, day, year = map(int, match.groups())
    elif match := _ISO_DATE.fullmatch(text):
        year, month, day = map(int, match.groups())
    else:
        raise MisfitError(column, f"{shown(text)} is not a date as MM/DD/YYYY")
    try:
        return date(year, month, day)
    except ValueError:
        raise MisfitError(column, f"{shown(text)} is not a day of the calendar") from None


def _days(text: str, column: str) -> float:
    """A gestational age in days. The physicians' corrections give days where the releases give weeks and days."""
    if match := _WEEKS_DAYS.fullmatch(text):
        weeks, days = map(int, match.groups())
        return 7 * weeks + days
    if _NUMBER.fullmatch(text):
        return _number(text, column)
    raise MisfitError(column, f"{shown(text)} is neither (weeks, days) nor a number of days")
