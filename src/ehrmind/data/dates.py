"""Reads cells with dates strictly, with or without a time. A column has one order of day and month.

Left out on purpose: two-digit years, a spreadsheet's day numbers, month names that are not English.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from typing import Literal

from ehrmind.characters import plain
from ehrmind.data.cells import LONGEST, CellError, Column, is_null

DayOrder = Literal["day-first", "month-first"]

_TIME = (
    r"(?:[T ]\s*(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<part>[0-9]{1,9}))?)?"
    r"\s*(?P<half>[AaPp][Mm])?\s*(?P<zone>[Zz]|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_YEAR_FIRST = re.compile(
    rf"(?P<year>[0-9]{{4}})(?P<mark>[-/.]?)(?P<month>[0-9]{{2}})(?P=mark)(?P<day>[0-9]{{2}}){_TIME}"
)
_YEAR_FIRST_SHORT = re.compile(
    rf"(?P<year>[0-9]{{4}})(?P<mark>[-/.])(?P<month>[0-9]{{1,2}})(?P=mark)(?P<day>[0-9]{{1,2}}){_TIME}"
)
_YEAR_LAST = re.compile(
    rf"(?P<first>[0-9]{{1,2}})(?P<mark>[-/.])\s?(?P<second_>[0-9]{{1,2}})(?P=mark)\s?(?P<year>[0-9]{{4}}){_TIME}"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = (
    r"(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
    r"|dec(?:ember)?)\.?"
)
_DAY_NAME_YEAR = re.compile(
    rf"(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?[-\s.]*{_NAME}[-,\s]*(?P<year>[0-9]{{4}}){_TIME}", re.IGNORECASE
)
_NAME_DAY_YEAR = re.compile(
    rf"{_NAME}\s*(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?(?:,\s*|\s+)(?P<year>[0-9]{{4}}){_TIME}", re.IGNORECASE
)
_SHORT_YEAR = re.compile(r"[0-9]{1,2}[-/. ](?:[0-9]{1,2}|[A-Za-z]{3,9})[-/. ]'?[0-9]{2}(?:\s.*)?")
_MIDNIGHT = time()


def day(cell: str, order: DayOrder | None = None) -> date | None:
    """Reads a date, without its time of day if it has one; None for a null."""
    found = moment(cell, order)
    return None if found is None else found.date()


def moment(cell: str, order: DayOrder | None = None) -> datetime | None:
    """Reads a date with its time (default midnight) and its zone, if any; None for a null."""
    if is_null(cell):
        return None
    found = _moments(cell)
    if order and len(found) > 1:
        return found[order]
    if order and order not in found:
        raise CellError(f"not a day of the calendar when it is read {order}")
    if len({*found.values()}) > 1:
        raise CellError("two readings, the day before the month or the month before the day")
    return next(iter(found.values()))


def has_time(cell: str) -> bool:
    """Tells whether a cell that `day` reads has a zone, or a time other than midnight."""
    if is_null(cell):
        return False
    return any(found.timetz() != _MIDNIGHT for found in _moments(cell).values())


def order_of(column: Column, said: DayOrder | None = None) -> DayOrder | None:
    """Decides a column's order of day and month: `said` if given, otherwise as the cells agree.

    Returns None if it makes no difference. Raises InputError for a cell that is no date, for cells
    that contradict each other, and for two readings that nothing decides.
    """
    first: dict[DayOrder, int] = {}
    undecided = None
    for row, cell in enumerate(column.cells, start=1):
        if is_null(cell):
            continue
        try:
            found = _moments(cell)
            if said:
                moment(cell, said)
        except CellError as problem:
            raise column.error(row, problem) from None
        if len(found) == 1:
            first.setdefault(next(iter(found)), row)
        elif len({*found.values()}) > 1 and undecided is None:
            undecided = row
    choose = "say --dates day-first or --dates month-first (in a recipe `dates`)"
    if said:
        return said
    if len(first) > 1:
        earlier, later = sorted(first.values())
        raise column.error(
            later,
            f"its order of day and month is not that of row {earlier}; write the column in one way, as 2026-01-31",
        )
    if first:
        return next(iter(first))
    if undecided is not None:
        raise column.error(
            undecided, f"two readings, the day or the month first, and no cell of the column decides; {choose}"
        )
    return None


def _moments(cell: str) -> dict[DayOrder, datetime]:
    """Reads a cell in both orders of day and month; both are equal if the order does not matter."""
    text = plain(cell)
    if len(text) > LONGEST:
        raise CellError("not a date as 2026-01-31")
    for pattern in (_YEAR_FIRST, _YEAR_FIRST_SHORT, _DAY_NAME_YEAR, _NAME_DAY_YEAR):
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            month = _MONTHS.index(parts["name"][:3].lower()) + 1 if "name" in parts else int(parts["month"])
            made = _made(int(parts["year"]), month, int(parts["day"]), parts)
            if made is None:
                raise CellError("not a day of the calendar")
            return {"day-first": made, "month-first": made}
    if not (found := _YEAR_LAST.fullmatch(text)):
        raise _not_a_day(text)
    parts = found.groupdict()
    year, one, two = int(parts["year"]), int(parts["first"]), int(parts["second_"])
    readings: dict[DayOrder, datetime | None] = {
        "day-first": _made(year, two, one, parts),
        "month-first": _made(year, one, two, parts),
    }
    # Dates with full stops have the day first.
    if parts["mark"] == "." and readings["day-first"] is not None:
        readings["month-first"] = None if one != two else readings["day-first"]
    fits = {order: made for order, made in readings.items() if made is not None}
    if not fits:
        raise CellError("not a day of the calendar")
    return fits


def _made(year: int, month: int, number_: int, parts: dict[str, str | None]) -> datetime | None:
    """Makes a datetime; None if there is no such day. Raises CellError for an invalid time."""
    if year < 1000:
        raise CellError("not a year of four digits that begin above 0; what stands for no date is left empty")
    try:
        made = datetime(year, month, number_)
    except ValueError:
        return None
    return datetime.combine(made.date(), _clock(parts))


def _clock(parts: dict[str, str | None]) -> time:
    hour = int(parts["hour"] or 0)
    if parts["half"]:
        if not 1 <= hour <= 12:
            raise CellError("not a time of day")
        hour = hour % 12 + (12 if parts["half"].lower() == "pm" else 0)
    zone = None
    if written := parts["zone"]:
        digits = written.replace(":", "")[1:]
        sign = -1 if written[0] == "-" else 1
        shift = (
            timedelta()
            if written[0] not in "+-"
            else sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
        )
        if abs(shift) >= timedelta(hours=24):
            raise CellError("not a zone of time")
        zone = timezone(shift)
    try:
        micro = int((parts["part"] or "").ljust(6, "0")[:6])
        return time(hour, int(parts["minute"] or 0), int(parts["second"] or 0), micro, zone)
    except ValueError:
        raise CellError("not a time of day") from None


def _not_a_day(text: str) -> CellError:
    if _SHORT_YEAR.fullmatch(text):
        return CellError("not a date as 2026-01-31: a year of two digits; write four")
    if re.fullmatch(r"[0-9]{5}(?:\.[0-9]+)?", text):
        return CellError(
            "not a date as 2026-01-31: it looks like a spreadsheet's number of a day; format the column as text or as"
            " dates"
        )
    if re.fullmatch(r"[0-9]{4}(?:[-/.][0-9]{1,2})?", text):
        return CellError("not a date as 2026-01-31 but a year or a month")
    return CellError("not a date as 2026-01-31")
