"""Inputs of calculators: measurements, findings, choices and days. Each reads one given value or
refuses it.

A value is a number with its unit (`"124 umol/L"`, `(124, "umol/L")`), a bare number if the input is
always written bare (age, pH, heart rate), yes or no, one of a choice's words, or a date. `read`
returns the value in the input's own unit. With `benchmark` it reads as MedCalc-Bench does, which
converts with rounding and refuses no range.
"""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ehrmind.calculators.units import accepted, convert, convert_as_medcalc, straight_line
from ehrmind.characters import MINUS
from ehrmind.types import InputError

ABSENT = "not mentioned, so taken as absent"
MAX_TEXT = 200
_YES = {"yes", "y", "true", "present", "positive", "1"}
_NO = {"no", "n", "false", "absent", "negative", "none", "0"}
# 250,000, and 2,50,000 as in India
_THOUSANDS = r"[1-9]\d{0,2}(?:,\d{3})+(?![\d,])|[1-9]\d?(?:,\d{2})+,\d{3}(?![\d,])"
_NUMBER = re.compile(rf"\s*([+-]?(?:{_THOUSANDS}|\d*)(?:\.\d*)?(?:[eE][+-]?\d{{1,2}})?)\s*(.*)", re.DOTALL)
_TYPED_MINUS = re.compile(rf"\s*[{MINUS}](?=[\d.])")
_DAY = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})|(\d{1,2})/(\d{1,2})/(\d{4})")


class ValueRefusedError(InputError):
    """An input's value that cannot be read.

    The message quotes the value for the user who typed it. `unquoted` does not, for values of a
    file, which come from a patient's note.
    """

    def __init__(self, said: str, unquoted: str) -> None:
        super().__init__(said)
        self.unquoted = unquoted


def refused(name: str, given: str, problem: str) -> ValueRefusedError:
    """Makes the error for an input whose value was `given` in words."""
    return ValueRefusedError(f"{name}: {given} {problem}", f"{name}: its value {problem}")


def unquoted(error: InputError) -> str:
    """Returns a calculator's message without any value."""
    return error.unquoted if isinstance(error, ValueRefusedError) else str(error)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measurement in `unit` ("": a bare number).

    Values outside [low, high] are refused: no living patient has them, or the formula does not
    cover them. `default` replaces a missing value for the reason `because`; with None the value is
    required. `si` is a second unit in which the publication states its limits.
    """

    name: str
    label: str
    unit: str
    low: float
    high: float
    analyte: str | None = None
    bare: bool = False
    entities: tuple[str, ...] = ()
    default: float | None = None
    because: str = ""
    si: str = ""

    def read(self, given: Any, *, benchmark: bool = False) -> float:
        value, unit = self._number_and_unit(given)
        if unit is None and not (self.bare or not self.unit):
            example = f"{self.name}='{_shown(self.typical)} {self.unit}'"
            raise InputError(f"{self.name}: give the unit, for example {example}; it is read in {self.accepted}.")
        try:
            change = convert_as_medcalc if benchmark else _convert
            value = change(value, unit, self.unit, self.analyte) if unit is not None else value
        except InputError as error:
            unread = f"{self.name}: its unit is not read; give it in {self.accepted}."
            raise ValueRefusedError(f"{self.name}: {error}; give it in {self.accepted}.", unread) from None
        if not benchmark and not self.low <= value <= self.high:
            limits = f"is outside {_shown(self.low)} to {_shown(self.high)} {self.unit}."
            raise refused(self.name, f"{_shown(value)} {self.unit}", limits)
        return value

    def conversion(self, given: Any) -> str | None:
        """Writes the conversion that `read` does, if the unit given is another one:
        `124 * 0.011312`."""
        value, unit = self._number_and_unit(given)
        factor, offset = straight_line(unit, self.unit, self.analyte) if unit is not None else (1.0, 0.0)
        if (factor, offset) == (1.0, 0.0):
            return None
        shift = f" {'-' if offset < 0 else '+'} {abs(offset):.6g}" if offset else ""
        return f"{_shown(value)} * {factor:.6g}{shift}"

    def in_si(self, given: Any) -> float | None:
        """Returns the value in `si` if it was given in that unit or a decimal multiple of it; None
        otherwise."""
        value, unit = self._number_and_unit(given)
        if not self.si or unit is None:
            return None
        try:
            factor, offset = straight_line(unit, self.si)
        except InputError:
            return None
        decimal = offset == 0 and abs(math.log10(factor) - round(math.log10(factor))) < 1e-9
        return _convert(value, unit, self.si) if decimal else None

    def _number_and_unit(self, given: Any) -> tuple[float, str | None]:
        """Reads a number and its unit. A bare number for a share is per cent or a fraction,
        whichever fits: 21 and 0.21."""
        value, unit = _number_and_unit(self, given)
        if unit is None and self.unit == "%":
            if self.low <= value <= self.high:
                return value, self.unit
            if self.low <= 100 * value <= self.high:
                return value, "1"
        return value, unit

    @property
    def accepted(self) -> str:
        """Names the accepted units."""
        return accepted(self.unit, self.analyte)

    @property
    def typical(self) -> float:
        return (
            self.default
            if self.default is not None
            else round((self.low * self.high) ** 0.5, 1)
            if self.low > 0
            else self.high / 2
        )

    def describe(self) -> str:
        own = f"; {self.si} have limits of their own" if self.si else ""
        return f"{_shown(self.low)} to {_shown(self.high)} {self.unit}".strip() + own


@dataclass(frozen=True, slots=True)
class Flag:
    """A finding that is present or absent. Not mentioned counts as absent, unless `default` is None
    (then it is required)."""

    name: str
    label: str
    entities: tuple[str, ...] = ()
    default: bool | None = False
    because: str = ABSENT

    def read(self, given: Any, *, benchmark: bool = False) -> bool:
        if isinstance(given, bool):
            return given
        text = str(given).strip().casefold()
        if text not in _YES | _NO:
            raise refused(self.name, shown_text(given), "is neither yes nor no.")
        return text in _YES

    def describe(self) -> str:
        return "yes or no"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words. `options` maps each to its other spellings."""

    name: str
    label: str
    options: Mapping[str, tuple[str, ...]]
    entities: tuple[str, ...] = ()
    default: str | None = None
    because: str = ""
    _spellings: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for option, others in self.options.items():
            self._spellings.update({_letters(spelling): option for spelling in (option, *others)})

    def read(self, given: Any, *, benchmark: bool = False) -> str:
        found = self._spellings.get(_letters(str(given)))
        if found is None:
            near = difflib.get_close_matches(str(given)[:MAX_TEXT].casefold(), self.options, n=1)
            hint = f", did you mean '{near[0]}'?" if near else "."
            raise refused(self.name, shown_text(given), f"is none of {', '.join(self.options)}{hint}")
        return found

    def describe(self) -> str:
        return " | ".join(self.options)


