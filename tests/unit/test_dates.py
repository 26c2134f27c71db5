"""Days are read whole: ISO, named months, and both orders of day and month where the column or the
user decides.
"""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.data.cells import CellError, Column
from ehrmind.data.dates import DayOrder, day, has_time, moment, order_of
from ehrmind.types import InputError

DAYS = st.dates(datetime.date(1000, 1, 1), datetime.date(2999, 12, 31))
ORDERS: list[DayOrder] = ["day-first", "month-first"]


def column(*cells: str) -> Column:
    return Column("q.csv", "answer", cells)


def written(made: datetime.date, order: DayOrder, mark: str, padded: bool) -> str:
    one, two = (made.day, made.month) if order == "day-first" else (made.month, made.day)
    return f"{one:02d}{mark}{two:02d}{mark}{made.year:04d}" if padded else f"{one}{mark}{two}{mark}{made.year:04d}"


@given(
    DAYS,
    st.sampled_from(["-", "/", ".", ""]),
    st.sampled_from(["", " 00:00", "T00:00:00", " 00:00:00.000000", "T00:00:00Z", " 23:59:59+02:00"]),
)
def test_a_day_that_begins_with_its_year_has_one_reading(made: datetime.date, mark: str, clock: str) -> None:
    assert day(made.strftime(f"%Y{mark}%m{mark}%d").zfill(8 + 2 * len(mark)) + clock) == made


@given(DAYS, st.sampled_from(["%d %B %Y", "%d-%b-%Y", "%b %d, %Y", "%d%b%Y"]))
def test_a_day_with_its_month_in_words_has_one_reading(made: datetime.date, form: str) -> None:
    assert day(made.strftime(form.replace("%Y", f"{made.year:04d}"))) == made


@given(st.lists(DAYS, min_size=1, max_size=5), st.sampled_from(ORDERS), st.sampled_from(["/", "-"]), st.booleans())
def test_a_column_in_one_order_is_read_in_it_or_refused(
    made: list[datetime.date], order: DayOrder, mark: str, padded: bool
) -> None:
    cells = column(*(written(one, order, mark, padded) for one in made))
    assert [day(cell, order_of(cells, order)) for cell in cells.cells] == made
    try:
        found = order_of(cells)
    except InputError as error:
        assert "q.csv, row " in str(error) and "--dates" in str(error)
        assert all(one.day <= 12 for one in made)
        return
    assert [day(cell, found) for cell in cells.cells] == made


@given(st.text(max_size=14))
def test_any_text_is_a_day_a_null_or_refused(text: str) -> None:
    try:
        found = day(text)
    except CellError:
        return
    assert found is None or any(character.isdigit() for character in text)


def test_full_stops_stand_behind_days_unless_that_is_no_day() -> None:
    assert day("31.01.2026") == day("1.31.2026") == datetime.date(2026, 1, 31)
    assert (
        day("01.02.2026") == datetime.date(2026, 2, 1) and order_of(column("01.02.2026", "02/01/2026")) == "day-first"
    )
    assert day("05/05/2026") == datetime.date(2026, 5, 5) and order_of(column("05/05/2026", "2026-01-31")) is None


def test_orders_that_contradict_each_other_are_refused_with_both_rows() -> None:
    with pytest.raises(InputError, match="row 3, column 'answer': its order of day and month is not that of row 2"):
        order_of(column("01/02/2026", "01/31/2026", "31/01/2026"))


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("2026-01-315", "not a date"),
        ("2026-01-31xyz", "not a date"),
        ("2026-02-30", "calendar"),
        ("31/31/2026", "calendar"),
        ("2026-01-31 25:00", "time of day"),
        ("31.01.26", "two digits"),
        ("1/2/26", "two digits"),
        ("46053", "spreadsheet"),
        ("46053.5", "spreadsheet"),
        ("2026", "a year or a month"),
        ("2026-01", "a year or a month"),
        ("0001-01-01", "four digits"),
        ("01/02/2026", "two readings"),
        ("soon", "not a date"),
    ],
)
def test_what_is_no_single_day_is_refused_with_what_is_wrong(cell: str, says: str) -> None:
    with pytest.raises(CellError, match=says):
        day(cell)


def test_the_epoch_is_a_day_and_nothing_is_none() -> None:
    assert day("1970-01-01") == datetime.date(1970, 1, 1) and moment("1970-01-01T00:00:00Z") == datetime.datetime(
        1970, 1, 1, tzinfo=datetime.UTC
    )
    assert [day(cell) for cell in ("", "NaT", "NULL", "\\N", "<NA>", "NaN")] == [None] * 6


def test_a_time_of_day_is_known_and_midnight_is_none() -> None:
    assert [has_time(cell) for cell in ("2026-01-31 10:15", "1/31/2026 3:05 PM", "2026-01-31T00:00:00Z")] == [
        True,
        True,
        True,
    ]
    assert (
        not has_time("2026-01-31 00:00:00.000000")
        and not has_time("")
        and moment("1/31/2026 3:05 PM") == datetime.datetime(2026, 1, 31, 15, 5)
    )
