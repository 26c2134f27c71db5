"""Body mass index, ideal, adjusted and target weight, surface area, maintenance fluids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

BMI, IDEAL, FLUIDS, SURFACE, TARGET, ADJUSTED = (CALCULATORS[number] for number in (6, 10, 22, 60, 61, 62))

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (6, {"weight": "70 kg", "height": "175 cm"}, 22.8571),  # 70 / 3.0625
    (6, {"weight": "86.7 kg", "height": "1.7 m"}, 30.0),  # 86.7 / 2.89: the border of obesity
    (6, {"weight": "154 lb", "height": "70 in"}, 22.0964),  # 69.8532 / 1.778^2 = 69.8532 / 3.161284
    (10, {"sex": "male", "height": "72 in"}, 77.6),  # 50 + 2.3 * 12
    (10, {"sex": "female", "height": "64 in"}, 54.7),  # 45.5 + 2.3 * 4
    (10, {"sex": "male", "height": "152.4 cm"}, 50.0),  # 60 inches: the base alone
    (10, {"sex": "female", "height": "150 cm"}, 43.3268),  # 45.5 - 2.3 * (60 - 59.05512)
    (22, {"weight": "8 kg"}, 32),  # 4 * 8
    (22, {"weight": "10 kg"}, 40),
    (22, {"weight": "11 kg"}, 42),  # 40 + 2
    (22, {"weight": "15 kg"}, 50),  # 40 + 2 * 5
    (22, {"weight": "20 kg"}, 60),
    (22, {"weight": "21 kg"}, 61),
    (22, {"weight": "25 kg"}, 65),  # 60 + 5; Holliday and Segar: 1500 mL + 20 mL/kg a day, 1600 / 24 = 66.7
    (22, {"weight": "70 kg"}, 110),
    (22, {"weight": "3500 g"}, 14),
    (60, {"weight": "80 kg", "height": "180 cm"}, 2.0),  # sqrt(14400 / 3600)
    (60, {"weight": "60 kg", "height": "150 cm"}, 1.58114),  # sqrt(2.5)
    (60, {"weight": "3.6 kg", "height": "50 cm"}, 0.223607),  # a newborn: sqrt(0.05)
    (60, {"weight": "70 kg", "height": "170 cm"}, 1.81812),  # sqrt(3.305556)
    (61, {"bmi": "25 kg/m^2", "height": "170 cm"}, 72.25),  # 25 * 2.89
    (61, {"bmi": "18.5 kg/m^2", "height": "160 cm"}, 47.36),  # 18.5 * 2.56
    (61, {"bmi": "22 kg/m^2", "height": "1.8 m"}, 71.28),  # 22 * 3.24
    (62, {"sex": "male", "weight": "120 kg", "height": "70 in"}, 91.8),  # ideal 73; 73 + 0.4 * 47
    (62, {"sex": "female", "weight": "95.5 kg", "height": "60 in"}, 65.5),  # ideal 45.5; 45.5 + 0.4 * 50
    (62, {"sex": "male", "weight": "73 kg", "height": "70 in"}, 73.0),  # at the ideal weight nothing is adjusted
    (62, {"sex": "male", "weight": "63 kg", "height": "70 in"}, 69.0),  # 73 - 0.4 * 10
]
WEIGHTS = st.floats(1, 300)
HEIGHTS = st.floats(50, 240)
TALL = st.floats(106, 240)
SEXES = st.sampled_from(["male", "female"])


def number_of(calculator: Any, **values: Any) -> float:
    return float(calculator(**values).value)


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected, rel=1e-5)
    assert CALCULATORS[number]("medcalc", **values).value == pytest.approx(expected, rel=1e-5)  # no deviation here


@given(weight=WEIGHTS, height=HEIGHTS)
def test_more_weight_is_more_of_everything(weight: float, height: float) -> None:
    for calculator in (BMI, SURFACE):
        lighter, heavier = (
            number_of(calculator, weight=(mass, "kg"), height=(height, "cm")) for mass in (weight, weight * 1.1)
        )
        assert lighter < heavier
    assert number_of(FLUIDS, weight=(weight, "kg")) < number_of(FLUIDS, weight=(weight * 1.1, "kg"))


@given(sex=SEXES, weight=WEIGHTS, height=TALL)
def test_taller_is_a_lower_index_and_a_higher_ideal_target_and_surface(sex: str, weight: float, height: float) -> None:
    short, tall = (height, "cm"), (height * 1.05, "cm")
    mass = (weight, "kg")
    assert number_of(BMI, weight=mass, height=short) > number_of(BMI, weight=mass, height=tall)
    assert number_of(SURFACE, weight=mass, height=short) < number_of(SURFACE, weight=mass, height=tall)
    assert number_of(IDEAL, sex=sex, height=short) < number_of(IDEAL, sex=sex, height=tall)
    assert number_of(TARGET, bmi=(22, "kg/m^2"), height=short) < number_of(TARGET, bmi=(22, "kg/m^2"), height=tall)


@given(height=TALL)
def test_an_ideal_weight_is_positive_and_four_and_a_half_kilograms_more_for_men(height: float) -> None:
    woman, man = (number_of(IDEAL, sex=sex, height=(height, "cm")) for sex in ("female", "male"))
    assert man - woman == pytest.approx(4.5)
    assert woman > 0


@given(sex=SEXES, weight=WEIGHTS, height=TALL)
def test_the_adjusted_weight_lies_between_ideal_and_actual(sex: str, weight: float, height: float) -> None:
    ideal = number_of(IDEAL, sex=sex, height=(height, "cm"))
    adjusted = number_of(ADJUSTED, sex=sex, weight=(weight, "kg"), height=(height, "cm"))
    assert min(ideal, weight) - 1e-9 <= adjusted <= max(ideal, weight) + 1e-9


@given(index=st.floats(12, 60), height=HEIGHTS)
def test_at_the_target_weight_the_index_is_the_target(index: float, height: float) -> None:
    weight = number_of(TARGET, bmi=(index, "kg/m^2"), height=(height, "cm"))
    assert number_of(BMI, weight=(weight, "kg"), height=(height, "cm")) == pytest.approx(index)


@given(weight=WEIGHTS, more=st.floats(0.01, 50))
def test_a_kilogram_more_is_one_to_four_millilitres_more(weight: float, more: float) -> None:
    rise = number_of(FLUIDS, weight=(weight + more, "kg")) - number_of(FLUIDS, weight=(weight, "kg"))
    assert more - 1e-9 <= rise <= 4 * more + 1e-9


@given(sex=SEXES, weight=WEIGHTS, height=TALL)
def test_the_unit_does_not_matter(sex: str, weight: float, height: float) -> None:
    metric: dict[str, Any] = {"sex": sex, "weight": (weight, "kg"), "height": (height, "cm"), "bmi": (25, "kg/m^2")}
    other = metric | {"weight": (weight / 0.45359237, "lb"), "height": (height / 2.54, "in")}
    for calculator in (BMI, IDEAL, FLUIDS, SURFACE, TARGET, ADJUSTED):
        names = [item.name for item in calculator.inputs]
        values, others = ({name: given[name] for name in names} for given in (metric, other))
        assert number_of(calculator, **others) == pytest.approx(number_of(calculator, **values))


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (6, {"weight": "70 kg"}, "needs height"),
        (6, {"weight": "70 kg", "height": "1.7 kg"}, "does not convert to cm"),
        (6, {"weight": "70 kg", "height": "0 cm"}, "outside 25 to 260 cm"),
        (10, {"height": "170 cm"}, "needs sex"),
        (10, {"sex": "male", "height": "60 cm"}, "outside 105"),  # Devine's line is below zero there
        (22, {"weight": 12}, "give the unit"),
        (22, {"weight": "-3 kg"}, "outside 0.3"),
        (60, {"weight": "heavy", "height": "170 cm"}, "not a number with a unit"),
        (61, {"height": "170 cm"}, "target body mass index"),
        (61, {"bmi": "250 kg/m^2", "height": "170 cm"}, "outside 7 to 120"),
        (62, {"sex": "female", "height": "160 cm"}, "needs weight"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)
