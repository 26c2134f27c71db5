"""Limits of common laboratory results in adults, so that a history can say `high` and `low`.

The limits follow the American Board of Internal Medicine's table of laboratory reference ranges
(2024). Where the sexes differ, the wider limits are used. They are not the limits of the laboratory
that measured, nor those of children or of pregnancy.

A glucose is not known to be fasting, so its upper limit is the American Diabetes Association's for
two hours after a load. HbA1c has limits in both units that its two reference methods report (4.0 to
5.6 %, 20 to 38 mmol/mol).

Tests are identified by LOINC number, the code's own or its parent's. A result whose unit has no
rule for the test gets no flag and is counted. Deliberately left out: urine, fluids, drug levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ehrmind.calculators.units import straight_line
from ehrmind.types import InputError


class Range(NamedTuple):
    """Limits in `unit`; None on a side without one.

    `analyte` is the name under which its units convert into each other. `also` has the limits as
    stated in another unit: (low, high, unit).
    """

    low: float | None
    high: float | None
    unit: str
    analyte: str | None = None
    also: tuple[float, float, str] | None = None


RANGES: dict[tuple[str, ...], Range] = {
    ("2951-2", "2947-0"): Range(136, 145, "mEq/L", "sodium"),
    ("2823-3", "6298-4"): Range(3.5, 5.0, "mEq/L", "potassium"),
    ("2075-0", "2069-3"): Range(98, 106, "mEq/L", "chloride"),
    ("1963-8", "2028-9", "1959-6", "20565-8"): Range(23, 28, "mEq/L", "bicarbonate"),
    ("3094-0", "6299-2"): Range(8, 20, "mg/dL", "urea nitrogen"),
    ("2160-0", "38483-4"): Range(0.5, 1.3, "mg/dL", "creatinine"),
    ("2345-7", "2339-0", "41653-7"): Range(70, 140, "mg/dL", "glucose"),
    ("17861-6", "49765-1"): Range(8.6, 10.2, "mg/dL", "calcium"),
    ("19123-9",): Range(1.6, 2.6, "mg/dL", "magnesium"),
    ("2777-1",): Range(3.0, 4.5, "mg/dL", "phosphorus"),
    ("1751-7",): Range(3.5, 5.5, "g/dL", "albumin"),
    ("2885-2",): Range(5.5, 9.0, "g/dL"),
    ("1975-2",): Range(0.3, 1.0, "mg/dL", "bilirubin"),
    ("1742-6",): Range(10, 40, "U/L", "enzyme"),
    ("1920-8",): Range(10, 40, "U/L", "enzyme"),
    ("6768-6",): Range(30, 120, "U/L", "enzyme"),
    ("718-7",): Range(12, 17, "g/dL", "hemoglobin"),
    ("4544-3", "20570-8"): Range(36, 51, "%", "hematocrit"),
    ("777-3",): Range(150, 450, "10^9/L"),
    ("6690-2",): Range(4, 11, "10^9/L"),
    ("5902-2",): Range(11, 13, "s"),
    ("14979-9", "3173-2"): Range(25, 35, "s"),
    ("4548-4",): Range(4.0, 5.6, "%", "HbA1c", also=(20, 38, "mmol/mol")),
    ("2093-3",): Range(None, 200, "mg/dL", "cholesterol"),
    ("2571-8",): Range(None, 150, "mg/dL", "triglycerides"),
    ("11557-6", "2019-8"): Range(35, 45, "mm Hg"),
}
_BY_LOINC = {loinc: limits for loincs, limits in RANGES.items() for loinc in loincs}
NONE = (None, None)


def limits(code: str, unit: str | None, parents: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Returns (low, high) in the result's own unit; None for a limit that does not exist.

    `parents` maps codes that are not LOINC to LOINC codes.
    """
    known = _range(code, parents)
    if known is None or unit is None:
        return NONE
    if known.also is not None and (line := _line(known.also[2], unit, None)):
        return _along(line, *known.also[:2])
    line = _line(known.unit, unit, known.analyte)
    return NONE if line is None else _along(line, known.low, known.high)


def is_unread(code: str, unit: str | None, parents: Mapping[str, str]) -> bool:
    """True if a test has limits but none in this unit, because it is missing, unknown or without a
    rule."""
    return _range(code, parents) is not None and limits(code, unit, parents) == NONE


def _range(code: str, parents: Mapping[str, str]) -> Range | None:
    vocabulary, _, number = (parents.get(code) or code).replace("//", "/").partition("/")
    return _BY_LOINC.get(number) if vocabulary.upper() == "LOINC" else None


def _line(stated: str, unit: str, analyte: str | None) -> tuple[float, float] | None:
    try:
        return straight_line(stated, unit, analyte)
    except InputError:
        return None


def _along(line: tuple[float, float], low: float | None, high: float | None) -> tuple[float | None, float | None]:
    factor, offset = line
    return None if low is None else low * factor + offset, None if high is None else high * factor + offset
