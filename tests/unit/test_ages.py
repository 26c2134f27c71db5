"""Ages: calendar years, one more from the birthday on, the same in every place."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.ages import NO_BIRTH, ages, shown, stated


def whole_years(born: date, on: date) -> int:
    """Returns years completed on a day; negative before birth."""
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def age(born: datetime, at: datetime) -> float:
    return float(ages(np.array([micros(born)]), np.array([micros(at)]))[0])


@pytest.mark.parametrize(
    ("born", "day", "years"),
    [
        (date(2000, 5, 17), date(2018, 5, 16), 17),
        (date(2000, 5, 17), date(2018, 5, 17), 18),
        (date(2004, 2, 29), date(2022, 2, 28), 17),
        (date(2004, 2, 29), date(2022, 3, 1), 18),
        (date(2004, 2, 29), date(2024, 2, 28), 19),
        (date(2004, 2, 29), date(2024, 2, 29), 20),
        (date(1970, 1, 1), date(2019, 6, 1), 49),
        (date(1999, 12, 31), date(2000, 1, 1), 0),
        (date(2000, 1, 1), date(1999, 12, 31), -1),
    ],
)
def test_a_person_is_a_year_older_from_the_birthday_on(born: date, day: date, years: int) -> None:
    assert whole_years(born, day) == years
    for clock in (datetime.min.time(), datetime.max.time()):  # whatever the time of day, of birth and of the question
        assert math.floor(age(datetime.combine(born, datetime.max.time()), datetime.combine(day, clock))) == years


def test_on_the_day_before_the_birthday_no_place_rounds_the_age_up() -> None:
    before = age(datetime(1980, 4, 11), datetime(1998, 4, 10, 23, 59))
    assert shown(before) == 17.99 and shown(age(datetime(1980, 4, 11), datetime(1998, 4, 11))) == 18.0
    assert shown(stated(6574, "day")) == 17.99 and stated(18, "month") == 1.5


def test_without_a_birth_there_is_no_age_and_a_birth_at_the_number_0_is_one() -> None:
    found = ages(np.array([NO_BIRTH, 0]), np.array([micros(datetime(2019, 6, 1))] * 2))
    assert math.isnan(found[0]) and math.floor(found[1]) == 49


@given(st.dates(date(1850, 1, 1), date(2100, 12, 31)), st.integers(0, 45_000))
def test_by_columns_and_by_days_an_age_is_the_same(born: date, days: int) -> None:
    day = born + timedelta(days=days)
    found = age(datetime.combine(born, datetime.min.time()), datetime.combine(day, datetime.min.time()))
    assert math.floor(found) == math.floor(shown(found)) == whole_years(born, day)
    assert found < age(
        datetime.combine(born, datetime.min.time()), datetime.combine(day + timedelta(days=1), datetime.min.time())
    )
