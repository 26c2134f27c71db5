"""The 55 calculators of MedCalc-Bench as pure functions with units, citations and steps.

CALCULATORS[2](sex="male", age=83, weight="67.2 kg", height="173 cm", creatinine="1.4 mg/dL").value
CALCULATORS["creatinine-clearance"]          # by name, by slug, by benchmark id
from_entities(2, {"sex": "Male", ...})       # a row's "Relevant Entities"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ehrmind.calculators import (
    apache,
    body,
    comorbidity,
    critical_care,
    electrolytes,
    heart,
    heart_risk,
    hormones,
    kidney,
    liver,
    lungs,
    medicines,
    pregnancy,
    throat,
    veins,
)
from ehrmind.calculators.calculator import Calculator, Convention, Deviation
from ehrmind.calculators.catalogue import CATALOGUE, entry_by_name
from ehrmind.calculators.entities import work_entities
from ehrmind.calculators.working import Result, Step, Steps
from ehrmind.types import InputError

__all__ = ["CALCULATORS", "Calculator", "Convention", "Deviation", "Result", "Step", "Steps", "from_entities"]


class _Calculators(dict[int | str, Calculator]):
    """Calculators by benchmark id. A name or slug in any casing finds the same calculator."""

    def __missing__(self, key: object) -> Calculator:
        if isinstance(key, str):
            return self[int(key) if key.isdecimal() and len(key) < 4 else entry_by_name(key).id]
        raise InputError(f"{key} is not the id of a calculator; there are {', '.join(map(str, CATALOGUE))}.")


SYSTEMS = (
    apache,
    body,
    comorbidity,
    critical_care,
    electrolytes,
    heart,
    heart_risk,
    hormones,
    kidney,
    liver,
    lungs,
    medicines,
    pregnancy,
    throat,
    veins,
)
_ALL = {calculator.id: calculator for system in SYSTEMS for calculator in system.CALCULATORS}
CALCULATORS = _Calculators({number: _ALL[number] for number in CATALOGUE if number in _ALL})


def from_entities(
    calculator_id: int | str, entities: Mapping[str, Any], convention: Convention = "published"
) -> Result:
    """Works a MedCalc-Bench row's entities. Raises InputError naming the input that is missing or
    does not fit."""
    return work_entities(CALCULATORS[calculator_id], entities, convention)
