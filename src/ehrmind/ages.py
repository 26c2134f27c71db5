"""Ages in calendar years, for every place that shows or counts one: a patient is 17 until the day
before the 18th birthday.

Days count, times of day do not: a birthday counts from 00:00. For births on 29 February, the
birthday is 1 March in years without that day.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# unknown birth, in microseconds since 1970: the smallest int64, which is no other time
NO_BIRTH = -(2**63)
PER_YEAR = {"year": 1, "month": 12, "week": 365.25 / 7, "day": 365.25}  # units of an age in a text


def ages(born: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns years at each time: those completed, plus the share of the way to the next birthday.

    Both arguments are microseconds since 1970. NaN without a birth (`NO_BIRTH`).
    """
    import numpy as np

    known = born != NO_BIRTH
    birth, day = (np.where(known, times, 0).astype("datetime64[us]").astype("datetime64[D]") for times in (born, at))
    years = _year(day) - _year(birth)
    years = years - (_birthday(birth, years) > day)
    last, following = _birthday(birth, years), _birthday(birth, years + 1)
    return np.where(known, years + (day - last) / (following - last), np.nan)


def shown(age: float) -> float:
    """Rounds an age to two decimals, never up to a birthday: on the day before the 18th it is
    17.99."""
    return round(min(age, math.floor(age) + 0.99), 2)


def stated(number: int, unit: str) -> float:
    """Converts an age in a text to years: 14 months, 3 weeks."""
    return number / PER_YEAR[unit]


def _year(days: np.ndarray) -> np.ndarray:
    return days.astype("datetime64[Y]").astype(int) + 1970


def _birthday(birth: np.ndarray, years: np.ndarray) -> np.ndarray:
    """Returns the day of a birthday: the day of the month counted from its first, so 29 February
    becomes 1 March."""
    month = birth.astype("datetime64[M]")
    return (month + 12 * years).astype("datetime64[D]") + (birth - month.astype("datetime64[D]"))
