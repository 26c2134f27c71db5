"""Corrected calcium and sodium, osmolality, free water deficit, the anion gap and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

ACIDOSIS = {"sodium": "140 mEq/L", "chloride": "100 mEq/L", "bicarbonate": "12 mEq/L"}  # gap 28
NORMAL = {"sodium": "140 mmol/L", "chloride": "104 mmol/L", "bicarbonate": "25 mmol/L"}  # gap 11
LOST = {"sodium": "135 mEq/L", "chloride": "112 mEq/L", "bicarbonate": "14 mEq/L"}  # gap 9

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (7, {"calcium": "8 mg/dL", "albumin": "2 g/dL"}, 9.6),  # 8 + 0.8 * 2
    (7, {"calcium": "10 mg/dL", "albumin": "4 g/dL"}, 10.0),
    (7, {"calcium": "2 mmol/L", "albumin": "30 g/L"}, 8.8156),  # 8.0156 + 0.8
    (26, {"sodium": "130 mEq/L", "glucose": "600 mg/dL"}, 142.0),  # 130 + 0.024 * 500
    (26, {"sodium": "140 mmol/L", "glucose": "100 mg/dL"}, 140.0),
    (26, {"sodium": "125 mmol/L", "glucose": "30 mmol/L"}, 135.571),  # 540.468 mg/dL: 125 + 10.571
    (30, {"sodium": "140 mEq/L", "urea_nitrogen": "14 mg/dL", "glucose": "90 mg/dL"}, 290.0),  # 280 + 5 + 5
    (30, {"sodium": "120 mEq/L", "urea_nitrogen": "28 mg/dL", "glucose": "900 mg/dL"}, 300.0),  # 240 + 10 + 50
    (30, {"sodium": "140 mmol/L", "urea_nitrogen": "5 mmol/L", "glucose": "5 mmol/L"}, 290.007),  # 280 + 5.0025 + 5.0043
    (38, {"sex": "male", "age": 50, "weight": "70 kg", "sodium": "160 mEq/L"}, 6.0),  # 0.6 * 70 / 7
    (38, {"sex": "female", "age": 50, "weight": "70 kg", "sodium": "160 mEq/L"}, 5.0),
    (38, {"sex": "female", "age": 80, "weight": "70 kg", "sodium": "160 mEq/L"}, 4.5),
    (38, {"sex": "male", "age": 65, "weight": "70 kg", "sodium": "126 mEq/L"}, -3.5),  # 35 * (0.9 - 1)
    (38, {"sex": "female", "age": "30 months", "weight": "14 kg", "sodium": "150 mEq/L"}, 0.6),
    (39, ACIDOSIS, 28.0),
    (39, NORMAL, 11.0),
    (39, LOST, 9.0),
    (63, ACIDOSIS, 16.0),
    (63, NORMAL, -1.0),
    (63, LOST, -3.0),
    (64, ACIDOSIS, 16 / 12),
    (64, NORMAL, 1.0),  # -1 / -1
    (64, LOST, -0.3),
    (65, {**ACIDOSIS, "albumin": "2 g/dL"}, 33.0),  # 28 + 2.5 * 2
    (65, {**NORMAL, "albumin": "40 g/L"}, 11.0),
    (65, {**LOST, "albumin": "1.2 g/dL"}, 16.0),
    (66, {**ACIDOSIS, "albumin": "2 g/dL"}, 21.0),
    (66, {**NORMAL, "albumin": "4 g/dL"}, -1.0),
    (66, {**LOST, "albumin": "1.2 g/dL"}, 4.0),
    (67, {**ACIDOSIS, "albumin": "2 g/dL"}, 1.75),
    (67, {**NORMAL, "albumin": "4 g/dL"}, 1.0),
    (67, {**LOST, "albumin": "1.2 g/dL"}, 0.4),
]
IONS = {"sodium": st.integers(110, 170), "chloride": st.integers(80, 130), "bicarbonate": st.integers(5, 45)}


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected, rel=1e-4)


@given(**IONS, albumin=st.floats(1, 6))
def test_a_gap_follows_from_the_one_before(sodium: int, chloride: int, bicarbonate: int, albumin: float) -> None:
    assume(bicarbonate != 24)
    ions = {"sodium": (sodium, "mEq/L"), "chloride": (chloride, "mEq/L"), "bicarbonate": (bicarbonate, "mEq/L")}
    gap, delta, ratio = (CALCULATORS[number](**ions).value for number in (39, 63, 64))
    corrected, corrected_delta, corrected_ratio = (CALCULATORS[number](**ions, albumin=(albumin, "g/dL")).value for number in (65, 66, 67))
    assert delta == pytest.approx(gap - 12)  # type: ignore[operator]
    assert ratio == pytest.approx(delta / (24 - bicarbonate))  # type: ignore[operator]
    assert (corrected > gap) == (albumin < 4) or corrected == pytest.approx(gap)  # type: ignore[operator]
    assert corrected_ratio == pytest.approx(corrected_delta / (24 - bicarbonate))  # type: ignore[operator]


@given(**IONS)
def test_millimoles_and_milliequivalents_of_single_charges_are_the_same(sodium: int, chloride: int, bicarbonate: int) -> None:
    values = {"sodium": sodium, "chloride": chloride, "bicarbonate": bicarbonate}
    results = {CALCULATORS[39](**{name: (value, unit) for name, value in values.items()}).value for unit in ("mEq/L", "mmol/L")}
    assert len(results) == 1


@given(sodium=st.integers(110, 170), urea=st.floats(3, 150), glucose=st.floats(40, 1200))
def test_osmolality_and_corrected_sodium_rise_with_what_is_dissolved(sodium: int, urea: float, glucose: float) -> None:
    def osmolality(**more: Any) -> Any:
        values = {"sodium": (sodium, "mEq/L"), "urea_nitrogen": (urea, "mg/dL"), "glucose": (glucose, "mg/dL")}
        return CALCULATORS[30](**{**values, **more}).value

    assert osmolality() < min(osmolality(sodium=(sodium + 1, "mEq/L")), osmolality(glucose=(glucose + 20, "mg/dL")))
    assert osmolality(glucose=(glucose / 18.0156, "mmol/L")) == pytest.approx(osmolality())
    lower, higher = (CALCULATORS[26](sodium=(sodium, "mEq/L"), glucose=(value, "mg/dL")).value for value in (glucose, glucose + 50))
    assert higher - lower == pytest.approx(1.2)  # type: ignore[operator]


@given(sodium=st.integers(141, 180), weight=st.floats(3, 150), age=st.integers(1, 95), sex=st.sampled_from(["male", "female"]))
def test_a_water_deficit_is_there_when_sodium_is_high(sodium: int, weight: float, age: int, sex: str) -> None:
    deficit = CALCULATORS[38](sex=sex, age=age, weight=(weight, "kg"), sodium=(sodium, "mEq/L")).value
    assert 0 < deficit < 0.6 * weight  # type: ignore[operator]


@given(calcium=st.floats(5, 15), albumin=st.floats(1, 5.5))
def test_calciums_unit_does_not_matter(calcium: float, albumin: float) -> None:
    usual = CALCULATORS[7](calcium=(calcium, "mg/dL"), albumin=(albumin, "g/dL")).value
    for value, unit in ((calcium / 4.0078, "mmol/L"), (calcium / 2.0039, "mEq/L")):
        assert CALCULATORS[7](calcium=(value, unit), albumin=(albumin * 10, "g/L")).value == pytest.approx(usual)


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (7, {"calcium": "8 mg/dL"}, "needs albumin"),
        (26, {"sodium": 130, "glucose": "600 mg/dL"}, "sodium: give the unit"),
        (30, {"sodium": "140 mEq/L", "urea_nitrogen": "14 U/L", "glucose": "90 mg/dL"}, "urea_nitrogen: 'U/L' does not convert"),
        (38, {"sex": "male", "age": 50, "weight": "70 kg", "sodium": "16 mEq/L"}, "sodium: 16 mEq/L is outside"),
        (39, {"sodium": "140 mEq/L", "chloride": "100 mEq/L"}, "needs bicarbonate"),
        (63, {**ACIDOSIS, "bicarbonate": "0.0113 mEq/L"}, "bicarbonate: 0.0113 mEq/L is outside"),
        (64, {**ACIDOSIS, "bicarbonate": "24 mEq/L"}, "undefined"),
        (65, ACIDOSIS, "needs albumin"),
        (66, {**ACIDOSIS, "albumin": "2 mg"}, "'mg' does not convert to g/dL"),
        (67, {**ACIDOSIS, "albumin": "2 g/dL", "bicarbonate": "24 mmol/L"}, "undefined"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)
