"""Wells' score for deep vein thrombosis and the Caprini score of 2005."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.inputs import Flag
from ehrmind.types import InputError

WELLS, CAPRINI = CALCULATORS[16], CALCULATORS[36]
FLAGS = {number: [item.name for item in CALCULATORS[number].inputs if isinstance(item, Flag)] for number in (16, 36)}

EXAMPLES: list[tuple[int, dict[str, Any], int]] = [
    (16, {}, 0),
    (16, dict.fromkeys(FLAGS[16], True), 7),  # nine findings, less 2 for the other diagnosis
    (16, {"bedridden_3_days": True, "major_surgery_12_weeks": True}, 1),  # one criterion together
    (
        16,
        {"active_cancer": True, "calf_swelling": True, "prior_dvt": True, "other_diagnosis_as_likely": True},
        1,
    ),  # 3 - 2
    (36, {"sex": "male", "age": 40}, 0),
    (36, {"sex": "female", "age": 41}, 1),
    (36, {"sex": "female", "age": 61}, 2),
    (36, {"sex": "female", "age": 75}, 3),
    # A hip replacement at 68 with BMI 31 and varicose veins: 2 + 5 + 1 + 1.
    (36, {"sex": "male", "age": 68, "surgery_type": "hip replacement", "bmi": "31 kg/m^2", "varicose_veins": True}, 9),
    # Colectomy for cancer at 55, in bed for four days with a central line: 1 + 2 + 2 + 2 + 2.
    (
        36,
        {
            "sex": "male",
            "age": 55,
            "surgery_type": "major",
            "cancer_ever": True,
            "mobility": "confined to bed",
            "central_venous_access": True,
        },
        9,
    ),
    (36, {"sex": "female", "age": 30, "prior_dvt": True, "prior_pe": True}, 3),  # one criterion together
    (36, {"sex": "female", "age": 30, "pregnant_or_postpartum": True, "plaster_cast_1_month": True}, 3),  # 1 + 2
    (36, {"sex": "female", "age": 30, "bmi": "25 kg/m^2"}, 0),
]


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: int) -> None:
    assert CALCULATORS[number](**values).value == expected


@given(present=st.sets(st.sampled_from(FLAGS[16])))
def test_the_wells_score_stays_within_its_bounds_and_only_another_diagnosis_lowers_it(present: set[str]) -> None:
    before = WELLS(**dict.fromkeys(present, True)).value
    assert -2 <= before <= 9
    for name in FLAGS[16]:
        after = WELLS(**dict.fromkeys(present | {name}, True)).value
        assert after <= before if name == "other_diagnosis_as_likely" else after >= before


@given(present=st.sets(st.sampled_from(FLAGS[36])), sex=st.sampled_from(["female", "male"]), age=st.integers(18, 100))
def test_no_finding_and_no_year_lowers_the_caprini_score(present: set[str], sex: str, age: int) -> None:
    before = CAPRINI(sex=sex, age=age, **dict.fromkeys(present, True)).value
    assert before >= 0
    assert CAPRINI(sex=sex, age=age + 10, **dict.fromkeys(present, True)).value >= before
    for name in FLAGS[36]:
        assert CAPRINI(sex=sex, age=age, **dict.fromkeys(present | {name}, True)).value >= before


@given(age=st.integers(18, 100))
def test_an_age_in_months_is_the_same_age(age: int) -> None:
    assert CAPRINI(sex="male", age=(age * 12, "months")).value == CAPRINI(sex="male", age=age).value


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (16, {"active_cancer": "perhaps"}, "neither yes nor no"),
        (16, {"active_cancr": True}, "did you mean active_cancer"),
        (36, {"sex": "male"}, "needs age"),
        (36, {"sex": "male", "age": 60, "surgery_type": "dental"}, "none of none, minor"),
        (36, {"sex": "male", "age": 60, "bmi": "31 kg"}, "does not convert"),
        (36, {"sex": "male", "age": 60, "bmi": "500 kg/m^2"}, "outside 7 to 120"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_the_first_release_counts_age_surgery_and_mobility_only() -> None:
    values = {
        "sex": "male",
        "age": 62,
        "surgery_type": "minor",
        "mobility": "bed rest",
        "stroke_1_month": True,
        "bmi": "40 kg/m^2",
    }
    assert CAPRINI(**values).value == 10  # 2 + 1 + 1 + 5 + 1
    assert CAPRINI("medcalc", **values).value == 4
