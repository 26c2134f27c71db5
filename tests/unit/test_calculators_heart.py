"""Mean arterial pressure and the QT interval corrected five ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.types import InputError

QTC = {"bazett": 11, "fridericia": 56, "framingham": 57, "hodges": 58, "rautaharju": 59}

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (5, {"systolic": 120, "diastolic": 80}, 93.333),  # (120 + 160) / 3
    (5, {"systolic": "90 mm Hg", "diastolic": "60 mmHg"}, 70.0),
    (5, {"systolic": "16 kPa", "diastolic": "10 kPa"}, 90.007),  # 120.01 and 75.006 mm Hg
    # At 60 beats the RR interval is 1 s, and no formula corrects anything.
    *((number, {"qt": "400 msec", "heart_rate": 60}, 400.0) for number in QTC.values()),
    # At 100 beats RR is 0.6 s: root 0.774597, cube root 0.843433.
    (11, {"qt": "360 msec", "heart_rate": 100}, 464.758),
    (56, {"qt": "360 msec", "heart_rate": 100}, 426.827),
    (57, {"qt": "360 msec", "heart_rate": 100}, 421.6),  # 360 + 154 * 0.4
    (58, {"qt": "360 msec", "heart_rate": 100}, 430.0),  # 360 + 1.75 * 40
    (59, {"qt": "360 msec", "heart_rate": 100}, 440.0),  # 360 * 220 / 180
    # At 48 beats RR is 1.25 s: root 1.118034, cube root 1.077217.
    (11, {"qt": "0.44 s", "heart_rate": "48 bpm"}, 393.548),
    (56, {"qt": "440 ms", "heart_rate": 48}, 408.460),
    (57, {"qt": "440 ms", "heart_rate": 48}, 401.5),  # 440 - 154 * 0.25
    (58, {"qt": "440 ms", "heart_rate": 48}, 419.0),  # 440 - 1.75 * 12
    (59, {"qt": "440 ms", "heart_rate": 48}, 410.667),  # 440 * 168 / 180
]


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("number", QTC.values())
@given(qt=st.integers(250, 600), heart_rate=st.integers(40, 180))
def test_a_faster_heart_has_its_interval_made_longer(number: int, qt: int, heart_rate: int) -> None:
    slower, faster = (
        CALCULATORS[number](qt=(qt, "ms"), heart_rate=rate).value for rate in (heart_rate, heart_rate + 5)
    )
    assert faster > slower
    assert (CALCULATORS[number](qt=(qt, "ms"), heart_rate=heart_rate).value >= qt) == (heart_rate >= 60)


@given(diastolic=st.integers(30, 120), pulse=st.integers(5, 100))
def test_mean_pressure_lies_between_diastolic_and_systolic(diastolic: int, pulse: int) -> None:
    mean = CALCULATORS[5](systolic=diastolic + pulse, diastolic=diastolic).value
    assert diastolic < mean < diastolic + pulse  # type: ignore[operator]


@pytest.mark.parametrize("number", QTC.values())
@given(qt=st.integers(250, 600), heart_rate=st.integers(40, 180))
def test_the_unit_does_not_matter(number: int, qt: int, heart_rate: int) -> None:
    in_seconds = CALCULATORS[number](qt=(qt / 1000, "s"), heart_rate=(heart_rate, "beats per minute")).value
    assert in_seconds == pytest.approx(CALCULATORS[number](qt=(qt, "msec"), heart_rate=heart_rate).value)


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (5, {"systolic": 120}, "needs diastolic"),
        (5, {"systolic": 1200, "diastolic": 80}, "systolic: 1200 mm Hg is outside"),
        (11, {"qt": 400, "heart_rate": 60}, "qt: give the unit"),
        (56, {"qt": "400 mg", "heart_rate": 60}, "'mg' does not convert to msec"),
        (57, {"qt": "400 msec"}, "needs heart_rate"),
        (58, {"qt": "400 msec", "heart_rate": 0}, "heart_rate: 0 bpm is outside"),
        (59, {"qt": "4 h", "heart_rate": 60}, "qt: 1.44e\\+07 msec is outside"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)
