"""Lines that `ehrmind calc` prints: the list, one calculator's card, one patient's working."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.calculator import Calculator, Convention
from ehrmind.calculators.inputs import Input
from ehrmind.calculators.telling import shown, step_text
from ehrmind.calculators.working import Result
from ehrmind.types import InputError


def list_lines() -> Iterator[str]:
    for calculator in CALCULATORS.values():
        yield f"{calculator.id:>3}  {calculator.slug:<30} {calculator.category:<10} {calculator.name}"


def show_lines(name: str) -> Iterator[str]:
    calculator = CALCULATORS[name]
    yield f"{calculator.name} ({calculator.slug}, MedCalc-Bench {calculator.id}, {calculator.category})"
    yield calculator.question
    yield f"formula:   {calculator.formula}"
    yield f"published: {calculator.citation}"
    yield "inputs:"
    for item in calculator.inputs:
        yield f"  {item.name:<28} {item.label}: {item.describe()}{_if_missing(item)}"
    for found in calculator.deviations:
        yield f"{', '.join(found.conventions)}: {found.what} ({found.why})"


def work(name: str, assignments: Sequence[str], convention: Convention = "published") -> Result:
    """Works a calculator on `input=value` texts. Raises InputError for one that has no `=` or does
    not fit."""
    given: dict[str, str] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(
                f"'{text[:60]}' is not an input; write input=value, for example age=72 or 'creatinine=124 umol/L'."
            )
        key = key.strip().replace("-", "_")
        if key in given:
            raise InputError(f"{key} is given twice; keep one.")
        given[key] = value.strip()
    return CALCULATORS[name](convention, **given)


def work_lines(name: str, result: Result) -> Iterator[str]:
    calculator = CALCULATORS[name]
    yield f"{calculator.name}: {shown(result.value)}{f' {result.unit}' if result.unit and not _spoken(result) else ''}"
    yield from (f"  {place}. {step_text(step)}" for place, step in enumerate(result.steps, start=1))
    yield from (f"  assumed: {text}" for text in result.assumed)
    yield f"published: {calculator.citation}"


def as_dict(name: str, result: Result) -> dict[str, Any]:
    calculator: Calculator = CALCULATORS[name]
    return {
        "id": calculator.id,
        "calculator": calculator.slug,
        "value": plain(result.value),
        "unit": result.unit,
        "steps": [
            {"what": step.what, "expression": step.expression, "value": plain(step.value), "unit": step.unit}
            for step in result.steps
        ],
        "assumed": list(result.assumed),
        "citation": calculator.citation,
    }


def plain(value: Any) -> Any:
    """Prepares a value for JSON: a day as ISO text, weeks and days as a list."""
    return value.isoformat() if isinstance(value, datetime.date) else list(value) if isinstance(value, tuple) else value


def _spoken(result: Result) -> bool:
    return isinstance(result.value, tuple | datetime.date)


def _if_missing(item: Input) -> str:
    return f" ({item.because})" if item.because else " (required)"
