"""The reader of written arithmetic: what it comes to, which units, what it will not read."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.process_audit.arithmetic import read_expression
from ehrmind.process_audit.numbers import tokens
from ehrmind.process_audit.steps import day_steps, equations
from ehrmind.process_audit.units import spelled


def read(text: str) -> Any:
    found = tokens(text)
    reading = read_expression(found, 0, len(found))
    assert reading is not None, text
    assert reading.end == len(found), f"{text}: read only so far as {found[reading.end].text}"
    return reading.amount


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("((140 − 83) × 67.2 · 1) ÷ (1.4 * 72)", 38.0),
        ("2/3 * 45.0 mm Hg + 1/3 * 80.0 mm Hg", 56.6667),
        ("142 x (4.1/0.7)**-1.2 x 0.9938^57 x 1.012", 12.0862),
        ("330/√(1.25)", 295.161),
        ("330 + 1.75 * [(60/0.789) - 60]", 358.0798),
        ("79.8 / 1.77²", 25.4716),
        ("0.957 * ln(4) + log(100) - exp(0)", 2.3267),
        ("min(max(133, 125), 137)", 133),
        ("1,234.5 + .5", 1235),
        ("1.5e-3 * 2", 0.003),
        ("-2 + -3", -5),
        ("2^3^2", 512),
        ("50 kg + 2.3 kg * (69.685 (in inches) - 60)", 72.2755),
        ("0.8(4.0 - 2.8)", 0.96),
        ("165000 platelets count/µL * 1000000 µL/L", 1.65e11),
    ],
)
def test_arithmetic_comes_to_what_it_comes_to_on_paper(text: str, value: float) -> None:
    assert read(text).middle == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("366.0 µmol Serum Creatinine * 1e-06 mol/µmol", "mol"),
        ("41.0 mg Serum Creatinine/10.0 dL", "mg/dl"),
        ("0.191 g/(386.65 g total cholesterol/mol)", "mol"),
        ("67.2 kg / (1.73 m * 1.73 m)", "kg/m2"),
        ("7.9 kg * 4 mL/kg/hr", "ml/h"),
        ("12.0 mL/min/1.73 m^2 * 1", "ml/1.73m2/min"),
    ],
)
def test_units_multiply_and_cancel(text: str, unit: str) -> None:
    assert spelled(read(text).unit) == unit


def test_adding_kilograms_to_milligrams_is_a_clash_and_a_constant_may_hide_a_unit() -> None:
    assert read("5 mg + 3 kg").clash
    assert not read("0.8 * (4.0 g/dL - 2.8 g/dL) + 7.6 mg/dL").clash


def _written(parts: Any) -> tuple[str, float]:
    (a, x), sign, (b, y) = parts
    value = {"+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "/": lambda: x / y if y else math.nan}[sign]()
    return f"({a} {sign} {b})", value


Tree = st.recursive(
    st.integers(1, 99).map(lambda n: (str(n), float(n))),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(_written),
    max_leaves=12,
)


@given(Tree)
def test_any_bracketed_arithmetic_is_read_as_python_would(made: tuple[str, float]) -> None:
    text, value = made
    found = tokens(text)
    reading = read_expression(found, 0, len(found))
    if math.isnan(value):
        assert reading is None or math.isnan(reading.amount.low)
    else:
        assert reading is not None
        assert reading.amount.middle == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("IBW = 50 kg + 2.3 kg * (69.685 - 60) = 72.276 kg.", [True]),
        ("IBW = 50 kg + 2.3 kg * (69.685 - 60) = 73.276 kg.", [False]),
        ("60 / 144 = 0.4167 ; 369 / sqrt(0.4167) = 571.6523", [True, True]),  # from the unrounded 0.41666…
        ("60 / 144 = 0.4167 ; 369 / sqrt(0.4167) = 571.9", [True, False]),
        ("(90 - 60) / 2 = 30 / 2 = 15", [True, True]),
        ("3 + 4 = 7 + 2 = 9", [True, True]),  # as it is jotted
        ("the share is 1 / 4 = 25 %", [True]),
        ("2 + 0 / 0 = 2", [False]),
        ("272 days = 38 * 7 + 6 = 38 weeks, 6 days", [True]),
        ("A = 0.7 and sodium + 3 = 5, age * 5 = 20", []),
        ("10-year risk = 100 * (1 - 0.9402^exp(-1.449)) = 1.4374 %", [True]),
        ("4.75 mmol * 0.001 mol/mmol = 0.005 mol", [True]),
    ],
)
def test_steps_are_held_to_the_digits_that_are_written(text: str, right: list[bool]) -> None:
    assert [step.right for step in equations(tokens(text))] == right


def test_a_step_in_the_wrong_unit_is_told_from_one_whose_units_say_nothing() -> None:
    (wrong,) = equations(tokens("4.75 mmol * 0.001 mol/mmol = 0.005 kg"))
    (silent,) = equations(tokens("0.5 * 30.0 * (127.0/140 - 1) = -1.39 L"))
    assert (wrong.unit_right, silent.unit_right) == (False, None)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("07/03/2011 + 280 days + 7 days = 04/15/2012", [True]),
        ("07/03/2011 + 280 days = 04/15/2012", [False]),
        ("The last period was 03/31/2006. The date after adding 40 weeks is 01/05/2007.", [True]),
        ("The date is 01/05/2007. We must subtract 4 days. Hence it is 01-09-2007.", [False]),
        ("The dates are 05/23/2024 and 02/14/2024. The gap is 14 weeks and 1 day.", [True]),
        ("The dates are 05/23/2024 and 02/14/2024. The gap is 14 weeks and 2 days.", [False]),
    ],
)
def test_days_are_counted_on(text: str, right: list[bool]) -> None:
    assert [step.right for step in day_steps(tokens(text))] == right
