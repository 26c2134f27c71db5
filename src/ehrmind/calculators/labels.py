"""Turns a calculator's result into the label of a Case, and works a Case's own inputs again.

A Case from a benchmark row carries the row's entities in its provenance; a synthetic one carries
the inputs that its note states.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from datetime import date
from typing import Any

from ehrmind.calculators import CALCULATORS, Convention, Result, from_entities
from ehrmind.calculators.catalogue import Entry
from ehrmind.calculators.entities import inputs_of
from ehrmind.calculators.working import num
from ehrmind.types import Case, InputError


def truth_of(entry: Entry, result: Result) -> dict[str, Any]:
    """Returns a calculator's result as a truth: scores, dates and weeks exact, other numbers ±5 %,
    as in the benchmark."""
    about: dict[str, Any] = {"kind": entry.kind, "calculator": entry.id}
    value = result.value
    if isinstance(value, date):
        return about | {"value": value.isoformat()}
    if isinstance(value, tuple):
        return about | {"weeks": value[0], "days": value[1]}
    if entry.kind == "integer":
        return about | {"value": int(value), "unit": entry.unit}
    value = float(num(value))
    low, high = sorted((value * 0.95, value * 1.05))
    return about | {"value": value, "low": low, "high": high, "unit": entry.unit}


def agrees(truth: Mapping[str, Any], result: Result) -> bool:
    """True if a calculator's result is right by the truth's rule. The benchmark stores numbers
    rounded to three decimals."""
    value = result.value
    if isinstance(value, date):
        return bool(truth["value"] == value.isoformat())
    if isinstance(value, tuple):
        return bool((truth["weeks"], truth["days"]) == value)
    if truth["kind"] == "integer":
        return bool(truth["value"] == value)
    return bool(truth["low"] <= value <= truth["high"] or truth["value"] == round(value, 3))


def work_case(case: Case, convention: Convention = "published") -> tuple[Result | None, str | None]:
    """Works a case. Returns (the calculator's result on the case's inputs, None), or (None, the
    reason why there is none)."""
    number = case.truth["calculator"]
    if "inputs" in case.provenance:
        try:
            return CALCULATORS[number](convention, **case.provenance["inputs"]), None
        except InputError:
            return None, "its inputs do not fit"
    if "entities" not in case.provenance:
        return None, "it has no entities"
    try:
        return from_entities(number, entities_of(case), convention), None
    except InputError:
        return None, "its entities cannot be computed"


def given_inputs(case: Case) -> dict[str, Any]:
    """Returns by name the inputs that the case says its note holds, as `Calculator` takes them;
    empty if it names none."""
    if "inputs" in case.provenance:
        return dict(case.provenance["inputs"])
    if "entities" not in case.provenance:
        return {}
    try:
        return inputs_of(CALCULATORS[case.truth["calculator"]], entities_of(case), "published")[0]
    except InputError:
        return {}


def entities_of(case: Case) -> dict[str, Any]:
    """Parses a row's entities. The reader has already checked that they are a dictionary
    literal."""
    found = ast.literal_eval(case.provenance["entities"].strip())
    assert isinstance(found, dict)
    return found
