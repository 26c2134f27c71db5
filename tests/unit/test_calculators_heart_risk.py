"""Stroke and bleeding in atrial fibrillation, surgery, chest pain, coronary disease, LDL
cholesterol.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS, from_entities
from ehrmind.types import InputError

CHA2DS2, RCRI, HEART, HAS_BLED, LDL, FRAMINGHAM = (CALCULATORS[number] for number in (4, 17, 18, 25, 44, 46))
# The man of the ATP III booklet's kind: middle-aged, everything near the average.
MAN = {"sex": "male", "age": 55, "cholesterol": "213 mg/dL", "hdl": "50 mg/dL", "systolic": 120}
SMOKER = {**MAN, "smoking": True}

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (4, {"age": 60, "sex": "male"}, 0),
    (4, {"age": 70, "sex": "female", "hypertension": True}, 3),  # 1 + 1 + 1
    (
        4,
        {
            "age": 80,
            "sex": "female",
            "heart_failure": True,
            "hypertension": True,
            "diabetes": True,
            "stroke": True,
            "vascular_disease": True,
        },
        9,
    ),
    (
        4,
        {"age": 64, "sex": "male", "stroke": True, "tia": True, "thromboembolism": True},
        2,
    ),  # one criterion of the three
    *((4, {"age": age, "sex": "male"}, points) for age, points in ((64, 0), (65, 1), (74, 1), (75, 2))),
    *((4, {"age": 50, "sex": "male", clot: True}, 2) for clot in ("stroke", "tia", "thromboembolism")),
    (17, {"creatinine": "1 mg/dL"}, 0),
    (17, {"creatinine": "2 mg/dL", "high_risk_surgery": True}, 1),  # above 2, not from 2
    (17, {"creatinine": "200 µmol/L", "insulin_treated": True, "cerebrovascular_disease": True}, 3),  # 2.26 mg/dL
    (18, {"age": 44}, 0),
    (18, {"age": 50, "suspicion": "moderate", "troponin": "up to 3 times normal", "smoking": True}, 4),  # 1 + 1 + 1 + 1
    (
        18,
        {
            "age": 65,
            "suspicion": "high",
            "ecg": "significant ST deviation",
            "troponin": "more than 3 times normal",
            "tia": True,
        },
        10,
    ),
    (18, {"age": 30, "hypertension": True, "obesity": True, "diabetes": True}, 2),  # three factors
    (18, {"age": 30, "hypertension": True, "obesity": True}, 1),
    (18, {"age": 30, "atherosclerotic_disease": True}, 2),  # known disease earns both by itself
    *((18, {"age": age}, points) for age, points in ((45, 1), (64, 1))),
    (25, {"age": 65}, 0),  # above 65, not from 65
    (25, {"age": 66, "drinks": 8, "hypertension": True, "labile_inr": True}, 4),
    (25, {"age": 40, "drinks": 7, "stroke": True, "bleeding_drugs": True, "prior_bleeding": True}, 3),
    (44, {"cholesterol": "200 mg/dL", "hdl": "50 mg/dL", "triglycerides": "150 mg/dL"}, 120),  # 200 - 50 - 30
    (44, {"cholesterol": "161 mg/dL", "hdl": "39 mg/dL", "triglycerides": "95 mg/dL"}, 103),
    (
        44,
        {"cholesterol": "5 mmol/L", "hdl": "1 mmol/L", "triglycerides": "2 mmol/L"},
        119.25,
    ),  # 193.33 - 38.67 - 177.09 / 5
    # 208.4198 + 107.3013 - 3.5442 + 6.2514 - 98.9369 - 47.1039 - 172.3002 = 0.0875; 1 -
    # 0.9402^1.0914.
    (46, MAN, 6.51),
    # 0.2415 for treatment and 12.0963 - 11.3955 for smoking more: 1.0298; 1 - 0.9402^2.8005.
    (46, {**SMOKER, "bp_treated": True}, 15.86),
    # 127.2889 + 120.4425 - 4.6464 + 12.2220 - 108.7329 - 146.5933 = -0.0192; 1 - 0.98767^0.9810.
    (46, {**MAN, "sex": "female"}, 1.21),
    # 0.4203 for treatment and 13.0754 - 2.9969 * ln(55) = 1.0658 for smoking more: 1.4669; 1 -
    # 0.98767^4.3356.
    (46, {**SMOKER, "sex": "female", "bp_treated": True}, 5.237),
]


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected, rel=1e-3)


BOUNDS = {4: (0, 9), 17: (0, 6), 18: (0, 10), 25: (0, 9)}


@pytest.mark.parametrize("number", BOUNDS)
@given(data=st.data())
def test_scores_stay_within_their_bounds_and_another_finding_never_lowers_them(
    number: int, data: st.DataObject
) -> None:
    calculator = CALCULATORS[number]
    flags = [item.name for item in calculator.inputs if type(item).__name__ == "Flag"]
    given_flags = {name: data.draw(st.booleans(), label=name) for name in flags}
    rest: dict[str, Any] = {"age": data.draw(st.integers(18, 100))}
    rest |= {"sex": data.draw(st.sampled_from(["male", "female"]))} if number == 4 else {}
    rest |= {"creatinine": (data.draw(st.floats(0.3, 9)), "mg/dL")} if number == 17 else {}
    rest = {name: value for name, value in rest.items() if any(item.name == name for item in calculator.inputs)}
    low, high = BOUNDS[number]
    value = calculator(**rest, **given_flags).value
    assert low <= value <= high  # type: ignore[operator]
    more = {**given_flags, data.draw(st.sampled_from(flags)): True}
    assert calculator(**rest, **more).value >= value  # type: ignore[operator]


@given(
    age=st.integers(30, 74),
    cholesterol=st.integers(130, 300),
    systolic=st.integers(95, 190),
    sex=st.sampled_from(["male", "female"]),
)
def test_framingham_risk_grows_with_age_pressure_treatment_and_with_less_hdl(
    age: int, cholesterol: int, systolic: int, sex: str
) -> None:
    def risk(**changes: Any) -> Any:
        values = {
            "sex": sex,
            "age": age,
            "cholesterol": (cholesterol, "mg/dL"),
            "hdl": "50 mg/dL",
            "systolic": systolic,
        }
        return FRAMINGHAM(**{**values, **changes}).value

    assert 0 < risk() < 100
    assert risk() < risk(systolic=systolic + 10) < risk(systolic=systolic + 10, bp_treated=True)
    assert risk() < risk(hdl="40 mg/dL")
    if sex == "female" or age < 70:
        assert risk() < risk(age=age + 4)


@pytest.mark.parametrize(("sex", "limit", "slope"), [("male", 70, 2.84367), ("female", 78, 2.996945)])
def test_framinghams_smoking_stands_still_at_the_age_limit(sex: str, limit: int, slope: float) -> None:
    def excess(age: int) -> float:
        plain, smoker = (FRAMINGHAM(**{**MAN, "sex": sex, "age": age, "smoking": smokes}) for smokes in (False, True))
        sums = [
            next(step.value for step in result.steps if step.what.startswith("sum of")) for result in (plain, smoker)
        ]
        return float(sums[1]) - float(sums[0])  # type: ignore[arg-type]

    assert excess(limit - 1) - excess(limit) == pytest.approx(slope * math.log(limit / (limit - 1)))
    assert excess(79) == pytest.approx(excess(limit))


@given(total=st.floats(120, 320), hdl=st.floats(20, 90), fat=st.floats(40, 390))
def test_ldl_does_not_depend_on_the_unit(total: float, hdl: float, fat: float) -> None:
    usual = LDL(cholesterol=(total, "mg/dL"), hdl=(hdl, "mg/dL"), triglycerides=(fat, "mg/dL")).value
    other = LDL(
        cholesterol=(total / 38.666, "mmol/L"), hdl=(hdl / 38.666, "mmol/L"), triglycerides=(fat / 88.543, "mmol/L")
    ).value
    assert other == pytest.approx(usual, abs=0.01)


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (4, {"age": 70}, "needs sex"),
        (4, {"age": 70, "sex": "male", "stroke": "perhaps"}, "stroke: 'perhaps' is neither yes nor no"),
        (17, {}, "needs creatinine"),
        (18, {"age": 50, "ecg": "odd"}, "ecg: 'odd' is none of normal"),
        (25, {"age": -1}, "age: -1 years is outside"),
        (44, {"cholesterol": "200 mg/dL", "hdl": "50 mg/dL"}, "needs triglycerides"),
        (44, {"cholesterol": 200, "hdl": "50 mg/dL", "triglycerides": "1 mmol/L"}, "cholesterol: give the unit"),
        (46, {**MAN, "age": 85}, "age: 85 years is outside 20 to 79"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_the_first_release_never_finds_cerebrovascular_disease() -> None:
    entities = {"Pre-operative creatinine": [1.0, "mg/dL"], "History of cerebrovascular disease": True}
    assert from_entities(17, entities).value == 1
    assert from_entities(17, entities, "medcalc").value == 0


def test_the_first_release_counts_atherosclerotic_disease_as_one_factor_and_reads_no_attack() -> None:
    disease, attack = (
        {"age": [30, "years"], "atherosclerotic disease": True},
        {"Transient Ischemic Attacks History": True},
    )
    assert (from_entities(18, disease).value, from_entities(18, disease, "medcalc").value) == (2, 1)
    third = {**disease, "Smoker": True, "Obesity": True}
    assert from_entities(18, third).value == from_entities(18, third, "medcalc").value == 2
    entities = {"age": [30, "years"], **attack}
    assert (from_entities(18, entities).value, from_entities(18, entities, "medcalc").value) == (2, 0)


def test_the_first_release_takes_framinghams_cholesterol_in_mmol_and_prints_a_share() -> None:
    assert FRAMINGHAM("medcalc", **SMOKER).value in {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}
    assert FRAMINGHAM("medcalc-verified", **SMOKER).value == FRAMINGHAM(**SMOKER).value
