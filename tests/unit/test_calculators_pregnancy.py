"""Due date, day of conception and gestational age."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

DUE, CONCEPTION, AGE = (CALCULATORS[number] for number in (13, 68, 69))
DAY = datetime.timedelta(days=1)
DAYS = st.dates(datetime.date(1950, 1, 1), datetime.date(2090, 12, 31))

EXAMPLES: list[tuple[int, dict[str, Any], Any]] = [
    # Naegele: a year on, three months back, seven days on: 1 January comes to 8 October, in a leap
    # year a day earlier.
    (13, {"last_period": "2023-01-01"}, datetime.date(2023, 10, 8)),
    (13, {"last_period": "01/01/2024"}, datetime.date(2024, 10, 7)),
    (13, {"last_period": "2023-01-01", "cycle_length": 35}, datetime.date(2023, 10, 15)),
    (13, {"last_period": "2023-01-01", "cycle_length": 24}, datetime.date(2023, 10, 4)),
    (68, {"last_period": "2023-01-01"}, datetime.date(2023, 1, 15)),
    (68, {"last_period": "2024-02-20"}, datetime.date(2024, 3, 5)),  # over the leap day
    (68, {"last_period": "2023-01-01", "cycle_length": "35 days"}, datetime.date(2023, 1, 22)),
    (68, {"last_period": "2023-01-01", "cycle_length": "3 weeks"}, datetime.date(2023, 1, 8)),
    (69, {"last_period": "2023-01-01", "today": "2023-01-01"}, (0, 0)),
    (69, {"last_period": "2023-01-01", "today": "2023-10-08"}, (40, 0)),
    (69, {"last_period": "2023-12-01", "today": "2024-03-01"}, (13, 0)),  # 31 + 31 + 29 = 91 days
    (69, {"last_period": "2022-12-01", "today": "2023-03-01"}, (12, 6)),  # 31 + 31 + 28 = 90 days
]


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_counted_on_a_calendar(number: int, values: dict[str, Any], expected: Any) -> None:
    assert CALCULATORS[number](**values).value == expected


@given(DAYS, st.integers(20, 45))
def test_birth_is_266_days_after_conception_and_both_follow_the_cycle(day: datetime.date, cycle: int) -> None:
    due, conceived = (calculator(last_period=day, cycle_length=cycle).value for calculator in (DUE, CONCEPTION))
    assert due - conceived == 266 * DAY  # type: ignore[operator]
    assert due == DUE(last_period=day).value + (cycle - 28) * DAY  # type: ignore[operator]
    assert conceived == CONCEPTION(last_period=day, cycle_length=(cycle / 7, "weeks")).value


@given(DAYS, st.integers(0, 315))
def test_the_gestational_age_is_the_days_since_the_last_period(day: datetime.date, passed: int) -> None:
    weeks, days = AGE(last_period=day.isoformat(), today=f"{day + passed * DAY:%m/%d/%Y}").value  # type: ignore[misc]
    assert 0 <= days < 7
    assert weeks * 7 + days == passed


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (13, {}, "needs last_period"),
        (13, {"last_period": "2023-02-29"}, "is not a day"),
        (13, {"last_period": "9999-12-01"}, "too late for a calendar"),
        (13, {"last_period": "2023-01-01", "cycle_length": 28.5}, "not a whole number of days"),
        (68, {"last_period": "2023-01-01", "cycle_length": 280}, "outside 15 to 60 days"),
        (68, {"last_period": "2023-01-01", "cycle_length": "28 kg"}, "does not convert to days"),
        (69, {"last_period": "2023-01-01"}, "needs today"),
        (69, {"last_period": "2023-01-02", "today": "2023-01-01"}, "before the last menstrual period"),
        (69, {"last_period": "2022-01-01", "today": "2023-01-01"}, "52 weeks after the last menstrual period"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_a_cycle_that_is_not_given_is_28_days_aloud() -> None:
    assert DUE(last_period="2023-01-01").assumed == ("cycle length: not given, so the standard 28 days",)


def test_the_first_release_puts_the_due_date_later_for_a_short_cycle() -> None:
    short, long = {"last_period": "2023-01-01", "cycle_length": 24}, {"last_period": "2023-01-01", "cycle_length": 32}
    assert DUE("medcalc", **short).value == DUE(**long).value == DUE("medcalc", **long).value
    assert DUE("medcalc-verified", **short).value == DUE(**short).value


@pytest.mark.parametrize("release", ["medcalc", "medcalc-verified"])
def test_both_releases_pass_over_the_cycle_for_the_conception(release: Any) -> None:
    assert CONCEPTION(release, last_period="2023-01-01", cycle_length=24).value == datetime.date(2023, 1, 15)
