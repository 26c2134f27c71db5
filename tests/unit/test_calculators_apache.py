"""APACHE II."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.apache import AGES, CREATININES, band
from ehrmind.types import InputError

APACHE = CALCULATORS["apache-ii"]
# Young, and everything in the band that earns nothing.
WELL: dict[str, Any] = {
    "age": 30,
    "temperature": "37 C",
    "systolic": 120,
    "diastolic": 80,
    "heart_rate": 80,
    "respiratory_rate": 16,
}
WELL |= {
    "fio2": "21 %",
    "pao2": "90 mm Hg",
    "ph": 7.4,
    "sodium": "140 mEq/L",
    "potassium": "4 mEq/L",
    "creatinine": "0.9 mg/dL",
}
WELL |= {"hematocrit": "40 %", "white_cells": "8 K/uL", "gcs": 15}
WORST: dict[str, Any] = {
    "age": 80,
    "organ_failure_history": True,
    "temperature": "28 C",
    "systolic": 60,
    "diastolic": 30,
    "heart_rate": 30,
}
WORST |= {
    "respiratory_rate": 4,
    "fio2": "100 %",
    "aa_gradient": 600,
    "ph": 7.0,
    "sodium": "105 mEq/L",
    "potassium": "2 mEq/L",
}
WORST |= {
    "creatinine": "5 mg/dL",
    "acute_kidney_failure": True,
    "hematocrit": "15 %",
    "white_cells": "0.5 K/uL",
    "gcs": 3,
}

EXAMPLES: list[tuple[dict[str, Any], int]] = [
    (WELL, 0),
    (WORST, 71),  # age 6, chronic 5, ten measurements 4 each, creatinine 4 doubled, 15 - 3: the highest score of Knaus 1985
    # Age 5, temperature 39.2 3, mean (90 + 2 * 60) / 3 = 70 0, heart rate 115 2, breaths 26 1,
    # sodium 129 2, GCS 14 1.
    (WELL | {"age": 70, "temperature": "39.2 C", "systolic": 90, "diastolic": 60, "heart_rate": 115, "respiratory_rate": 26,
             "sodium": "129 mEq/L", "gcs": 14}, 14),
    # pH 7.3 2, potassium 5.7 1, creatinine 2.4 3, hematocrit 28 2, white cells 22 2, PaO2 58 3.
    (WELL | {"ph": 7.3, "potassium": "5.7 mEq/L", "creatinine": "2.4 mg/dL", "hematocrit": "28 %", "white_cells": "22 K/uL",
             "pao2": "58 mm Hg"}, 13),
    (WELL | {"creatinine": "2.4 mg/dL", "acute_kidney_failure": True}, 6),
    (WELL | {"creatinine": "0.5 mg/dL", "acute_kidney_failure": True}, 2),
    (WELL | {"organ_failure_history": True}, 5),
    (WELL | {"organ_failure_history": True, "admitted_after": "emergency surgery"}, 5),
    (WELL | {"organ_failure_history": True, "admitted_after": "elective surgery"}, 2),
    # On half oxygen the gradient is scored and the pressure is not, below it the other way round.
    (WELL | {"fio2": "50 %", "aa_gradient": 350, "pao2": "50 mm Hg"}, 3),
    (WELL | {"fio2": "49 %", "aa_gradient": 350, "pao2": "50 mm Hg"}, 4),
]  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), EXAMPLES)
def test_worked_by_hand(values: dict[str, Any], expected: int) -> None:
    value = APACHE(**values).value
    assert value == expected
    assert isinstance(value, int)


# (input, unit, (a value, its points) across the bands of table 1 in Knaus 1985)
BANDS: list[tuple[str, str, list[tuple[float, int]]]] = [
    (
        "temperature",
        "C",
        [
            (41, 4),
            (40.9, 3),
            (39, 3),
            (38.9, 1),
            (38.4, 0),
            (36, 0),
            (35.9, 1),
            (34, 1),
            (33.9, 2),
            (31.9, 3),
            (29.9, 4),
        ],
    ),
    ("heart_rate", "bpm", [(180, 4), (179, 3), (139, 2), (109, 0), (70, 0), (69, 2), (54, 3), (39, 4)]),
    ("respiratory_rate", "breaths/min", [(50, 4), (49, 3), (34, 1), (24, 0), (12, 0), (11, 1), (9, 2), (5, 4)]),
    ("pao2", "mm Hg", [(71, 0), (70, 1), (61, 1), (60, 3), (55, 3), (54, 4)]),
    ("ph", "", [(7.7, 4), (7.69, 3), (7.59, 1), (7.49, 0), (7.33, 0), (7.32, 2), (7.24, 3), (7.14, 4)]),
    ("sodium", "mEq/L", [(180, 4), (179, 3), (159, 2), (154, 1), (149, 0), (130, 0), (129, 2), (119, 3), (110, 4)]),
    ("potassium", "mEq/L", [(7, 4), (6.9, 3), (5.9, 1), (5.4, 0), (3.5, 0), (3.4, 1), (2.9, 2), (2.4, 4)]),
    ("creatinine", "mg/dL", [(3.5, 4), (3.4, 3), (1.9, 2), (1.4, 0), (0.6, 0), (0.5, 2)]),
    ("hematocrit", "%", [(60, 4), (59.9, 2), (49.9, 1), (45.9, 0), (30, 0), (29.9, 2), (19.9, 4)]),
    ("white_cells", "K/uL", [(40, 4), (39.9, 2), (19.9, 1), (14.9, 0), (3, 0), (2.9, 2), (0.9, 4)]),
    ("age", "years", [(44, 0), (45, 2), (55, 3), (65, 5), (75, 6)]),
    ("gcs", "", [(15, 0), (14, 1), (3, 12)]),
]


@pytest.mark.parametrize(("name", "unit", "expected"), BANDS)
def test_each_measurement_scores_by_the_papers_bands(name: str, unit: str, expected: list[tuple[float, int]]) -> None:
    for value, points in expected:
        assert APACHE(**WELL | {name: (value, unit)}).value == points, f"{name} of {value}"


@given(st.integers(18, 100), st.integers(3, 15), st.floats(0.1, 12), st.booleans(), st.booleans())
def test_the_score_is_bounded_and_older_sleepier_and_acutely_failing_is_never_better(
    age: int, gcs: int, creatinine: float, acute: bool, history: bool
) -> None:
    values = WORST | {"age": age, "gcs": gcs, "creatinine": (creatinine, "mg/dL"), "organ_failure_history": history}
    score: Any = APACHE(**values | {"acute_kidney_failure": acute}).value
    assert 0 <= score <= 71
    assert APACHE(**values | {"acute_kidney_failure": True}).value >= score
    if age < 100:
        assert APACHE(**values | {"age": age + 1, "acute_kidney_failure": acute}).value >= score
    if gcs > 3:
        assert APACHE(**values | {"gcs": gcs - 1, "acute_kidney_failure": acute}).value == score + 1


@given(st.floats(28, 42), st.integers(1, 60))
def test_the_unit_does_not_matter(temperature: float, white_cells: int) -> None:
    # A value on a limit may fall to the other side in a conversion; the bands' test holds those.
    if all(abs(temperature - limit) > 1e-6 for limit in (41, 39, 38.5, 36, 34, 32, 30)):
        values = WELL | {"temperature": (temperature, "C"), "white_cells": (white_cells, "10^9/L")}
        other = WELL | {"temperature": (temperature * 1.8 + 32, "F"), "white_cells": (white_cells * 1000, "/uL")}
        assert APACHE(**values).value == APACHE(**other).value


def test_a_gradient_or_pressure_that_is_not_given_is_taken_as_normal_aloud() -> None:
    result = APACHE(**{name: value for name, value in WELL.items() if name != "pao2"})
    assert result.value == 0
    assert "PaO2: not given, so taken as normal" in result.assumed


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({name: value for name, value in WELL.items() if name != "sodium"}, "needs sodium"),
        (WELL | {"gcs": 13.5}, "13.5 is not a whole number"),
        (WELL | {"ph": 74}, "outside 6.3 to 8"),
        (WELL | {"white_cells": "8 mmol/L"}, "white_cells"),
        (WELL | {"admitted_after": "a storm"}, "none of no operation"),
    ],
)
def test_what_cannot_be_worked_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        APACHE(**values)


def test_a_band_starts_at_its_lowest_value() -> None:
    assert [band(age, AGES, 0) for age in (44, 45, 75, 99)] == [0, 2, 6, 6]
    assert band(0.59, CREATININES, 2) == 2


def test_the_first_release_adds_the_coma_score_and_scores_every_white_cell_count() -> None:
    assert APACHE("medcalc", **WELL).value == 4 + 15
    assert APACHE("medcalc", **WELL | {"ph": 7.3}).value == 4 + 15
    assert APACHE("medcalc", **WELL | {"organ_failure_history": True}).value == 4 + 15


def test_both_releases_score_a_high_creatinine_in_kidney_failure_only() -> None:
    values = WELL | {"creatinine": "2.4 mg/dL"}
    assert APACHE("medcalc-verified", **values).value == 0
    assert APACHE("medcalc-verified", **values, chronic_kidney_failure=True).value == 3
    assert APACHE("medcalc-verified", **values, acute_kidney_failure=True).value == 6
