"""Child-Pugh, FIB-4, MELD Na and the Glasgow-Blatchford score."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS, from_entities
from ehrmind.types import InputError

CHILD, FIB4, MELD, BLATCHFORD = (CALCULATORS[number] for number in (15, 19, 23, 27))
GOOD = {"bilirubin": "1 mg/dL", "albumin": "4 g/dL", "inr": 1.1}
BAD = {"bilirubin": "4 mg/dL", "albumin": "2.5 g/dL", "inr": 2.5, "ascites": "moderate", "encephalopathy": "grade 3-4"}
FAILING = {"creatinine": "2 mg/dL", "bilirubin": "3 mg/dL", "inr": 1.5, "sodium": "137 mEq/L"}
WELL = {"sex": "male", "urea_nitrogen": "10 mg/dL", "hemoglobin": "15 g/dL", "systolic": 120, "heart_rate": 80}

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (15, GOOD, 5),
    (15, BAD, 15),
    (15, {"bilirubin": "2 mg/dL", "albumin": "3.5 g/dL", "inr": 1.7, "ascites": "slight", "encephalopathy": "grade 1-2"}, 10),
    (15, {"bilirubin": "52 µmol/L", "albumin": "28 g/L", "inr": 2.3, "encephalopathy": "grade 0"}, 9),  # 3.04 mg/dL: 3 + 2 + 2 + 1 + 1
    (19, {"age": 50, "ast": "40 U/L", "alt": "25 U/L", "platelets": "200 x10^9/L"}, 2.0),  # 2000 / (200 * 5)
    (19, {"age": 60, "ast": "100 IU/L", "alt": "100 U/L", "platelets": "150000 /µL"}, 4.0),  # 6000 / 1500
    (19, {"age": 30, "ast": "20 U/L", "alt": "16 U/L", "platelets": "300 K/uL"}, 0.5),
    (23, {"creatinine": "1 mg/dL", "bilirubin": "1 mg/dL", "inr": 1, "sodium": "140 mEq/L"}, 6),  # 10 * 0.6
    # 0.957 * 0.693147 + 0.378 * 1.098612 + 1.12 * 0.405465 + 0.643 = 2.17575: 2.2, 22; sodium at its ceiling adds nothing.
    (23, FAILING, 22),
    (23, {**FAILING, "sodium": "130 mEq/L"}, 26),  # 22 + 1.32 * 7 - 0.033 * 22 * 7 = 26.158
    (23, {**FAILING, "dialysis_twice_in_week": True}, 28),  # ln 4 for ln 2: 2.83909
    (23, {"creatinine": "9 mg/dL", "bilirubin": "60 mg/dL", "inr": 9, "sodium": "120 mEq/L"}, 40),
    (27, WELL, 0),
    (27, {"sex": "male", "urea_nitrogen": "71 mg/dL", "hemoglobin": "9 g/dL", "systolic": 85, "heart_rate": 100, "melena": True,
          "syncope": True, "liver_disease": True, "cardiac_failure": True}, 23),  # 6 + 6 + 3 + 1 + 1 + 2 + 2 + 2
    (27, {**WELL, "urea_nitrogen": "18.2 mg/dL", "hemoglobin": "12.9 g/dL", "systolic": 109}, 4),  # 2 + 1 + 1
    (27, {**WELL, "sex": "female", "urea_nitrogen": "25 mg/dL", "hemoglobin": "119 g/L", "systolic": 99}, 6),  # 3 + 1 + 2
    (27, {**WELL, "urea_nitrogen": "28 mg/dL", "hemoglobin": "11 g/dL"}, 7),  # 4 + 3
]  # fmt: skip


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected, rel=1e-6)


@given(
    bilirubin=st.floats(0.2, 30), albumin=st.floats(1, 6), inr=st.floats(0.8, 8), ascites=st.sampled_from(["absent", "slight", "moderate"])
)
def test_child_pugh_is_5_to_15_and_rises_as_the_liver_fails(bilirubin: float, albumin: float, inr: float, ascites: str) -> None:
    def score(**changes: Any) -> Any:
        return CHILD(**{"bilirubin": (bilirubin, "mg/dL"), "albumin": (albumin, "g/dL"), "inr": inr, "ascites": ascites, **changes}).value

    assert 5 <= score() <= 15
    assert score() <= min(score(bilirubin=(bilirubin * 2, "mg/dL")), score(albumin=(albumin * 0.8, "g/dL")), score(inr=inr * 1.5))
    assume(min(abs(bilirubin - 2), abs(bilirubin - 3)) > 1e-3)
    assert score(bilirubin=(bilirubin * 17.1037, "µmol/L")) == score()


@given(age=st.integers(18, 90), ast=st.integers(10, 900), alt=st.integers(10, 900), platelets=st.integers(20, 600))
def test_fib_4_rises_with_age_and_ast_and_falls_with_platelets(age: int, ast: int, alt: int, platelets: int) -> None:
    def index(**changes: Any) -> Any:
        return FIB4(**{"age": age, "ast": (ast, "U/L"), "alt": (alt, "U/L"), "platelets": (platelets, "10^9/L"), **changes}).value

    assert index() < min(index(age=age + 5), index(ast=(ast + 10, "U/L")), index(platelets=(platelets - 5, "10^9/L")))
    assert index(platelets=(platelets * 1000, "/µL")) == pytest.approx(index())


@given(creatinine=st.floats(0.4, 8), bilirubin=st.floats(0.2, 40), inr=st.floats(0.8, 6), sodium=st.integers(115, 150))
def test_meld_is_6_to_40_and_a_low_sodium_never_lowers_it(creatinine: float, bilirubin: float, inr: float, sodium: int) -> None:
    values = {"creatinine": (creatinine, "mg/dL"), "bilirubin": (bilirubin, "mg/dL"), "inr": inr}
    score = MELD(**values, sodium=(sodium, "mEq/L")).value
    assert 6 <= score <= 40  # type: ignore[operator]
    assert MELD(**values, sodium=(sodium - 5, "mEq/L")).value >= score  # type: ignore[operator]
    assert MELD(**values, sodium=(sodium, "mEq/L"), dialysis_twice_in_week=True).value >= score  # type: ignore[operator]
    assert MELD(**values, sodium=(sodium, "mmol/L")).value == score


@given(sex=st.sampled_from(["male", "female"]), urea=st.floats(3, 120), blood=st.floats(4, 17), systolic=st.integers(50, 180))
def test_blatchford_is_0_to_23_and_rises_as_blood_is_lost(sex: str, urea: float, blood: float, systolic: int) -> None:
    def score(**changes: Any) -> Any:
        values = {"sex": sex, "urea_nitrogen": (urea, "mg/dL"), "hemoglobin": (blood, "g/dL"), "systolic": systolic, "heart_rate": 90}
        return BLATCHFORD(**{**values, **changes}).value

    assert 0 <= score() <= 23
    assert score() <= min(score(hemoglobin=(blood - 1, "g/dL")), score(systolic=systolic - 10), score(melena=True), score(heart_rate=110))
    assert score(hemoglobin=(blood * 10, "g/L")) == score()


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (15, {"albumin": "4 g/dL", "inr": 1}, "needs bilirubin"),
        (15, {**GOOD, "ascites": "lots"}, "ascites: 'lots' is none of absent, slight, moderate"),
        (19, {"age": 50, "ast": "0.42 U/L", "alt": "25 U/L", "platelets": "200 x10^9/L"}, "ast: 0.42 U/L is outside"),
        (19, {"age": 50, "ast": "40 U/L", "alt": "25 U/L", "platelets": "200 mg/dL"}, "platelets: 'mg/dL' does not convert"),
        (23, {**FAILING, "inr": 300}, "inr: 300"),
        (23, {"creatinine": "2 mg/dL"}, "needs bilirubin"),
        (27, {**WELL, "sex": "unsaid"}, "sex: 'unsaid' is none of female, male"),
        (27, {"sex": "male"}, "needs urea_nitrogen"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_the_first_release_scores_ascites_only_where_it_is_not_mentioned() -> None:
    assert CHILD("medcalc", **BAD).value == 12  # 15 less the 3 of moderate ascites
    assert CHILD("medcalc", **GOOD).value == CHILD(**GOOD).value
    bounds = {"bilirubin": "3 mg/dL", "albumin": "2.8 g/dL", "inr": 1}
    assert (CHILD(**bounds).value, CHILD("medcalc", **bounds).value) == (7, 9)


def test_the_first_release_rounds_meld_to_tens() -> None:
    assert MELD("medcalc", **FAILING).value == 20
    assert MELD("medcalc-verified", **FAILING).value == 22


def test_the_first_release_gives_a_point_at_the_lower_bound_of_normal_hemoglobin() -> None:
    entities = {"sex": "Female", "Blood Urea Nitrogen (BUN)": [10, "mg/dL"], "Hemoglobin": [12.0, "g/dL"],
                "Heart Rate or Pulse": [80, "bpm"], "Systolic Blood Pressure": [120, "mm Hg"]}  # fmt: skip
    assert (from_entities(27, entities).value, from_entities(27, entities, "medcalc").value) == (0, 1)
