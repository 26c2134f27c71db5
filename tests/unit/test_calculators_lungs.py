"""Pneumonia severity (PSI, CURB-65) and pulmonary embolism (Wells, PERC)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS, from_entities
from ehrmind.types import InputError

WELL = {"temperature": "37 C", "heart_rate": 80, "respiratory_rate": 16, "systolic": 120}
CALM = {"urea_nitrogen": "10 mg/dL", "respiratory_rate": 16, "systolic": 120, "diastolic": 80, "age": 40}
FIT = {"age": 40, "heart_rate": 80, "oxygen_saturation": "98 %"}

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (29, {"age": 50, "sex": "male", **WELL}, 50),
    (29, {"age": 50, "sex": "female", **WELL}, 40),
    (29, {"age": 80, "sex": "male", **WELL, "nursing_home": True, "neoplastic_disease": True, "confusion": True}, 140),  # 80 + 10 + 30 + 20
    # 70 - 10, then pH 30, urea 20, sodium 20, glucose 10, hematocrit 10, PaO2 10, effusion 10.
    (
        29,
        {"age": 70, "sex": "female", **WELL, "ph": 7.3, "urea_nitrogen": "30 mg/dL", "sodium": "129 mEq/L", "glucose": "250 mg/dL",
         "hematocrit": "29 %", "pao2": "7.9 kPa", "pleural_effusion": True},
        170,
    ),
    # 60, temperature 15, heart 10, breathing 20, pressure 20: the bounds of each.
    (29, {"age": 60, "sex": "male", "temperature": "40 C", "heart_rate": 125, "respiratory_rate": 30, "systolic": 89}, 125),
    (29, {"age": 60, "sex": "male", "temperature": "39.9 C", "heart_rate": 124, "respiratory_rate": 29, "systolic": 90}, 60),
    (45, CALM, 0),
    (45, {**CALM, "confusion": True, "urea_nitrogen": "8 mmol/L", "respiratory_rate": 30, "systolic": 85, "age": 65}, 5),
    (45, {**CALM, "diastolic": 60}, 1),
    (45, {**CALM, "urea_nitrogen": "7 mmol/L", "age": 64, "respiratory_rate": 29, "systolic": 90, "diastolic": 61}, 0),  # not above 7
    (8, {"heart_rate": 80}, 0),
    (8, {"heart_rate": 101, "dvt_signs": True, "pe_likely": True, "surgery_4_weeks": True, "immobilized_3_days": True, "prior_pe": True,
         "prior_dvt": True, "hemoptysis": True, "treated_cancer": True}, 12.5),  # 3 + 3 + 1.5 + 1.5 + 1.5 + 1 + 1
    (8, {"heart_rate": 100, "prior_dvt": True, "hemoptysis": True}, 2.5),
    (48, FIT, 0),
    (48, {"age": 50, "heart_rate": 100, "oxygen_saturation": 94}, 3),
    (48, {**FIT, "hemoptysis": True, "hormones": True, "prior_dvt": True, "prior_pe": True, "one_leg_swollen": True}, 4),
]  # fmt: skip


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == expected


BOUNDS = {45: (0, 5), 8: (0, 12.5), 48: (0, 8)}
MEASURED = {45: CALM, 8: {"heart_rate": 110}, 48: FIT, 29: {"age": 60, "sex": "female", **WELL}}


@pytest.mark.parametrize("number", MEASURED)
@given(data=st.data())
def test_scores_stay_in_bounds_and_another_finding_never_lowers_them(number: int, data: st.DataObject) -> None:
    calculator = CALCULATORS[number]
    flags = [item.name for item in calculator.inputs if type(item).__name__ == "Flag"]
    found = {name: data.draw(st.booleans(), label=name) for name in flags}
    value = calculator(**MEASURED[number], **found).value
    low, high = BOUNDS.get(number, (50, 180))  # PSI: 60 - 10, and 130 for all eight findings
    assert low <= value <= high  # type: ignore[operator]
    assert calculator(**MEASURED[number], **{**found, data.draw(st.sampled_from(flags)): True}).value >= value  # type: ignore[operator]


@given(age=st.integers(18, 100), urea=st.floats(3, 120), rate=st.integers(8, 50), systolic=st.integers(60, 200))
def test_curb_65_does_not_fall_with_age_urea_or_breathing_and_knows_no_unit(age: int, urea: float, rate: int, systolic: int) -> None:
    def score(**changes: Any) -> Any:
        values = {"age": age, "urea_nitrogen": (urea, "mg/dL"), "respiratory_rate": rate, "systolic": systolic, "diastolic": 70}
        return CALCULATORS[45](**{**values, **changes}).value

    assert score() <= min(score(age=min(age + 20, 120)), score(urea_nitrogen=(urea * 2, "mg/dL")), score(respiratory_rate=rate + 10))
    if abs(urea - 19.6) > 0.1:
        assert score(urea_nitrogen=(urea / 2.8014, "mmol/L")) == score()


@given(celsius=st.integers(300, 430))
def test_psi_reads_fahrenheit_as_well(celsius: int) -> None:
    values = {"age": 60, "sex": "male", **WELL}
    if celsius not in (350, 400):
        both = [(celsius / 10, "C"), (celsius / 10 * 9 / 5 + 32, "°F")]
        assert len({CALCULATORS[29](**{**values, "temperature": temperature}).value for temperature in both}) == 1


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (29, {"age": 50, "sex": "male"}, "needs temperature"),
        (29, {"age": 12, "sex": "male", **WELL}, "age: 12 years is outside 18"),
        (29, {"age": 50, "sex": "male", **WELL, "ph": 9}, "ph: 9"),
        (45, {"age": 70}, "needs urea_nitrogen"),
        (45, {**CALM, "urea_nitrogen": "10 kg"}, "'kg' does not convert"),
        (8, {}, "needs heart_rate"),
        (8, {"heart_rate": 7590}, "heart_rate: 7590 bpm is outside"),
        (48, {"age": 40, "heart_rate": 80}, "needs oxygen_saturation"),
        (48, {**FIT, "oxygen_saturation": "9 %"}, "oxygen_saturation: 9 % is outside"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_the_releases_bounds_of_fever_glucose_and_urea_are_others() -> None:
    sick = {"age": 60, "sex": "male", **WELL, "temperature": "39.95 C", "glucose": "250 mg/dL"}
    assert (CALCULATORS[29](**sick).value, CALCULATORS[29]("medcalc", **sick).value) == (70, 75)
    between = {**CALM, "urea_nitrogen": "19.3 mg/dL"}
    assert (CALCULATORS[45](**between).value, CALCULATORS[45]("medcalc-verified", **between).value) == (0, 1)


def test_the_first_release_takes_misspelt_celsius_for_fahrenheit() -> None:
    entities = {"age": [60, "years"], "sex": "Male", "Temperature": [37.0, "degrees celsisus"], "Heart Rate or Pulse": [80, "bpm"],
                "respiratory rate": [16, "breaths per minute"], "Systolic Blood Pressure": [120, "mm Hg"]}  # fmt: skip
    assert (from_entities(29, entities).value, from_entities(29, entities, "medcalc").value) == (60, 75)
