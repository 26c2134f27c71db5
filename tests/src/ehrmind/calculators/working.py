"""How a calculator shows its working: numbered steps, each with what it finds, the expression with the patient's numbers, and the result.

    steps = Steps()
    rr = steps("RR interval", f"60 / {num(heart_rate)}", 60 / heart_rate, "s")

An arithmetic expression is plain text in + - * / ^ sqrt ln exp min max that comes to the step's value; a criterion's step holds the finding
and its points.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

Value: TypeAlias = float | int | datetime.date | tuple[int, int]
V = TypeVar("V", bound=Value)


@dataclass(frozen=True, slots=True)
class Step:
    """`points` is set on a criterion of a score: what it adds to the total."""

    what: str
    expression: str
    value: Value | str
    unit: str | None = None
    points: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """`value` is a number, a day, or (weeks, days). `assumed` says what stood in for inputs that were not given,
    `ignored` which given entities the calculator does not use."""

    value: Value
    unit: str | None
    steps: tuple[Step, ...]
    assumed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


class Steps(list[Step]):
    """The steps so far. Calling it adds one and hands the value back."""

    def __call__(self, what: str, expression: str, value: V, unit: str | None = None) -> V:
        self.append(Step(what, expression, value, unit))
        return value

    def note(self, what: str, found: str) -> None:
        """A decision on the way, without a number: which branch is taken and why."""
        self.append(Step(what, "", found))

    def points(self, what: str, finding: str, points: float) -> float:
        """A criterion: its name with its threshold, what was found, the points it earns."""
        self.append(Step(what, finding, points, "points", points=points))
        return points

    def flag(self, what: str, present: bool, points: float = 1) -> float:
        """A criterion that is there or not."""
        return self.points(what, "present" if present else "absent", points if present else 0)

    def total(self, what: str, unit: str = "points") -> float:
        """The sum of all criteria so far, as an integer where it is one."""
        earned = [step.points for step in self if step.points is not None]
        total = sum(earned)
        value = int(total) if total == int(total) else total
        return self(what, " + ".join(num(points) for points in earned), value, unit)


def num(value: float, digits: int = 4) -> str:
    """A number as a person writes it: at most `digits` decimals (more for small ones), no trailing zeros."""
    if value and abs(value) < 0.01:
        return f"{value:.4g}"
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".") if value != int(value) else f"{int(value)}"
    return "0" if text == "-0" else text
