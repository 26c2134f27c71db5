"""Looks numbers up among those that are accounted for, and compares units."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from ehrmind.calculators.units import ANALYTES, convert
from ehrmind.process_audit.numbers import Token, equal_as_written
from ehrmind.process_audit.units import Unit, spelled
from ehrmind.types import InputError

FEW_DIGITS = 3  # a written number with fewer digits is exact, not rounded
MOLAR_MASSES = tuple(
    float(mass) for bridges in ANALYTES.values() for mass in re.findall(r"([0-9.]+) \* gram", bridges[0])
)


@dataclass(slots=True)
class Amounts:
    """Numbers that are accounted for, sorted, each with the unit it was given. A lookup takes
    logarithmic time."""

    numbers: list[float] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, Unit]]) -> Amounts:
        ordered = sorted((abs(value), unit) for value, unit in pairs if math.isfinite(value))
        return cls([value for value, _ in ordered], [unit for _, unit in ordered])

    def units_of(self, token: Token) -> list[Unit]:
        """Returns the units of the numbers that a written number equals or is a rounding of."""
        slack = 0.5 * token.worth if digits(token) >= FEW_DIGITS else 0.0
        slack += 1e-9 * max(1.0, abs(token.value))
        first = bisect_left(self.numbers, token.value - slack)
        found: list[Unit] = []
        while first < len(self.numbers) and self.numbers[first] <= token.value + slack and len(found) < 64:
            found.append(self.units[first])
            first += 1
        return found


def digits(token: Token) -> int:
    """Counts the significant digits of a number as it is written."""
    return len(token.text.lower().partition("e")[0].replace(",", "").replace(".", "").lstrip("0"))


def says(value: float, token: Token) -> bool:
    """True if a written number is the value or a rounding of it."""
    if digits(token) < FEW_DIGITS:
        return abs(abs(value) - token.value) <= 1e-9 * max(1.0, token.value)
    return equal_as_written(abs(value), token.value, token.worth)


def alike(one: Unit, other: Unit) -> bool:
    """True if two units are the same.

    They are if they are spelled alike, have the same size, or if one lacks its denominator (µmol
    for µmol/L). No unit is like any unit.
    """
    if one == other or not one or not other:
        return True
    one_is_half = _above(one) == _above(other) != () and () in (_below(one), _below(other))
    return one_is_half or _same_size(one, other)


def _above(unit: Unit) -> Unit:
    return tuple(pair for pair in unit if pair[1] > 0)


def _below(unit: Unit) -> Unit:
    return tuple(pair for pair in unit if pair[1] < 0)


@lru_cache(maxsize=4096)
def _same_size(one: Unit, other: Unit) -> bool:
    try:
        return math.isclose(convert(1.0, spelled(one), spelled(other)), 1.0)
    except InputError:
        return False


_KINDS = {
    **dict.fromkeys(("kg", "lb", "oz"), "weight"),
    **dict.fromkeys(
        ("g", "mg", "ug", "ng", "pg", "mol", "mmol", "umol", "nmol", "pmol", "eq", "meq", "mosm", "mme"), "amount"
    ),
    **dict.fromkeys(("u", "mu", "uu"), "activity"),
    **dict.fromkeys(("l", "dl", "ml", "ul", "mm3"), "volume"),
    **dict.fromkeys(("ms", "s", "min", "h"), "time"),
    **dict.fromkeys(("day", "week"), "days"),
    **dict.fromkeys(("month", "year"), "age"),
    **dict.fromkeys(("m", "cm", "mm", "in", "ft"), "length"),
    **dict.fromkeys(("c", "f", "k"), "temperature"),
}
_POWERS = ("103", "106", "109", "point")


@lru_cache(maxsize=4096)
def kind_of(unit: Unit) -> Unit:
    """Names what a unit measures, roughly: mmol/L and mg/dL are both an amount per volume."""
    powers: dict[str, int] = defaultdict(int)
    for name, power in unit:
        powers[_KINDS.get(name, name)] += power
    return tuple(sorted((name, power) for name, power in powers.items() if power and name not in _POWERS))


def bases_of(units: Iterable[Unit]) -> frozenset[str]:
    """Names what units are made of: mg/dL is made of amount and volume."""
    return frozenset(_KINDS.get(name, name) for unit in units for name, _ in unit if name not in _POWERS)