@dataclass(frozen=True, slots=True)
class Day:
    """A calendar day, as 2024-02-29 or 02/29/2024."""

    name: str
    label: str
    entities: tuple[str, ...] = ()
    default: None = None
    because: str = ""

    def read(self, given: Any, *, benchmark: bool = False) -> datetime.date:
        if isinstance(given, datetime.datetime):
            return given.date()
        if isinstance(given, datetime.date):
            return given
        found = _DAY.fullmatch(str(given).strip())
        try:
            if found is None:
                raise ValueError
            year, month, day = (found[1], found[2], found[3]) if found[1] else (found[6], found[4], found[5])
            return datetime.date(int(year), int(month), int(day))
        except ValueError:
            raise refused(self.name, shown_text(given), "is not a day; write it as 2024-02-29 or 02/29/2024.") from None

    def describe(self) -> str:
        return "a day, as 2024-02-29 or 02/29/2024"


Input: TypeAlias = Quantity | Flag | Choice | Day


def shown_text(given: Any) -> str:
    """Shortens a given value for a message to the user who gave it."""
    text = str(given)
    return f"'{text[:40]}…'" if len(text) > 40 else f"'{text}'"


def _number_and_unit(item: Quantity, given: Any) -> tuple[float, str | None]:
    if isinstance(given, list | tuple) and len(given) == 2:
        number, unit = given
        if isinstance(number, str):
            number, rest = _written(item, number)
            number = None if rest else number
    elif isinstance(given, str):
        number, unit = _written(item, given)
    else:
        number, unit = given, None
    try:
        value = math.nan if isinstance(number, bool) else float(number)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value) or not (unit is None or isinstance(unit, str)):
        raise refused(item.name, shown_text(given), "is not a number with a unit.")
    return value, unit


def _written(item: Quantity, text: str) -> tuple[str | None, str | None]:
    """Splits the number at the start of a text, as Python writes it, from the unit after it."""
    found = _NUMBER.fullmatch(_TYPED_MINUS.sub("-", text, count=1)) if len(text) <= MAX_TEXT else None
    if found is None:
        return None, None
    if re.match(r",\d", found[2]):
        raise refused(item.name, shown_text(text), "has a decimal comma; write a point.")
    return found[1].replace(",", ""), found[2].strip() or None


def _convert(value: float, unit: str, wanted: str, analyte: str | None = None) -> float:
    """Converts a value, and rounds off float noise that hides a short number: 100.4 F are 38 C.

    Every limit is a short number.
    """
    found = convert(value, unit, wanted, analyte)
    short = float(f"{found:.5g}")
    return short if math.isclose(short, found, rel_tol=1e-12) else found


def _shown(value: float) -> str:
    return f"{value:.6g}"


def _letters(text: str) -> str:
    """Keeps letters and digits only: casing, spaces and dashes do not matter."""
    return re.sub(r"[^a-z0-9]", "", text.casefold()) if len(text) <= MAX_TEXT else ""
