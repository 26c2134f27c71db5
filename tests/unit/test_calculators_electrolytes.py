"""Corrected calcium and sodium, osmolality, free water deficit, the anion gap and what follows from
it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

CALCIUM, SODIUM, OSMOLALITY, WATER = (CALCULATORS[number] for number in (7, 26, 30, 38))
GAP, DELTA, RATIO, ALBUMIN_GAP, ALBUMIN_DELTA, ALBUMIN_RATIO = (
    CALCULATORS[number] for number in (39, 63, 64, 65, 66, 67)
)


def number_of(calculator: Any, **values: Any) -> float:
    return float(calculator(**values).value)


def gap_of(sodium: float, chloride: float, bicarbonate: float, albumin: float | None = None) -> dict[str, Any]:
    ions: dict[str, Any] = {
        "sodium": (sodium, "mEq/L"),
        "chloride": (chloride, "mEq/L"),
        "bicarbonate": (bicarbonate, "mEq/L"),
    }
    return ions if albumin is None else ions | {"albumin": (albumin, "g/dL")}


EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (7, {"calcium": "8 mg/dL", "albumin": "2 g/dL"}, 9.6),  # 8 + 0.8 * 2
    (7, {"calcium": "10 mg/dL", "albumin": "4 g/dL"}, 10),
    (7, {"calcium": "12 mg/dL", "albumin": "5 g/dL"}, 11.2),  # 12 - 0.8
    (26, {"sodium": "130 mEq/L", "glucose": "600 mg/dL"}, 142),  # 2.4 for every 100 above 100: 130 + 5 * 2.4
    (26, {"sodium": "140 mEq/L", "glucose": "100 mg/dL"}, 140),
    (26, {"sodium": "125 mEq/L", "glucose": "1,100 mg/dL"}, 149),  # 125 + 10 * 2.4
    (26, {"sodium": "140 mEq/L", "glucose": "50 mg/dL"}, 138.8),
    (30, {"sodium": "140 mEq/L", "urea_nitrogen": "14 mg/dL", "glucose": "90 mg/dL"}, 290),  # 280 + 5 + 5
    (30, {"sodium": "130 mEq/L", "urea_nitrogen": "28 mg/dL", "glucose": "360 mg/dL"}, 290),  # 260 + 10 + 20
    (30, {"sodium": "150 mEq/L", "urea_nitrogen": "56 mg/dL", "glucose": "180 mg/dL"}, 330),  # 300 + 20 + 10
    (38, {"sex": "male", "age": 40, "weight": "70 kg", "sodium": "154 mEq/L"}, 4.2),  # 0.6 * 70 * 0.1
    (38, {"sex": "female", "age": 40, "weight": "60 kg", "sodium": "168 mEq/L"}, 6),  # 0.5 * 60 * 0.2
    (38, {"sex": "male", "age": 65, "weight": "70 kg", "sodium": "154 mEq/L"}, 3.5),  # elderly from 65: 0.5 * 70 * 0.1
    (38, {"sex": "male", "age": 64, "weight": "70 kg", "sodium": "154 mEq/L"}, 4.2),
    (38, {"sex": "female", "age": 80, "weight": "60 kg", "sodium": "161 mEq/L"}, 4.05),  # 0.45 * 60 * 0.15
    (
        38,
        {"sex": "female", "age": 17, "weight": "50 kg", "sodium": "154 mEq/L"},
        3,
    ),  # a child of either sex: 0.6 * 50 * 0.1
    (38, {"sex": "female", "age": 18, "weight": "50 kg", "sodium": "154 mEq/L"}, 2.5),
    (38, {"sex": "male", "age": (18, "months"), "weight": "10 kg", "sodium": "140 mEq/L"}, 0),
    (39, gap_of(140, 104, 24), 12),
    (39, gap_of(140, 100, 10), 30),
    (39, gap_of(138, 110, 20), 8),
    (63, gap_of(140, 104, 24), 0),
    (63, gap_of(140, 100, 10), 18),
    (63, gap_of(138, 110, 20), -4),
    (64, gap_of(140, 100, 10), 1.285714),  # 18 / 14: between 1 and 2, a gap acidosis alone
    (64, gap_of(140, 110, 12), 0.5),  # 6 / 12: with a normal-gap acidosis
    (64, gap_of(140, 90, 18), 3.333333),  # 20 / 6: with a metabolic alkalosis
    (64, gap_of(140, 95, 30), -0.5),  # 3 / -6
    (65, gap_of(140, 104, 24, 2), 17),  # 12 + 2.5 * 2
    (65, gap_of(140, 100, 10, 4), 30),
    (65, gap_of(140, 100, 10, 5), 27.5),
    (66, gap_of(140, 104, 24, 2), 5),  # 17 - 12
    (66, gap_of(140, 100, 10, 4), 18),
    (66, gap_of(140, 100, 10, 5), 15.5),
    (67, gap_of(140, 100, 10, 2), 1.642857),  # (35 - 12) / 14
    (67, gap_of(140, 110, 12, 2), 0.916667),  # (23 - 12) / 12
    (67, gap_of(140, 100, 10, 4), 1.285714),
]
SODIUMS, CHLORIDES, BICARBONATES = st.floats(110, 175), st.floats(75, 130), st.floats(3, 45)
ALBUMINS, GLUCOSES, UREAS, CALCIUMS = st.floats(1, 6), st.floats(30, 1500), st.floats(2, 150), st.floats(5, 16)


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert CALCULATORS[number]("medcalc", **values).value == pytest.approx(
        expected, rel=1e-6, abs=1e-9
    )  # no deviation here


@given(calcium=CALCIUMS, albumin=ALBUMINS)
def test_calcium_rises_through_the_correction_as_albumin_falls(calcium: float, albumin: float) -> None:
    less, more = (
        number_of(CALCIUM, calcium=(calcium, "mg/dL"), albumin=(value, "g/dL")) for value in (albumin, albumin + 0.5)
    )
    assert less - more == pytest.approx(0.4)


@given(sodium=SODIUMS, glucose=GLUCOSES, urea=UREAS)
def test_more_solute_is_more_sodium_and_more_osmoles(sodium: float, glucose: float, urea: float) -> None:
    def both(salt: float, sugar: float, nitrogen: float) -> tuple[float, float]:
        values = {"sodium": (salt, "mEq/L"), "glucose": (sugar, "mg/dL")}
        return number_of(SODIUM, **values), number_of(OSMOLALITY, **values, urea_nitrogen=(nitrogen, "mg/dL"))

    corrected, osmoles = both(sodium, glucose, urea)
    assert (corrected > sodium) == (glucose > 100) or corrected == pytest.approx(sodium)
    assert both(sodium + 1, glucose, urea) == pytest.approx((corrected + 1, osmoles + 2))
    assert both(sodium, glucose + 180, urea) == pytest.approx((corrected + 4.32, osmoles + 10))
    assert both(sodium, glucose, urea + 28) == pytest.approx((corrected, osmoles + 10))


@given(sex=st.sampled_from(["female", "male"]), age=st.integers(0, 100), weight=st.floats(3, 200), sodium=SODIUMS)
def test_water_lacks_where_sodium_is_above_140_and_never_more_than_the_body_holds(
    sex: str, age: int, weight: float, sodium: float
) -> None:
    def litres(who: str, years: int, mass: float, salt: float) -> float:
        return number_of(WATER, sex=who, age=years, weight=(mass, "kg"), sodium=(salt, "mEq/L"))

    deficit = litres(sex, age, weight, sodium)
    assert deficit < litres(sex, age, weight, sodium + 1)
    assert deficit * (sodium - 140) >= 0
    assert abs(deficit) <= 0.6 * weight * abs(sodium / 140 - 1) + 1e-9
    assert abs(litres(sex, min(age + 20, 120), weight, sodium)) <= abs(deficit) + 1e-9
    assert abs(litres("female", age, weight, sodium)) <= abs(litres("male", age, weight, sodium)) + 1e-9
    assert litres(sex, age, 2 * weight, sodium) == pytest.approx(2 * deficit)


@given(sodium=SODIUMS, chloride=CHLORIDES, bicarbonate=BICARBONATES, albumin=ALBUMINS)
def test_the_gaps_hang_together(sodium: float, chloride: float, bicarbonate: float, albumin: float) -> None:
    assume(abs(bicarbonate - 24) > 0.01)
    plain, full = gap_of(sodium, chloride, bicarbonate), gap_of(sodium, chloride, bicarbonate, albumin)
    gap = number_of(GAP, **plain)
    corrected = number_of(ALBUMIN_GAP, **full)
    assert gap + chloride + bicarbonate == pytest.approx(sodium)
    assert corrected - gap == pytest.approx(2.5 * (4 - albumin))
    for found, delta, ratio, values in ((gap, DELTA, RATIO, plain), (corrected, ALBUMIN_DELTA, ALBUMIN_RATIO, full)):
        difference = number_of(delta, **values)
        assert difference == pytest.approx(found - 12)
        assert number_of(ratio, **values) * (24 - bicarbonate) == pytest.approx(difference, abs=1e-9)


@given(sodium=SODIUMS, chloride=CHLORIDES, bicarbonate=BICARBONATES, albumin=ALBUMINS)
def test_sodium_widens_a_gap_and_chloride_bicarbonate_and_albumin_narrow_it(
    sodium: float, chloride: float, bicarbonate: float, albumin: float
) -> None:
    for calculator in (ALBUMIN_GAP, ALBUMIN_DELTA):
        now = number_of(calculator, **gap_of(sodium, chloride, bicarbonate, albumin))
        assert number_of(calculator, **gap_of(sodium + 1, chloride, bicarbonate, albumin)) > now
        assert number_of(calculator, **gap_of(sodium, chloride + 1, bicarbonate, albumin)) < now
        assert number_of(calculator, **gap_of(sodium, chloride, bicarbonate + 1, albumin)) < now
        assert number_of(calculator, **gap_of(sodium, chloride, bicarbonate, albumin + 1)) < now


@given(
    sodium=SODIUMS,
    chloride=CHLORIDES,
    bicarbonate=BICARBONATES,
    albumin=ALBUMINS,
    calcium=CALCIUMS,
    glucose=GLUCOSES,
    urea=UREAS,
    weight=st.floats(3, 200),
)
def test_the_unit_does_not_matter(
    sodium: float,
    chloride: float,
    bicarbonate: float,
    albumin: float,
    calcium: float,
    glucose: float,
    urea: float,
    weight: float,
) -> None:
    assume(abs(bicarbonate - 24) > 0.01)
    usual: dict[str, Any] = gap_of(sodium, chloride, bicarbonate, albumin) | {
        "calcium": (calcium, "mg/dL"),
        "glucose": (glucose, "mg/dL"),
        "urea_nitrogen": (urea, "mg/dL"),
        "weight": (weight, "kg"),
        "age": 40,
        "sex": "female",
    }
    # Molar masses: calcium 40.078, glucose 180.156, two nitrogens 28.014 g/mol.
    other: dict[str, Any] = {
        "sodium": (sodium, "mmol/L"),
        "chloride": (chloride, "mmol/L"),
        "bicarbonate": (bicarbonate, "mmol/L"),
        "albumin": (albumin * 10, "g/L"),
        "calcium": (calcium / 4.0078, "mmol/L"),
        "glucose": (glucose / 18.0156, "mmol/L"),
        "urea_nitrogen": (urea / 2.8014, "mmol/L"),
        "weight": (weight / 0.45359237, "lb"),
        "age": (480, "months"),
        "sex": "F",
    }
    for calculator in (
        CALCIUM,
        SODIUM,
        OSMOLALITY,
        WATER,
        GAP,
        DELTA,
        RATIO,
        ALBUMIN_GAP,
        ALBUMIN_DELTA,
        ALBUMIN_RATIO,
    ):
        names = [item.name for item in calculator.inputs]
        value, same = (number_of(calculator, **{name: given[name] for name in names}) for given in (usual, other))
        assert same == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (7, {"calcium": "8 mg/dL"}, "needs albumin"),
        (7, {"calcium": "8 mg/dL", "albumin": "28 g/dL"}, "outside 0.2 to 8 g/dL"),  # g/L was meant
        (7, {"calcium": 8, "albumin": "2 g/dL"}, "calcium: give the unit"),
        (26, {"sodium": "130 mEq/L", "glucose": "600 U/L"}, "does not convert to mg/dL of glucose"),
        (30, {"sodium": "140 mEq/L", "bun": "14 mg/dL", "glucose": "90 mg/dL"}, "no input 'bun'"),
        (38, {"age": 40, "weight": "70 kg", "sodium": "154 mEq/L"}, "needs sex"),
        (38, {"sex": "male", "age": 140, "weight": "70 kg", "sodium": "154 mEq/L"}, "outside 0 to 125"),
        (39, {"sodium": "140 mEq/L", "chloride": "104 mEq/L"}, "needs bicarbonate"),
        (39, gap_of(14, 104, 24), "outside 80 to 220"),
        (63, {"sodium": "140 mEq/L", "bicarbonate": "24 mEq/L"}, "needs chloride"),
        (64, gap_of(140, 104, 24), "no fall to compare with"),
        (65, gap_of(140, 104, 24), "needs albumin"),
        (66, gap_of(140, 104, 240, 4), "outside 1 to 80"),
        (67, gap_of(140, 104, 24, 2), "no fall to compare with"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)
