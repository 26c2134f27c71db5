"""Makes a truth of a benchmark row's answer and limits, and checks them against each other.

A truth's shape depends on the calculator's kind of answer:
  decimal     {"value", "low", "high", "unit"}      integer     {"value", "unit"}
  date        {"value": "2007-01-09"}               weeks_days  {"weeks", "days"}
each with "kind" and "calculator" (its id). `cells` and `dates` read the cells: dates with the month
first, as in the benchmark, and numbers with the decimal mark of their column. Nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from ehrmind.calculators.catalogue import Entry
from ehrmind.data.cells import CellError, Decimal, is_no_number, is_null, number
from ehrmind.data.dates import day

ANSWER, LOWER, UPPER = "Ground Truth Answer", "Lower Limit", "Upper Limit"
POINTS: Mapping[str, Decimal] = {ANSWER: "point", LOWER: "point", UPPER: "point"}
_WEEKS_DAYS = re.compile(r"""\(\s*['"]?(\d{1,2}) weeks?['"]?\s*,\s*['"]?([0-6]) days?['"]?\s*\)""", re.ASCII)
_ABSTAINED = {"n/a", "na"}


class MisfitError(Exception):
    """Error for a wrong cell: its column and the problem, without text of the record."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(column, problem)
        self.column = column
        self.problem = problem


def abstention(answer: str, lower: str, upper: str) -> str | None:
    """Returns why the row has no answer; None if it has one.

    An empty answer with limits is a damaged row, not an abstention.
    """
    if answer.casefold() in _ABSTAINED:
        return "no answer (N/A)"
    if is_null(answer) and is_null(lower) and is_null(upper):
        return "no answer (empty)"
    return None


def truth(
    calculator: Entry, unit: str | None, answer: str, lower: str, upper: str, decimals: Mapping[str, Decimal] = POINTS
) -> dict[str, Any]:
    """Makes the truth of a row. Raises MisfitError for the first wrong cell.

    `unit` is the one that the question asks for, `decimals` has each column's decimal mark.
    """
    about = {"kind": calculator.kind, "calculator": calculator.id}
    if calculator.kind == "date":
        day, low_day, high_day = _date(answer, ANSWER), _date(lower, LOWER), _date(upper, UPPER)
        _check_order(low_day, day, high_day)
        return about | {"value": day.isoformat()}
    if calculator.kind == "weeks_days":
        age, least, most = (
            _days(text, column, decimals) for text, column in ((answer, ANSWER), (lower, LOWER), (upper, UPPER))
        )
        _check_order(least, age, most)
        if age % 1:
            raise MisfitError(ANSWER, "it is not a whole number of days")
        return about | {"weeks": int(age) // 7, "days": int(age) % 7}
    value, low, high = (
        _number(text, column, decimals) for text, column in ((answer, ANSWER), (lower, LOWER), (upper, UPPER))
    )
    _check_order(low, value, high)
    if calculator.kind == "decimal":
        return about | {"value": value, "low": low, "high": high, "unit": unit}
    if value % 1:
        raise MisfitError(ANSWER, f"it is not a whole number, and the {calculator.name} is one")
    return about | {"value": int(value), "unit": unit}


def _check_order(low: float | date, value: float | date, high: float | date) -> None:
    if low > high:  # type: ignore[operator]  # all three are of one type
        raise MisfitError(LOWER, f"it is above '{UPPER}'")
    if not low <= value <= high:  # type: ignore[operator]
        raise MisfitError(ANSWER, "it is outside the row's own limits")


def _number(text: str, column: str, decimals: Mapping[str, Decimal]) -> float:
    try:
        value = number(text, decimals[column])
    except CellError:
        raise MisfitError(column, "it is not a number") from None
    if value is None:
        empty = is_null(text)
        raise MisfitError(column, "it is empty, a number is wanted" if empty else "it is not a number")
    return value


def _date(text: str, column: str) -> date:
    try:
        found = day(text, "month-first")
    except CellError as problem:
        no_such = "calendar" in str(problem)
        raise MisfitError(
            column, f"it is not {'a day of the calendar' if no_such else 'a date'} as MM/DD/YYYY"
        ) from None
    if found is None:
        raise MisfitError(column, "it is not a date as MM/DD/YYYY")
    return found


def _days(text: str, column: str, decimals: Mapping[str, Decimal]) -> float:
    """Reads a gestational age in days.

    The physicians' corrections give days, the releases weeks and days.
    """
    if match := _WEEKS_DAYS.fullmatch(text):
        weeks, days = map(int, match.groups())
        return 7 * weeks + days
    try:
        if not is_no_number(text):
            return _number(text, column, decimals)
    except MisfitError:
        pass
    raise MisfitError(column, "it is neither (weeks, days) nor a number of days")
