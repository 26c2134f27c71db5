"""Arithmetic from text agrees with Python's own, and nothing else has a value."""

from __future__ import annotations

import ast
import math
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators.arithmetic import evaluate

OPERATORS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def by_syntax_tree(node: ast.AST) -> float:
    if isinstance(node, ast.Expression):
        return by_syntax_tree(node.body)
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](by_syntax_tree(node.left), by_syntax_tree(node.right))  # type: ignore[no-any-return]
    if isinstance(node, ast.UnaryOp):
        return -by_syntax_tree(node.operand)
    assert isinstance(node, ast.Constant)
    return float(node.value)  # type: ignore[arg-type]


NUMBERS = st.one_of(st.integers(0, 999).map(str), st.floats(0.01, 999).map(lambda value: f"{value:.3f}"))
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-({text})"),
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_sums_and_products_are_those_of_python(text: str) -> None:
    try:
        expected = by_syntax_tree(ast.parse(text, mode="eval"))
    except ZeroDivisionError:
        expected = math.nan
    found = evaluate(text)
    assert (found is None) if math.isnan(expected) else found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2^3^2", 512.0),
        ("-2^2", -4.0),
        ("2 ** -1", 0.5),
        ("142 × (1.4 ÷ 0.7)^−1.2", 142 * 2**-1.2),
        ("sqrt(16) + min(3, 2, 5)", 6.0),
        ("max(ln(exp(2)), log10(10))", 2.0),
    ],
)
def test_powers_signs_and_functions(text: str, value: float) -> None:
    assert evaluate(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "1 +",
            "(1",
            "1)",
            "1 2",
            "1 / 0",
            "sqrt(-1)",
            "(-8)^0.5",
            "10^999",
            "9^9^9^9",
            "__import__('os')",
            "lambda: 1",
            "pow(2,3)",
        ),
        *(
            "1;2",
            "(" * 200 + "1" + ")" * 200,
            "-" * 300 + "1",
            "1+" * 400 + "1",
            "min()",
            "exp",
            "ln 2",
            "nan",
            "inf",
            "1e3",
            "sqrt(1, 2)",
        ),
    ],
)
def test_what_is_no_arithmetic_has_no_value(text: str) -> None:
    assert evaluate(text) is None


@given(st.text(alphabet="0123456789+-*/^()., sqrtlnmax", max_size=80))
def test_any_text_gets_a_finite_number_or_none(text: str) -> None:
    found = evaluate(text)
    assert found is None or math.isfinite(found)
