"""If a publication states limits in SI units, a value in those units is compared with them; at,
below and above each one.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.telling import STYLES, shown

SOFA: dict[str, Any] = {
    "pao2": "95 mm Hg",
    "fio2": "21 %",
    "platelets": "250 K/uL",
    "gcs": 15,
    "bilirubin": "0.8 mg/dL",
}
VENTILATED = SOFA | {"ventilated": True, "fio2": "100 %"}
CHILD: dict[str, Any] = {"bilirubin": "1 mg/dL", "albumin": "4 g/dL", "inr": 1}
BLEED: dict[str, Any] = {
    "sex": "male",
    "urea_nitrogen": "10 mg/dL",
    "hemoglobin": "14 g/dL",
    "systolic": 120,
    "heart_rate": 80,
}
CURB: dict[str, Any] = {
    "urea_nitrogen": "10 mg/dL",
    "respiratory_rate": 16,
    "systolic": 120,
    "diastolic": 80,
    "age": 40,
}
PSI: dict[str, Any] = {
    "age": 60,
    "sex": "male",
    "temperature": "37 C",
    "heart_rate": 80,
    "respiratory_rate": 16,
    "systolic": 120,
}
SIRS: dict[str, Any] = {
    "temperature": "37 C",
    "heart_rate": 80,
    "respiratory_rate": 14,
    "white_cells": "8 K/uL",
    "paco2": "40 mm Hg",
}

# calculator, the other inputs, input, unit, [(a limit as published, points below it, at it, above
# it)]
TABLES: list[tuple[str, dict[str, Any], str, str, list[tuple[float, int, int, int]]]] = [
    ("sofa", SOFA, "bilirubin", "mg/dL", [(1.2, 0, 1, 1), (2, 1, 2, 2), (6, 2, 3, 3), (12, 3, 4, 4)]),
    ("sofa", SOFA, "bilirubin", "µmol/L", [(20, 0, 1, 1), (33, 1, 2, 2), (102, 2, 3, 3), (204, 3, 3, 4)]),
    ("sofa", SOFA, "creatinine", "mg/dL", [(1.2, 0, 1, 1), (2, 1, 2, 2), (3.5, 2, 3, 3), (5, 3, 4, 4)]),
    ("sofa", SOFA, "creatinine", "µmol/L", [(110, 0, 1, 1), (171, 1, 2, 2), (300, 2, 3, 3), (440, 3, 3, 4)]),
    ("sofa", VENTILATED, "pao2", "mm Hg", [(100, 4, 3, 3), (200, 3, 2, 2), (300, 2, 1, 1), (400, 1, 0, 0)]),
    ("sofa", VENTILATED, "pao2", "kPa", [(13.3, 4, 3, 3), (26.7, 3, 2, 2), (40, 2, 1, 1), (53.3, 1, 0, 0)]),
    ("child-pugh", CHILD, "bilirubin", "mg/dL", [(2, 5, 6, 6), (3, 6, 6, 7)]),
    ("child-pugh", CHILD, "bilirubin", "µmol/L", [(34, 5, 6, 6), (51, 6, 6, 7)]),
    ("child-pugh", CHILD, "albumin", "g/L", [(28, 7, 6, 6), (35, 6, 6, 5)]),
    (
        "glasgow-blatchford",
        BLEED,
        "urea_nitrogen",
        "mmol/L",
        [(6.5, 0, 2, 2), (8, 2, 3, 3), (10, 3, 4, 4), (25, 4, 6, 6)],
    ),
    ("glasgow-blatchford", BLEED, "hemoglobin", "g/L", [(100, 6, 3, 3), (120, 3, 1, 1), (130, 1, 0, 0)]),
    ("curb-65", CURB, "urea_nitrogen", "mmol/L", [(7, 0, 0, 1)]),
    ("pneumonia-severity-index", PSI, "urea_nitrogen", "mmol/L", [(11, 60, 80, 80)]),
    ("pneumonia-severity-index", PSI, "urea_nitrogen", "mg/dL", [(30, 60, 80, 80)]),
    ("pneumonia-severity-index", PSI, "glucose", "mmol/L", [(14, 60, 70, 70)]),
    ("pneumonia-severity-index", PSI, "glucose", "mg/dL", [(250, 60, 70, 70)]),
    ("pneumonia-severity-index", PSI, "temperature", "°F", [(95, 75, 60, 60), (104, 60, 75, 75)]),
    ("sirs", SIRS, "paco2", "kPa", [(4.3, 1, 0, 0)]),
    ("sirs", SIRS, "paco2", "mm Hg", [(32, 1, 0, 0)]),
    ("sirs", SIRS, "temperature", "°F", [(96.8, 1, 0, 0), (100.4, 0, 0, 1)]),
    ("sirs", SIRS, "white_cells", "/uL", [(4000, 1, 0, 0), (12000, 0, 0, 1)]),
]
LIMITS = [(slug, other, name, unit, *limit) for slug, other, name, unit, limits in TABLES for limit in limits]


@pytest.mark.parametrize(("slug", "other", "name", "unit", "limit", "below", "at", "above"), LIMITS)
def test_a_value_at_below_and_above_a_published_limit_earns_the_published_points(
    slug: str, other: dict[str, Any], name: str, unit: str, limit: float, below: int, at: int, above: int
) -> None:
    step = max(abs(limit), 1) * 1e-6
    for value, points in ((limit - step, below), (limit, at), (limit + step, above)):
        assert CALCULATORS[slug](**{**other, name: (value, unit)}).value == points, f"{value} {unit}"


@given(
    table=st.sampled_from([table for table in TABLES if table[3] == "µmol/L"]),
    value=st.floats(5, 900),
    spelling=st.sampled_from(
        ["umol/L", "µmol/l", "μmol/L", "mcmol/L", "µmol·L⁻¹", "umol.L-1", "µM", "mmol/L", "nmol/L", "UMOL/L"]
    ),
)
def test_any_spelling_and_any_decimal_multiple_takes_the_limits_in_si_units(
    table: Any, value: float, spelling: str
) -> None:
    slug, other, name, _, limits = table
    value = float(f"{value:.4g}")
    times = {"mmol/L": 1e-3, "nmol/L": 1e3}.get(spelling, 1)
    wanted = next((above for limit, _, at, above in reversed(limits) if value > limit), limits[0][1])
    wanted = next((at for limit, _, at, _ in limits if value == limit), wanted)
    assert CALCULATORS[slug](**{**other, name: (value * times, spelling)}).value == wanted


@given(
    limit=st.sampled_from([(200, "mm Hg", 2), (100, "mm Hg", 3), (26.7, "kPa", 2), (13.3, "kPa", 3)]),
    percent=st.integers(20, 100),
)
def test_a_ratio_on_a_limit_stays_on_it_whatever_the_oxygen(limit: tuple[float, str, int], percent: int) -> None:
    ratio, unit, points = limit
    given = {"pao2": (ratio * percent / 100, unit), "fio2": (percent, "%"), "ventilated": True}
    if ratio * percent / 100 > (10 if unit == "mm Hg" else 1.5):
        assert CALCULATORS["sofa"](**SOFA | given).value == points


@given(st.integers(1, 600), st.integers(20, 900))
def test_more_bilirubin_and_creatinine_never_score_less_in_micromoles(bilirubin: int, creatinine: int) -> None:
    def points(more: int) -> Any:
        return CALCULATORS["sofa"](
            **SOFA | {"bilirubin": (bilirubin + more, "umol/L"), "creatinine": (creatinine + more, "umol/L")}
        ).value

    assert points(0) <= points(1)


@pytest.mark.parametrize(
    ("slug", "given", "said", "not_said"),
    [
        ("sofa", SOFA | {"bilirubin": "33 umol/L"}, "bilirubin, by the limits in µmol/L: 33 µmol/L, 2 points", "mg/dL"),
        (
            "sofa",
            SOFA | {"creatinine": "171 umol/L"},
            "kidneys, by the limits in µmol/L: creatinine 171 µmol/L, 2 points",
            "creatinine in",
        ),
        ("sofa", SOFA | {"pao2": "10 kPa", "fio2": "50 %"}, "PaO2 / FiO2 = 10 / (50 / 100) = 20 kPa", "PaO2 in"),
        (
            "child-pugh",
            CHILD | {"bilirubin": "34 umol/L"},
            "bilirubin, below 34, 34 to 51, above 51 µmol/L: 34 µmol/L, 2 points",
            "mg/dL",
        ),
        (
            "glasgow-blatchford",
            BLEED | {"urea_nitrogen": "8 mmol/L"},
            "urea nitrogen, by the limits in mmol/L: 8 mmol/L, 3 points",
            "mg/dL",
        ),
        (
            "curb-65",
            CURB | {"urea_nitrogen": "7.1 mmol/L"},
            "urea nitrogen above 7 mmol/L: 7.1 mmol/L, 1 point",
            "mg/dL",
        ),
        (
            "pneumonia-severity-index",
            PSI | {"glucose": "14 mmol/L"},
            "glucose of 14 mmol/L or more: 14 mmol/L, 10 points",
            "glucose in",
        ),
        (
            "sirs",
            SIRS | {"paco2": "4.2 kPa"},
            "PaCO2 below 4.3 kPa: 14 breaths/min, PaCO2 4.2 kPa, 1 point",
            "PaCO2 in",
        ),
    ],
)
def test_the_steps_say_which_limits_were_used(slug: str, given: dict[str, Any], said: str, not_said: str) -> None:
    told = STYLES["numbered"](CALCULATORS[slug], CALCULATORS[slug](**given))
    assert said in told and not_said not in told


@pytest.mark.parametrize("convention", ["medcalc", "medcalc-verified"])
def test_the_benchmarks_conventions_convert_as_before(convention: Any) -> None:
    steps = CALCULATORS["sofa"](convention, **SOFA | {"bilirubin": "33 umol/L"}).steps
    assert any(step.what == "total bilirubin in mg/dL" for step in steps)
    assert not any("by the limits" in step.what for step in steps)


@pytest.mark.parametrize(
    ("given", "percent"), [("0.21", 21), ("21", 21), ("21 %", 21), ("1", 100), ("0.5 ratio", 50), (0.6, 60)]
)
def test_a_share_of_oxygen_is_read_as_per_cent_or_as_a_fraction_whichever_can_be(given: Any, percent: float) -> None:
    fio2 = next(item for item in CALCULATORS["sofa"].inputs if item.name == "fio2")
    assert math.isclose(float(fio2.read(given)), percent), shown(percent)
