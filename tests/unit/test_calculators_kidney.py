"""Creatinine clearance, GFR by CKD-EPI 2021 and MDRD, fractional excretion of sodium."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

CLEARANCE, CKD_EPI, MDRD, FENA = (CALCULATORS[number] for number in (2, 3, 9, 40))

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    # Normal BMI (70 / 1.75^2 = 22.9); ideal 50 + 2.3 * 8.898 = 70.46, so 70 kg: (140 - 40) * 70 /
    # 72.
    (2, {"sex": "male", "age": 40, "weight": "70 kg", "height": "175 cm", "creatinine": "1 mg/dL"}, 97.222),
    # Underweight (40 / 1.6^2 = 15.6), so 40 kg: (140 - 80) * 40 * 0.85 / (72 * 0.8).
    (2, {"sex": "female", "age": 80, "weight": "40 kg", "height": "160 cm", "creatinine": "0.8 mg/dL"}, 35.417),
    # Obese (100 / 1.6^2 = 39.1): ideal 45.5 + 2.3 * (62.992 - 60) = 52.382, adjusted 71.429: 90 *
    # 71.429 * 0.85 / 72.
    (2, {"sex": "female", "age": 50, "weight": "100 kg", "height": "160 cm", "creatinine": "1 mg/dL"}, 75.893),
    # The two constants of the sexes at their knees, where the middle factor is 1: 142 * 0.9938^50 *
    # 1.012, and without it for men.
    (3, {"sex": "female", "age": 50, "creatinine": "0.7 mg/dL"}, 105.30),
    (3, {"sex": "male", "age": 50, "creatinine": "0.9 mg/dL"}, 104.05),
    # 142 * (2 / 0.9)^-1.2 * 0.9938^60 = 142 * 0.38358 * 0.68856.
    (3, {"sex": "male", "age": 60, "creatinine": "2 mg/dL"}, 37.50),
    # Creatinine and race at 1: 175 * 50^-0.203 = 175 * 0.45197.
    (9, {"sex": "male", "age": 50, "creatinine": "1 mg/dL"}, 79.09),
    (9, {"sex": "female", "age": 50, "creatinine": "1 mg/dL"}, 58.69),  # times 0.742
    (9, {"sex": "male", "age": 50, "creatinine": "1 mg/dL", "race": "black"}, 95.86),  # times 1.212
    # 100 * 20 * 2 / (140 * 100); the classic border of prerenal failure is 1 %.
    (
        40,
        {"sodium": "140 mEq/L", "creatinine": "2 mg/dL", "urine_sodium": "20 mEq/L", "urine_creatinine": "100 mg/dL"},
        0.28571,
    ),
    (
        40,
        {
            "sodium": "140 mmol/L",
            "creatinine": "1 mg/dL",
            "urine_sodium": "140 mmol/L",
            "urine_creatinine": "100 mg/dL",
        },
        1.0,
    ),
    (
        40,
        {"sodium": "130 mEq/L", "creatinine": "4 mg/dL", "urine_sodium": "65 mEq/L", "urine_creatinine": "40 mg/dL"},
        5.0,
    ),
]
ADULTS = st.integers(18, 100)
SEXES = st.sampled_from(["male", "female"])
CREATININES = st.floats(0.3, 12)


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected, rel=2e-4)


@given(sex=SEXES, age=ADULTS, creatinine=CREATININES)
def test_more_creatinine_is_less_filtration(sex: str, age: int, creatinine: float) -> None:
    for formula in (CKD_EPI, MDRD):
        lower, higher = (
            formula(sex=sex, age=age, creatinine=(value, "mg/dL")).value for value in (creatinine, creatinine * 1.1)
        )
        assert lower > higher


@given(sex=SEXES, age=st.integers(18, 90), creatinine=CREATININES)
def test_ten_years_cost_filtration(sex: str, age: int, creatinine: float) -> None:
    for formula in (CKD_EPI, MDRD):
        younger, older = (
            formula(sex=sex, age=years, creatinine=(creatinine, "mg/dL")).value for years in (age, age + 10)
        )
        assert younger > older


@given(sex=SEXES, age=ADULTS, weight=st.floats(35, 180), height=st.floats(140, 210), creatinine=CREATININES)
def test_the_unit_does_not_matter(sex: str, age: int, weight: float, height: float, creatinine: float) -> None:
    index = weight / (height / 100) ** 2
    assume(min(abs(index - 18.5), abs(index - 25)) > 1e-6)  # where the weight to use changes, a rounding decides
    metric = CLEARANCE(
        sex=sex, age=age, weight=(weight, "kg"), height=(height, "cm"), creatinine=(creatinine, "mg/dL")
    ).value
    other = CLEARANCE(
        sex=sex,
        age=(age * 12, "months"),
        weight=(weight / 0.45359237, "lb"),
        height=(height / 2.54, "in"),
        creatinine=(creatinine * 88.4017, "µmol/L"),
    ).value
    assert other == pytest.approx(metric, rel=1e-5)


@given(sodium=st.floats(110, 160), urine=st.floats(5, 200), factor=st.floats(0.2, 3))
def test_fena_is_a_ratio_of_ratios(sodium: float, urine: float, factor: float) -> None:
    def fena(scale: float) -> Any:
        creatinines = {"creatinine": (scale * 1.5, "mg/dL"), "urine_creatinine": (scale * 60, "mg/dL")}
        return FENA(sodium=(sodium, "mEq/L"), urine_sodium=(urine, "mEq/L"), **creatinines).value

    assert fena(factor) == pytest.approx(fena(1))


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (3, {"sex": "female", "creatinine": "1 mg/dL"}, "needs age"),
        (3, {"sex": "female", "age": 12, "creatinine": "1 mg/dL"}, "outside 18"),
        (3, {"sex": "female", "age": 52, "creatinine": 1.0}, "give the unit"),
        (9, {"sex": "female", "age": 52, "creatinine": "1 kg"}, "does not convert to mg/dL of creatinine"),
        (9, {"sex": "female", "age": 52, "creatinine": "900 mg/dL"}, "outside 0.05 to 60 mg/dL"),
        (2, {"sex": "unsaid", "age": 52}, "none of female, male"),
        (40, {"sodium": "140 mEq/L", "urine_soda": 3}, "did you mean urine_sodium"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_the_first_release_takes_the_womens_constant_for_men_with_low_creatinine() -> None:
    values = {"sex": "male", "age": 74, "creatinine": "0.9 mg/dL"}
    assert CKD_EPI("medcalc", **values).value == pytest.approx(CKD_EPI(**values).value * (9 / 7) ** -0.302)
