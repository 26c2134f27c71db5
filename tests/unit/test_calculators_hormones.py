"""HOMA-IR."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

HOMA_IR = CALCULATORS["homa-ir"]


@pytest.mark.parametrize(
    ("insulin", "glucose", "expected"),
    [
        ("5 µIU/mL", "81 mg/dL", 1.0),  # 5 * 81 / 405: Matthews' reference person, 5 µU/mL at 4.5 mmol/L
        ("10 µIU/mL", "100 mg/dL", 2.469),  # 1000 / 405
        ("25 mIU/L", "162 mg/dL", 10.0),  # 25 * 162 / 405; mIU/L is µIU/mL
        ("60 pmol/L", "5 mmol/L", 2.224),  # 10 µIU/mL * 90.078 mg/dL / 405
    ],
)
def test_worked_by_hand(insulin: str, glucose: str, expected: float) -> None:
    assert HOMA_IR(insulin=insulin, glucose=glucose).value == pytest.approx(expected, rel=2e-4)


@given(st.floats(1, 300), st.floats(40, 500))
def test_it_is_matthews_formula_in_mmol_whatever_the_unit(insulin: float, glucose: float) -> None:
    value: Any = HOMA_IR(insulin=(insulin, "µIU/mL"), glucose=(glucose, "mg/dL")).value
    assert value == pytest.approx(insulin * (glucose / 18) / 22.5)
    assert HOMA_IR(insulin=(insulin * 6, "pmol/L"), glucose=(glucose / 18.0156, "mmol/L")).value == pytest.approx(value)
    assert HOMA_IR(insulin=(insulin * 1.1, "µIU/mL"), glucose=(glucose, "mg/dL")).value > value


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"insulin": "5 µIU/mL"}, "needs glucose"),
        ({"insulin": 5, "glucose": "90 mg/dL"}, "give the unit"),
        ({"insulin": "5 kg", "glucose": "90 mg/dL"}, "does not convert"),
        ({"insulin": "5 µIU/mL", "glucose": "90 mol/L"}, "outside 5 to 3000 mg/dL"),
    ],
)
def test_what_cannot_be_worked_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        HOMA_IR(**values)
