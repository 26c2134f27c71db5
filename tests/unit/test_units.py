"""Clinicians' units, read and converted at the boundary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators.units import ANALYTES, convert, convert_as_medcalc, converts
from ehrmind.types import InputError

# Factors as laboratory handbooks print them.
HANDBOOK = [
    (1, "mg/dL", "µmol/L", "creatinine", 88.4),
    (124, "umol/L", "mg/dL", "creatinine", 1.403),
    (1, "mmol/L", "mg/dL", "glucose", 18.016),
    (7, "mmol/L", "mg/dL", "urea nitrogen", 19.61),
    (1, "mg/dL", "µmol/L", "bilirubin", 17.1),
    (2.5, "mmol/L", "mg/dL", "calcium", 10.02),
    (5, "mEq/L", "mg/dL", "calcium", 10.02),
    (1, "mmol/L", "mg/dL", "cholesterol", 38.67),
    (1, "mmol/L", "mg/dL", "triglycerides", 88.5),
    (140, "mmol/L", "mEq/L", "sodium", 140),
    (10, "µIU/mL", "pmol/L", "insulin", 60),
    (8.7, "mmol/L", "g/dL", "hemoglobin", 14.02),
    (98.6, "°F", "C", None, 37.0),
    (37, "degrees Celsius", "F", None, 98.6),
    (154, "lbs", "kg", None, 69.85),
    (72, "inches", "cm", None, 182.88),
    (10, "kPa", "mm Hg", None, 75.006),
    (18, "months", "years", None, 1.5),
    (250_000, "/µL", "10^9/L", None, 250),
    (250, "K/uL", "10^9/L", None, 250),
    (250, "x10*3/mm3", "10^9/L", None, 250),
    (1.2, "L/day", "mL/day", None, 1200),
    (80, "beats per minute", "bpm", None, 80),
    (0.4, "s", "msec", None, 400),
]


@pytest.mark.parametrize(("value", "unit", "wanted", "analyte", "expected"), HANDBOOK)
def test_conversions_are_those_of_the_handbooks(
    value: float, unit: str, wanted: str, analyte: str | None, expected: float
) -> None:
    assert convert(value, unit, wanted, analyte) == pytest.approx(expected, rel=1e-3)


@given(value=st.floats(0.01, 1e4), analyte=st.sampled_from(sorted(ANALYTES)))
def test_there_and_back_is_where_one_was(value: float, analyte: str) -> None:
    unit, other = {"insulin": ("U/L", "pmol/L"), "enzyme": ("U/L", "µkat/L")}.get(analyte, ("mg/dL", "µmol/L"))
    assert convert(convert(value, unit, other, analyte), other, unit, analyte) == pytest.approx(value)


@pytest.mark.parametrize(
    ("unit", "wanted", "analyte", "said"),
    [
        ("mmol/L", "mg/dL", None, "'mmol/L' does not convert to mg/dL"),
        ("mmol/L", "g/dL", "sodium and chloride", "does not convert"),
        ("kg", "cm", None, "'kg' does not convert to cm"),
        ("bananas", "kg", None, "'bananas' is not a unit known here"),
        ("mg/dL/min", "mg/dL", "creatinine", "does not convert"),
        ("mg", "C", None, "'mg' is not a temperature; write C or F"),
        ("__import__('os')", "kg", None, "is not a unit known here"),
        ("9**9**9", "kg", None, "is not a unit known here"),
        ("k" * 1000, "kg", None, "that is no unit"),
    ],
)
def test_what_does_not_convert_is_refused(unit: str, wanted: str, analyte: str | None, said: str) -> None:
    assert not converts(unit, wanted, analyte)
    with pytest.raises(InputError) as refusal:
        convert(1.0, unit, wanted, analyte)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "analyte", "expected"),
    [
        (49, "µmol/L", "mg/dL", "creatinine", 0.6),  # 0.0055 g is rounded to 0.006
        (4.25, "mmol/L", "mg/dL", "calcium", 16.0),  # 0.004 mol, not 0.00425
        (28, "g/L", "g/dL", "albumin", 2.8),  # only the volume changes
        (1.2, "mg/dL", "mg/dL", "creatinine", 1.2),
        (98.6, "F", "C", None, 37.0),  # no concentration: as it is
    ],
)
def test_the_first_release_rounds_on_the_way(
    value: float, unit: str, wanted: str, analyte: str | None, expected: float
) -> None:
    assert convert_as_medcalc(value, unit, wanted, analyte) == pytest.approx(expected)
