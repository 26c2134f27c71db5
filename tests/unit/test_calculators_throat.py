"""Centor (modified by McIsaac) and FeverPAIN."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

CENTOR, FEVERPAIN = CALCULATORS[20], CALCULATORS[33]
SIGNS = ("cough_absent", "tonsil_exudate", "tender_nodes")
PAIN = ("fever_24_hours", "no_cough_or_coryza", "onset_3_days", "purulent_tonsils", "inflamed_tonsils")

EXAMPLES: list[tuple[int, dict[str, Any], int]] = [
    (20, {"age": 20, "temperature": "37 C"}, 0),
    (20, {"age": 10, "temperature": "38.5 C", "cough_absent": True, "tonsil_exudate": True, "tender_nodes": True}, 5),
    (20, {"age": 45, "temperature": "37 C"}, -1),
    (20, {"age": 14, "temperature": "38 C"}, 1),  # above 38, not from 38
    (20, {"age": 15, "temperature": "101 F", "tender_nodes": True}, 2),  # 38.3 C
    *((20, {"age": age, "temperature": "37 C"}, points) for age, points in ((3, 1), (14, 1), (15, 0), (44, 0))),
    (33, {}, 0),
    (33, dict.fromkeys(PAIN, True), 5),
    (33, {"fever_24_hours": True, "no_cough_or_coryza": False, "onset_3_days": True}, 2),
]


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: int) -> None:
    assert CALCULATORS[number](**values).value == expected


@given(
    age=st.integers(3, 100),
    tenths=st.integers(350, 420),
    signs=st.sets(st.sampled_from(SIGNS)),
    extra=st.sampled_from(SIGNS),
)
def test_centor_is_bounded_monotone_and_blind_to_the_scale(age: int, tenths: int, signs: set[str], extra: str) -> None:
    celsius = tenths / 10
    score = CENTOR(age=age, temperature=(celsius, "C"), **dict.fromkeys(signs, True)).value
    assert -1 <= score <= 5  # type: ignore[operator]
    assert CENTOR(age=age, temperature=(celsius, "C"), **dict.fromkeys({*signs, extra}, True)).value >= score  # type: ignore[operator]
    if tenths != 380:
        assert CENTOR(age=age, temperature=(celsius * 9 / 5 + 32, "F"), **dict.fromkeys(signs, True)).value == score


@given(signs=st.sets(st.sampled_from(PAIN)))
def test_feverpain_counts_its_signs(signs: set[str]) -> None:
    assert FEVERPAIN(**dict.fromkeys(signs, True)).value == len(signs)


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (20, {"age": 20}, "needs temperature"),
        (20, {"age": 1, "temperature": "37 C"}, "age: 1 years is outside 3"),
        (20, {"age": 20, "temperature": 37}, "temperature: give the unit"),
        (20, {"age": 20, "temperature": "37 kg"}, "'kg' is not a temperature"),
        (33, {"fever_24_hours": "38 C"}, "neither yes nor no"),
        (33, {"purulent": True}, "did you mean purulent_tonsils"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_the_verified_release_takes_a_cough_that_is_not_mentioned_for_absent() -> None:
    values = {"age": 17, "temperature": "40 C"}
    assert (CENTOR(**values).value, CENTOR("medcalc", **values).value, CENTOR("medcalc-verified", **values).value) == (
        1,
        1,
        2,
    )
