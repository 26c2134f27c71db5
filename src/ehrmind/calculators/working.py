"""Records a calculator's working as steps: what each finds, the expression with the patient's
numbers, and the result.

    steps = Steps()
    rr = steps("RR interval", f"60 / {num(heart_rate)}", 60 / heart_rate, "s")

An arithmetic expression is plain text in + - * / ^ sqrt ln exp min max, and its value is the step's
value. The step of a criterion holds the finding and its points.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

Value: TypeAlias = float | int | datetime.date | tuple[int, int]
V = TypeVar("V", bound=Value)


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `points` is set on a criterion of a score: what it adds to the total."""

    what: str
    expression: str
    value: Value | str
    unit: str | None = None
    points: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A calculator's result: a number, a day, or (weeks, days).

    `assumed` lists the defaults that replaced missing inputs. `ignored` lists given entities that
    the calculator does not use.
    """

    value: Value
    unit: str | None
    steps: tuple[Step, ...]
    assumed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


class Steps(list[Step]):
    """The steps so far. Calling it adds a step and returns its value."""

    def __call__(self, what: str, expression: str, value: V, unit: str | None = None) -> V:
        self.append(Step(what, expression, value, unit))
        return value

    def note(self, what: str, found: str) -> None:
        """Adds a decision without a number: which branch is taken and why."""
        self.append(Step(what, "", found))

    def points(self, what: str, finding: str, points: float) -> float:
        """Adds a criterion: its name with its threshold, what was found, and the points it
        earns."""
        self.append(Step(what, finding, points, "points", points=points))
        return points

    def flag(self, what: str, present: bool, points: float = 1) -> float:
        """Adds a criterion that is present or absent."""
        return self.points(what, "present" if present else "absent", points if present else 0)

    def total(self, what: str, unit: str = "points") -> float:
        """Adds the sum of all criteria so far, as an integer if it is one."""
        earned = [step.points for step in self if step.points is not None]
        total = sum(earned)
        value = int(total) if total == int(total) else total
        return self(what, " + ".join(num(points) for points in earned), value, unit)


def num(value: float, digits: int = 4) -> str:
    """Writes a number as a person would: at most `digits` decimals (more for small ones), no
    trailing zeros."""
    if value and abs(value) < 0.01:
        return f"{value:.4g}"
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".") if value != int(value) else f"{int(value)}"
    return "0" if text == "-0" else text
