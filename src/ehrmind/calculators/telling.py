"""Writes a Result as a worked answer: shorthand, jotted, numbered list, prose, or formula first."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from typing import Any

from ehrmind.calculators.calculator import Calculator
from ehrmind.calculators.working import Result, Step, Value, num

_THRESHOLD = re.compile(r",| (?:above|below|of|from|at most) ")
# most findings that a rationale lists as absent; for more it writes "everything else"
MOST_NAMED = 8


def shorthand(calculator: Calculator, result: Result) -> str:
    """Writes as few words as the working allows:
    `urea nitrogen > 19 mg/dL 42.6 mg/dL 1 ; total 2`."""
    return " ; ".join(_short(step) for step in result.steps)


def jotted(calculator: Calculator, result: Result) -> str:
    """Writes what was found and its points, without thresholds:
    `confusion yes 1 ; urea nitrogen 42.6 mg/dL 1 ; total 2`."""
    return " ; ".join(jot(step) for step in result.steps)


def numbered(calculator: Calculator, result: Result) -> str:
    lines = [f"{place}. {step_text(step)}" for place, step in enumerate(result.steps, start=1)]
    return "\n".join([*_assumed(result), *lines, _conclusion(calculator, result)])


def prose(calculator: Calculator, result: Result) -> str:
    return " ".join(
        [
            *_assumed(result),
            *(f"{_capital(step_text(step))}." for step in result.steps),
            _conclusion(calculator, result),
        ]
    )


def formula_first(calculator: Calculator, result: Result) -> str:
    lines = [
        f"{calculator.name}: {calculator.formula}.",
        *_assumed(result),
        *(f"- {step_text(step)}" for step in result.steps),
    ]
    return "\n".join([*lines, _conclusion(calculator, result)])


STYLES: dict[str, Callable[[Calculator, Result], str]] = {
    "shorthand": shorthand,
    "jotted": jotted,
    "numbered": numbered,
    "prose": prose,
    "formula_first": formula_first,
}


def shown(value: Value | str) -> str:
    if isinstance(value, datetime.date):
        return f"{value:%m/%d}/{value.year:04}"
    if isinstance(value, tuple):
        return f"{value[0]} weeks, {value[1]} days"
    return value if isinstance(value, str) else num(value)


def stated(value: Any) -> str:
    """Writes an input as a note states it: `36 mg/dL`, `yes`, `12/31/1999`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        number, unit = value
        return f"{shown(number)}{'' if str(unit).startswith('/') else ' '}{unit}"
    return shown(value) if isinstance(value, datetime.date | int | float) else str(value)


def step_text(step: Step) -> str:
    """Writes one step: what it finds, the expression with the patient's numbers, and the result."""
    if step.points is not None:
        return f"{step.what}: {step.expression}, {num(step.points)} point{'s' * (step.points != 1)}"
    value = f"{shown(step.value)}{f' {step.unit}' if step.unit else ''}"
    if step.expression in ("", shown(step.value)):
        return f"{step.what}: {value}"
    return f"{step.what} = {step.expression} = {value}"


def finding(step: Step) -> str:
    """Writes what was found for a criterion, without its threshold."""
    said = {"present": "yes", "absent": "no"}.get(step.expression)
    return f"{step.what} {said}" if said else f"{_THRESHOLD.split(step.what, maxsplit=1)[0]} {step.expression}"


def jot(step: Step) -> str:
    if step.points is not None:
        return f"{finding(step)} {num(step.points)}"
    if step.unit in ("points", "criteria"):
        return f"total {shown(step.value)}"
    return (
        shown(step.value) if step.expression in ("", shown(step.value)) else f"{step.expression} = {shown(step.value)}"
    )


def _short(step: Step) -> str:
    if step.points is not None:
        return f"{step.what} {step.expression} {num(step.points)}"
    if step.expression in ("", shown(step.value)):
        return f"{step.what} {shown(step.value)}"
    return f"{step.what} {step.expression} = {shown(step.value)}"


def _assumed(result: Result) -> Sequence[str]:
    """Writes the defaults that replaced missing inputs. Findings that count as absent share one
    sentence."""
    absent = [text.partition(":")[0] for text in result.assumed if text.endswith("absent")]
    others = [f"{_capital(text)}." for text in result.assumed if not text.endswith("absent")]
    if len(absent) > MOST_NAMED:
        absent = ["everything else"]
    return [*([f"Not mentioned, so taken as absent: {', '.join(absent)}."] if absent else []), *others]


def _conclusion(calculator: Calculator, result: Result) -> str:
    unit = f" {result.unit}" if result.unit and not isinstance(result.value, tuple | datetime.date) else ""
    return f"So the answer is {shown(result.value)}{unit}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
