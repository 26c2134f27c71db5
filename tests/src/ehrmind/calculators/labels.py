"""A calculator's result as the label of a Case, and a Case's own inputs worked again.

A Case made of a benchmark row carries the row's entities in its provenance, a made-up one the inputs that its note states.
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
    """A calculator's result as a truth: scores, dates and weeks exact, ±5 % around every other number, as the benchmark has it."""
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
    """Whether a calculator's result is right by the truth's rule. The benchmark rounds what it stores to three decimals."""
    value = result.value
    if isinstance(value, date):
        return bool(truth["value"] == value.isoformat())
    if isinstance(value, tuple):
        return bool((truth["weeks"], truth["days"]) == value)
    if truth["kind"] == "integer":
        return bool(truth["value"] == value)
    return bool(truth["low"] <= value <= truth["high"] or truth["value"] == round(value, 3))


def work_case(case: Case, convention: Convention = "published") -> tuple[Result | None, str | None]:
    """(the calculator's result on what the case says of its inputs, None), or (None, why there is none)."""
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
    """Inputs by name that the case says its note holds, as `Calculator` takes them; empty where it says nothing of them."""
    if "inputs" in case.provenance:
        return dict(case.provenance["inputs"])
    if "entities" not in case.provenance:
        return {}
    try:
        return inputs_of(CALCULATORS[case.truth["calculator"]], entities_of(case), "published")[0]
    except InputError:
        return {}


def entities_of(case: Case) -> dict[str, Any]:
    """A row's entities, which the reader has already seen to be a dictionary literal."""
    found = ast.literal_eval(case.provenance["entities"].strip())
    assert isinstance(found, dict)
    return found
