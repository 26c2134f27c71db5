"""Turns MedCalc-Bench's "Relevant Entities" into a calculator's inputs and its Result.

An entity is `True`, `'Male'`, `12`, `[1.4, 'mg/dL']` or `['PredniSONE PO', 58.4, 'mg']` (two
inputs). Keys are matched by their letters and digits, so subscripts, casing and signs do not
matter. Keys that match no input are listed in the result as ignored; rows carry entities of other
calculators that way.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ehrmind.calculators.calculator import Calculator, Convention
from ehrmind.calculators.inputs import Flag, Input, Quantity, ValueRefusedError
from ehrmind.calculators.working import Result

# Units as some rows write them, and what their notes say.
MISPRINTS = {"m^3": "mm^3", "s mm hg": "mm Hg", "mc/kg/min": "mcg/kg/min", "degrees fahreinheit": "F"}


def work_entities(calculator: Calculator, entities: Mapping[str, Any], convention: Convention = "published") -> Result:
    """Works entities. Raises InputError for an entity that an input refuses, or a required one that
    is missing."""
    given, ignored = inputs_of(calculator, entities, convention)
    return replace(calculator(convention, **given), ignored=tuple(ignored))


def inputs_of(
    calculator: Calculator, entities: Mapping[str, Any], convention: Convention
) -> tuple[dict[str, Any], list[str]]:
    """Returns (inputs by name in a form that they read, keys of entities that match no input)."""
    keys = _keys(calculator, convention)
    misprints = MISPRINTS | calculator.misread_units(convention)
    given: dict[str, Any] = {}
    ignored: list[str] = []
    for key, value in _split(entities):
        item = keys.get(_letters(key))
        if item is None:
            ignored.append(key)
        elif (plain := _plain(item, value, misprints)) is not None:
            given[item.name] = _joined(item, given.get(item.name), plain)
    return given, ignored


def _keys(calculator: Calculator, convention: Convention) -> dict[str, Input]:
    """Maps the letters of a key to its input. A convention may read an input from fewer keys."""
    only = calculator.keys_read(convention)
    found: dict[str, Input] = {}
    for item in calculator.inputs:
        for key in only.get(item.name, (item.name, item.label, *item.entities)):
            found.setdefault(_letters(key), item)
    return found


def _split(entities: Mapping[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in entities.items():
        if isinstance(value, list | tuple) and len(value) == 3:
            pairs += [(key, value[0]), (f"{key} dose", value[1:])]
        else:
            pairs.append((key, value))
    return pairs


def _plain(item: Input, value: Any, misprints: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.strip().casefold().startswith("not ment"):
        return None
    if isinstance(item, Flag) and isinstance(value, str) and value.strip().casefold() in ("moderate", "severe"):
        return True
    if not isinstance(item, Quantity) or not isinstance(value, list | tuple) or len(value) != 2:
        return value
    number, unit = value
    unit = misprints.get(f"{item.name}:{unit}") or misprints.get(str(unit), str(unit))
    if item.unit.startswith("10^") and "/" not in unit:  # some rows write a count per µL as `µL`
        unit = f"/{unit}"
    if item.unit == "%" and unit == "":
        unit = "%"
    return number, unit


def _joined(item: Input, before: Any, value: Any) -> Any:
    """Joins two keys for one input. A finding is present if either says so; two values for a
    measurement are refused."""
    if before is None or before == value:
        return value
    if isinstance(item, Flag):
        return item.read(before) or item.read(value)
    twice = f"{item.name}: the entities give it twice"
    raise ValueRefusedError(f"{twice}, as {before} and as {value}.", f"{twice}, with two values.")


def _letters(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", key).casefold())
