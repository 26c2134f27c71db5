"""Rules that hold for every calculator, whatever it computes."""

from __future__ import annotations

import ast
import math
import operator
import random
from collections.abc import Callable
from typing import Any

import pytest

from ehrmind.calculators import CALCULATORS, Calculator
from ehrmind.calculators.calculator import CONVENTIONS
from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.calculators.inputs import Choice, Day, Flag, Quantity
from ehrmind.calculators.page import page
from ehrmind.calculators.working import Step
from ehrmind.data.synthetic import synthetic_case
from ehrmind.types import InputError

ALL = [pytest.param(calculator, id=calculator.slug) for calculator in CALCULATORS.values()]
OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt,
    "ln": math.log,
    "exp": math.exp,
    "min": min,
    "max": max,
}


def arithmetic(node: ast.AST) -> float:
    """The value of + - * / ^ sqrt ln exp min max over numbers, and of nothing else."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BinOp(left=left, op=sign, right=right):
            return OPERATORS[type(sign)](arithmetic(left), arithmetic(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -arithmetic(operand)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return FUNCTIONS[name](*map(arithmetic, arguments))
    raise AssertionError(f"{ast.dump(node)} is not arithmetic")


def worth(step: Step) -> float:
    return arithmetic(ast.parse(step.expression.replace("^", "**"), mode="eval").body)


def given_to(calculator: Calculator, index: int) -> dict[str, Any]:
    """Inputs of a synthetic case in mixed units."""
    return dict(synthetic_case(7, index, "train", calculator, "hard").provenance["inputs"])


def test_all_of_the_benchmarks_calculators_are_here_by_id_name_and_slug() -> None:
    assert list(CALCULATORS) == list(CATALOGUE)
    for number, entry in CATALOGUE.items():
        assert (
            CALCULATORS[number]
            is CALCULATORS[entry.name]
            is CALCULATORS[entry.slug.upper()]
            is CALCULATORS[str(number)]
        )


@pytest.mark.parametrize("unknown", [1, 999, "horoscope", None])
def test_what_is_no_calculator_is_refused_in_a_sentence(unknown: Any) -> None:
    with pytest.raises(InputError, match="calculator"):
        CALCULATORS[unknown]


@pytest.mark.parametrize("calculator", ALL)
def test_its_card_is_complete(calculator: Calculator) -> None:
    assert calculator.question.endswith("?") or calculator.question.endswith(".")
    assert calculator.formula
    assert any(year in calculator.citation for year in map(str, range(1820, 2027))), "a citation has a year"
    names = [item.name for item in calculator.inputs]
    assert len(set(names)) == len(names) > 0
    for found in calculator.deviations:
        assert found.what and found.why and (found.settings or found.defaults or found.keys or found.units)
        assert set(found.conventions) <= set(CONVENTIONS) - {"published"}


def test_one_name_means_one_thing_in_every_calculator() -> None:
    kinds: dict[str, tuple[type, str]] = {}
    for calculator in CALCULATORS.values():
        for item in calculator.inputs:
            unit = (
                item.unit if isinstance(item, Quantity) else ",".join(item.options) if isinstance(item, Choice) else ""
            )
            assert kinds.setdefault(item.name, (type(item), unit)) == (type(item), unit), (
                f"{item.name} of {calculator.slug}"
            )


@pytest.mark.parametrize("calculator", ALL)
def test_every_expression_comes_to_its_steps_number(calculator: Calculator) -> None:
    seen = 0
    for index in range(60):
        for step in calculator(**given_to(calculator, index)).steps:
            if step.points is None and step.expression and isinstance(step.value, int | float):
                assert worth(step) == pytest.approx(step.value, rel=2e-3, abs=2e-3), (
                    f"{step.what}: {step.expression} is not {step.value}"
                )
                seen += 1
    if CATALOGUE[calculator.id].kind in ("decimal", "integer"):
        assert seen


@pytest.mark.parametrize("calculator", ALL)
def test_the_last_step_is_the_answer(calculator: Calculator) -> None:
    for index in range(20):
        result = calculator(**given_to(calculator, index))
        assert result.steps[-1].value == result.value
        if CATALOGUE[calculator.id].kind == "integer":
            assert isinstance(result.value, int)


@pytest.mark.parametrize("calculator", ALL)
def test_it_is_a_pure_function(calculator: Calculator) -> None:
    given = given_to(calculator, 3)
    assert calculator(**given) == calculator(**given)


@pytest.mark.parametrize("calculator", ALL)
def test_a_missing_input_is_refused_by_name_or_stood_in_for_aloud(calculator: Calculator) -> None:
    given = given_to(calculator, 5)
    for item in calculator.inputs:
        rest = {name: value for name, value in given.items() if name != item.name}
        if item.because:
            assert any(text.startswith(f"{item.label}: ") for text in _assumed(calculator, rest))
        else:
            with pytest.raises(InputError, match=item.name):
                calculator(**rest)


def _assumed(calculator: Calculator, given: dict[str, Any]) -> tuple[str, ...]:
    try:
        return calculator(**given).assumed
    except InputError as error:  # a score that needs at least one of several inputs says so
        return tuple(f"{item.label}: {error}" for item in calculator.inputs)


@pytest.mark.parametrize("calculator", ALL)
def test_a_value_that_is_none_is_refused_by_name(calculator: Calculator) -> None:
    given = given_to(calculator, 5)
    for item in calculator.inputs:
        for wrong in _wrong(item):
            with pytest.raises(InputError, match=item.name):
                calculator(**{**given, item.name: wrong})


def _wrong(item: Any) -> tuple[Any, ...]:
    if isinstance(item, Quantity):
        above = (item.high * 1.001 + 1, item.unit) if item.unit else item.high * 1.001 + 1
        return (
            "",
            "much",
            float("nan"),
            (1, "bananas"),
            (3, "K/uL/kg"),
            above,
            -1e9 if not item.unit else (-1e9, item.unit),
            True,
        )
    if isinstance(item, Flag):
        return ("perhaps", 3)
    if isinstance(item, Choice):
        return ("perhaps", 3)
    assert isinstance(item, Day)
    return ("13/13/2013", "yesterday", 3)


@pytest.mark.parametrize("calculator", ALL)
def test_a_unit_of_something_else_does_not_convert(calculator: Calculator) -> None:
    given = given_to(calculator, 1)
    for item in calculator.inputs:
        if isinstance(item, Quantity) and item.unit:
            other = "kPa" if item.unit != "mm Hg" else "kg"
            with pytest.raises(InputError, match=f"{item.name}: '{other}'"):
                calculator(**{**given, item.name: (1, other)})


@pytest.mark.parametrize("calculator", ALL)
def test_the_order_of_inputs_does_not_matter(calculator: Calculator) -> None:
    given = list(given_to(calculator, 2).items())
    random.Random(0).shuffle(given)
    assert calculator(**dict(given)) == calculator(**given_to(calculator, 2))


def test_the_page_of_calculators_is_what_they_say() -> None:
    from pathlib import Path

    stored = (Path(__file__).resolve().parents[2] / "docs" / "calculators.md").read_text(encoding="utf-8")
    assert stored == page(), "run python -m ehrmind.calculators.page > docs/calculators.md"
