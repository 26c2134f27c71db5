"""Subgroups of patients: age and sex, as far as the case's provenance has them. "unknown" is a
group of its own."""

from __future__ import annotations

from collections.abc import Callable

from ehrmind.types import Case

BANDS = ((18, "under 18"), (40, "18 to 39"), (65, "40 to 64"), (80, "65 to 79"), (float("inf"), "80 and over"))
UNKNOWN = "unknown"


def age_band(case: Case) -> str:
    age = case.provenance.get("age")
    return UNKNOWN if age is None else next(band for limit, band in BANDS if age < limit)


def sex(case: Case) -> str:
    return str(case.provenance.get("sex") or UNKNOWN)


SUBGROUPS: dict[str, Callable[[Case], str]] = {"age": age_band, "sex": sex}
