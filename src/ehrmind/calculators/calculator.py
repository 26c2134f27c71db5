"""A calculator: its inputs, its function, its publication, and where a benchmark computes it
differently."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.calculators.inputs import Input, Quantity
from ehrmind.calculators.working import Result, Steps, Value
from ehrmind.types import InputError

Convention = Literal["published", "medcalc", "medcalc-verified"]
V = TypeVar("V")
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing that a benchmark's release does differently from the publication: `what`, `why` and
    in which `conventions`.

    - `settings`: arguments of the calculator's function that reproduce it
    - `defaults`: values for inputs that are not given
    - `keys`: if the release misreads its own entities, the keys from which it reads an input
    - `units`: the unit that the release takes a unit's text for (`mg`, or `fentanyl_patch_dose:mg`
      for one input)
    """

    what: str
    why: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    conventions: tuple[Convention, ...] = ("medcalc",)


@dataclass(frozen=True, slots=True)
class Calculator:
    """A calculator. Called with its inputs by name, it converts them to the formula's units and
    returns a Result.

    `work(steps, **values)` is the pure function; its other keyword arguments are set by deviations.
    For an input with limits in SI units that was given in SI, it also gets `NAME_si`, the number in
    that unit.
    """

    id: int
    work: Callable[..., Value]
    inputs: tuple[Input, ...]
    question: str
    formula: str
    citation: str
    deviations: tuple[Deviation, ...] = ()

    @property
    def slug(self) -> str:
        return CATALOGUE[self.id].slug

    @property
    def name(self) -> str:
        return CATALOGUE[self.id].name

    @property
    def category(self) -> str:
        return CATALOGUE[self.id].category

    @property
    def unit(self) -> str | None:
        return CATALOGUE[self.id].unit

    def __call__(self, convention: Convention = "published", /, **given: Any) -> Result:
        """Works the calculator. Raises InputError for an input that is missing, unknown, out of
        range or in a unit that does not convert."""
        settings = self.settings(convention)
        names = [item.name for item in self.inputs]
        for name in given:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f", did you mean {near[0]}?" if near else f"; it takes {', '.join(names)}."
                raise InputError(f"{self.slug} has no input '{name}'{hint}")
        defaults = _merged(found.defaults for found in self.deviations_of(convention))
        values: dict[str, Any] = {}
        assumed: list[str] = []
        for item in self.inputs:
            if item.name in given:
                values[item.name] = item.read(given[item.name], benchmark=convention != "published")
            elif item.name in defaults:
                values[item.name] = defaults[item.name]
                assumed.append(f"{item.label}: as {convention} has it")
            elif item.because:
                values[item.name] = item.default  # None: the function handles a missing value
                assumed.append(f"{item.label}: {item.because}")
            else:
                raise InputError(f"{self.slug} needs {item.name} ({item.label}: {item.describe()}).")
        measured = [item for item in self.inputs if isinstance(item, Quantity) and item.name in given]
        in_si = {item.name: item.in_si(given[item.name]) for item in measured if item.si and convention == "published"}
        in_si = {name: value for name, value in in_si.items() if value is not None}
        steps = Steps()
        for item in measured:
            if item.name not in in_si and (expression := item.conversion(given[item.name])):
                steps(
                    f"{item.label} in {item.unit}",
                    expression if convention == "published" else "",
                    values[item.name],
                    item.unit,
                )
        try:
            value = self.work(steps, **values, **{f"{name}_si": number for name, number in in_si.items()}, **settings)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.slug} cannot be computed from these values; a measurement may be 0 or out of any range."
            ) from None
        return Result(value, self.unit, tuple(steps), tuple(assumed))

    def settings(self, convention: Convention) -> dict[str, Any]:
        if convention not in CONVENTIONS:
            raise InputError(f"'{convention}' is not a convention; there are {', '.join(CONVENTIONS)}.")
        return _merged(found.settings for found in self.deviations_of(convention))

    def keys_read(self, convention: Convention) -> dict[str, tuple[str, ...]]:
        return _merged(found.keys for found in self.deviations_of(convention))

    def misread_units(self, convention: Convention) -> dict[str, str]:
        return _merged(found.units for found in self.deviations_of(convention))

    def deviations_of(self, convention: Convention) -> tuple[Deviation, ...]:
        return tuple(found for found in self.deviations if convention in found.conventions)


def _merged(parts: Iterable[Mapping[str, V]]) -> dict[str, V]:
    return {key: value for part in parts for key, value in part.items()}
