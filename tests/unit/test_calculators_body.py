"""Body mass index, ideal, adjusted and target weight, body surface area, maintenance fluids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

BMI, IDEAL, FLUIDS, SURFACE, TARGET, ADJUSTED = (CALCULATORS[number] for number in (6, 10, 22, 60, 61, 62))

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (6, {"weight": "70 kg", "height": "175 cm"}, 22.857),  # 70 / 3.0625
    (6, {"weight": "100 kg", "height": "2 m"}, 25.0),
    (6, {"weight": "154 lb", "height": "70 in"}, 22.097),  # 69.853 / 1.778^2
    (10, {"sex": "male", "height": "60 in"}, 50.0),  # Devine's base
    (10, {"sex": "female", "height": "60 in"}, 45.5),
    (10, {"sex": "male", "height": "182.88 cm"}, 77.6),  # 72 in: 50 + 2.3 * 12
    (10, {"sex": "female", "height": "57 in"}, 38.6),  # 45.5 - 2.3 * 3
    (22, {"weight": "8 kg"}, 32.0),  # 4 * 8
    (22, {"weight": "10 kg"}, 40.0),
    (22, {"weight": "15 kg"}, 50.0),  # 40 + 2 * 5
    (22, {"weight": "20 kg"}, 60.0),
    (22, {"weight": "70 kg"}, 110.0),  # 60 + 50
    (22, {"weight": "3500 g"}, 14.0),
    (60, {"weight": "70 kg", "height": "170 cm"}, 1.8181),  # root of 3.30556
    (60, {"weight": "80 kg", "height": "180 cm"}, 2.0),  # root of 4
    (60, {"weight": "20 kg", "height": "110 cm"}, 0.78174),  # root of 0.61111
    (61, {"bmi": "25 kg/m^2", "height": "2 m"}, 100.0),
    (61, {"bmi": "22 kg/m^2", "height": "170 cm"}, 63.58),  # 22 * 2.89
    (61, {"bmi": "20 kg/m2", "height": "60 in"}, 46.451),  # 20 * 1.524^2
    (62, {"sex": "male", "weight": "100 kg", "height": "60 in"}, 70.0),  # 50 + 0.4 * 50
    (62, {"sex": "female", "weight": "45.5 kg", "height": "60 in"}, 45.5),
    (62, {"sex": "male", "weight": "117.6 kg", "height": "72 in"}, 93.6),  # 77.6 + 0.4 * 40
]
WEIGHTS, HEIGHTS, SEXES = st.floats(2, 250), st.floats(130, 210), st.sampled_from(["male", "female"])


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected, rel=1e-4)


@given(weight=WEIGHTS)
def test_fluids_rise_with_weight_by_four_two_and_one(weight: float) -> None:
    now, more = (FLUIDS(weight=(value, "kg")).value for value in (weight, weight + 1))
    assert 1 - 1e-9 <= more - now <= 4 + 1e-9  # type: ignore[operator]
    assert FLUIDS(weight=(weight / 0.45359237, "lb")).value == pytest.approx(now)


@given(weight=WEIGHTS, height=HEIGHTS)
def test_index_and_surface_follow_weight_and_height(weight: float, height: float) -> None:
    heavier = {"weight": (weight * 1.1, "kg"), "height": (height, "cm")}
    taller = {"weight": (weight, "kg"), "height": (height * 1.1, "cm")}
    same = {"weight": (weight, "kg"), "height": (height, "cm")}
    assert BMI(**taller).value < BMI(**same).value < BMI(**heavier).value
    assert SURFACE(**same).value < min(SURFACE(**heavier).value, SURFACE(**taller).value)
    other = {"weight": (weight * 1000, "g"), "height": (height / 30.48, "feet")}
    assert (BMI(**other).value, SURFACE(**other).value) == (pytest.approx(BMI(**same).value), pytest.approx(SURFACE(**same).value))


@given(sex=SEXES, weight=WEIGHTS, height=HEIGHTS)
def test_the_adjusted_weight_lies_between_ideal_and_actual(sex: str, weight: float, height: float) -> None:
    ideal = IDEAL(sex=sex, height=(height, "cm")).value
    adjusted = ADJUSTED(sex=sex, weight=(weight, "kg"), height=(height, "cm")).value
    assert min(ideal, weight) - 1e-9 <= adjusted <= max(ideal, weight) + 1e-9  # type: ignore[operator,type-var]
    assert IDEAL(sex=sex, height=(height / 2.54, "in")).value == pytest.approx(ideal)


@given(bmi=st.floats(12, 60), height=HEIGHTS)
def test_the_target_weight_has_the_target_index(bmi: float, height: float) -> None:
    weight = TARGET(bmi=(bmi, "kg/m^2"), height=(height, "cm")).value
    assert BMI(weight=(weight, "kg"), height=(height, "cm")).value == pytest.approx(bmi)


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (6, {"weight": "70 kg"}, "needs height"),
        (6, {"weight": 70, "height": "175 cm"}, "weight: give the unit"),
        (10, {"sex": "male", "height": "70 kg"}, "'kg' does not convert to cm"),
        (22, {"weight": "-7 kg"}, "weight: -7 kg is outside"),
        (60, {"weight": "70 kg", "height": "17 cm"}, "height: 17 cm is outside"),
        (61, {"height": "170 cm"}, "needs bmi"),
        (62, {"weight": "70 kg", "height": "170 cm"}, "needs sex"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)
