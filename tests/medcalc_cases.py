"""Synthetic MedCalc cases of each kind of answer, for tests that need no data."""

from __future__ import annotations

from typing import Any

from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.types import Case

# The demo's five calculators in short notes, which a small model reads in a moment.
SHORT: dict[str, Any] = {
    "tasks": ["curb-65", "sirs", "feverpain", "morphine-equivalents", "maintenance-fluids"],
    "difficulty": "easy",
    "manners": ["telegraphic"],
    "styles": ["jotted"],
}

NOTE = "A 60-year-old woman weighs 70 kg; her creatinine is 2.1 mg/dL."
RATIONALE = "The formula is given.\nPlugging the values in, with 2.1 < 3, gives the result."


def synthetic(
    truth: dict[str, Any],
    question: str = "What is the value?",
    note: str = NOTE,
    rationale: str | None = RATIONALE,
    name: str = "made-up-1",
) -> Case:
    calculator = CATALOGUE[truth["calculator"]]
    return Case(
        id=name,
        family="medcalc",
        task=calculator.slug,
        stratum=f"medcalc/{calculator.category}/{calculator.slug}",
        split="held_out",
        group="note-1",
        fields={"note": note, "question": question},
        truth=truth,
        rationale=rationale,
    )


def decimal(value: float = 25.2, calculator: int = 2, **more: Any) -> Case:
    """Limits are 5 % around the value, as in the benchmark; the unit is the calculator's."""
    low, high = sorted((value * 0.95, value * 1.05))
    unit = CATALOGUE[calculator].unit
    return synthetic(
        {"kind": "decimal", "value": value, "low": low, "high": high, "unit": unit, "calculator": calculator}, **more
    )


def integer(value: int = 3, calculator: int = 4, **more: Any) -> Case:
    return synthetic({"kind": "integer", "value": value, "unit": "points", "calculator": calculator}, **more)


def date(value: str = "2007-01-09", **more: Any) -> Case:
    return synthetic({"kind": "date", "value": value, "calculator": 13}, **more)


def age(weeks: int = 14, days: int = 1, **more: Any) -> Case:
    return synthetic({"kind": "weeks_days", "weeks": weeks, "days": days, "calculator": 69}, **more)


ONE_OF_EACH_KIND = (decimal(), integer(), date(), age())
