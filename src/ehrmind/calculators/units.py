"""Converts a number from the unit that a clinician wrote to the unit that a formula wants, with
pint, or refuses.

Units of one kind convert by size. What is above and below the line must agree, so mmol/mol is not
per cent and mg/kg/min is not a rate of beats. Everything else needs a rule of the analyte: molar
mass, charge or strength between mass, substance, equivalents and activity; for HbA1c, the line
between the per cent and mmol/mol of two reference methods.

Pairs without a rule are refused, such as lipoprotein(a) by mass and by substance, or D-dimer in FEU
and in DDU. Hemoglobin in mmol/L is the monomer's, as laboratories report it. The definitions are
our own, because pint knows neither mEq nor IU and reads `K/uL` as kelvin. `unit_text` reads the
unit's text.

Sources: atomic weights IUPAC 2021; insulin 1 mIU/L = 6.00 pmol/L (Knopp et al. 2019, doi
10.1177/1932296818805074); HbA1c: the IFCC-NGSP master equation (Weykamp et al. 2008, doi
10.1373/clinchem.2007.097824).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from ehrmind.calculators.spelling import MAX_UNIT, normal_unit
from ehrmind.calculators.unit_text import Reading, readings
from ehrmind.types import InputError

if TYPE_CHECKING:
    from pint import UnitRegistry

_PREFIXES = (
    "kilo- = 1e3;hecto- = 1e2;deci- = 0.1;centi- = 0.01;milli- = 1e-3;micro- = 1e-6;nano- = 1e-9;pico- = 1e-12;femto- "
    "= 1e-15"
)
_BASES = (
    "gram = [mass];metre = [length];second = [time];mole = [substance];equivalent = [charge];activity_unit = "
    "[activity];osmole = [osmoles];katal = [catalysis]"
)
_DERIVED = """
minute = 60 * second;hour = 60 * minute;day = 24 * hour;week = 7 * day;year = 365.25 * day;month = year / 12
pound = 453.59237 * gram;ounce = pound / 16;stone = 14 * pound;inch = 2.54 * centimetre;foot = 12 * inch
litre = 1e-3 * metre ** 3;pascal = kilogram / metre / second ** 2;mercury = 133.322387415 * pascal / millimetre
water = 98.0665 * pascal / centimetre
"""

# Unit -> other units in which the value may be given. A message names those that the analyte has a
# rule for.
_OTHERS = {
    "mg/dL": ("mg/L", "mmol/L", "µmol/L", "mEq/L"),
    "g/dL": ("g/L", "mmol/L", "µmol/L"),
    "mEq/L": ("mmol/L", "mg/dL"),
    "U/L": ("IU/L", "µkat/L"),
    "µIU/mL": ("mIU/L", "pmol/L"),
    "10^9/L": ("10*3/uL", "K/µL", "/µL"),
    "%": ("L/L", "1 (a fraction)"),
    "mm Hg": ("kPa",),
    "C": ("F", "K"),
    "kg": ("g", "lb"),
    "cm": ("m", "in", "ft"),
    "years": ("months", "weeks", "days"),
    "days": ("weeks",),
    "msec": ("s",),
    "mL/day": ("L/day", "mL/h"),
    "mcg/kg/min": ("mg/kg/h",),
    "mg": ("g", "mcg"),
    "mcg": ("mg",),
    "bpm": ("/min",),
    "breaths/min": ("/min",),
}

# Analyte -> the factors that join its mass, substance, equivalents and activity.
ANALYTES: dict[str, tuple[str, ...]] = {
    "albumin": ("66500 * gram / mole",),
    "bicarbonate": ("61.016 * gram / mole", "1 * equivalent / mole"),
    "bilirubin": ("584.67 * gram / mole",),
    "calcium": ("40.078 * gram / mole", "2 * equivalent / mole"),
    "chloride": ("35.45 * gram / mole", "1 * equivalent / mole"),
    "cholesterol": ("386.66 * gram / mole",),
    "creatinine": ("113.12 * gram / mole",),
    "enzyme": ("6e7 * activity_unit / katal",),
    "glucose": ("180.156 * gram / mole",),
    "hemoglobin": ("16114 * gram / mole",),
    "insulin": ("6.00 * picomole / milliactivity_unit",),
    "magnesium": ("24.305 * gram / mole", "2 * equivalent / mole"),
    "phosphorus": ("30.974 * gram / mole",),
    "potassium": ("39.098 * gram / mole", "1 * equivalent / mole"),
    "sodium": ("22.990 * gram / mole", "1 * equivalent / mole"),
    "triglycerides": ("885.43 * gram / mole",),
    "urea nitrogen": ("28.014 * gram / mole",),
}
# Analyte -> (first unit, second unit, slope, offset): second = slope * first + offset.
LINES: dict[str, tuple[tuple[str, str, float, float], ...]] = {
    "HbA1c": (("mmol/mol", "%", 0.09148, 2.152),),
    "hematocrit": (("1", "%", 100.0, 0.0), ("L/L", "%", 100.0, 0.0)),
    "oxygen": (("1", "%", 100.0, 0.0),),
}
# (analyte, note) -> the share of the mass that is the analyte: urea is 28.014 parts nitrogen of
# 60.056.
NOTED = {("urea nitrogen", "urea"): 28.014 / 60.056}
# Kinds of amounts that a rule of an analyte converts into each other.
_AMOUNTS = frozenset({"mass", "substance", "charge", "activity", "catalysis"})


def convert(value: float, unit: str, wanted: str, analyte: str | None = None) -> float:
    """Converts `value` from `unit` to `wanted`. Raises InputError if the two are not of the same
    kind."""
    factor, offset = straight_line(unit, wanted, analyte)
    return value * factor + offset


def converts(unit: str, wanted: str, analyte: str | None = None) -> bool:
    try:
        straight_line(unit, wanted, analyte)
    except InputError:
        return False
    return True


def accepted(unit: str, analyte: str | None = None) -> str:
    """Names the units in which a value may be given for a formula that wants `unit`."""
    found = [
        unit or "no unit",
        *(other for other in _OTHERS.get(unit, ()) if converts(other.split()[0], unit, analyte)),
    ]
    return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


# Units through which MedCalc-Bench v1.0 converts between kinds of amounts.
_MEDCALC_PATHS: dict[tuple[str | None, str | None], tuple[str, ...]] = {
    ("mass", "mass"): ("g",),
    ("mass", "substance"): ("g", "mol"),
    ("mass", "charge"): ("g", "mol", "mmol"),
    ("substance", "substance"): ("mol",),
    ("substance", "mass"): ("mol", "g"),
    ("substance", "charge"): ("mmol",),
    ("charge", "mass"): ("mmol", "mol", "g"),
    ("charge", "substance"): ("mmol",),
}


def convert_as_medcalc(value: float, unit: str, wanted: str, analyte: str | None = None) -> float:
    """Converts a concentration as MedCalc-Bench v1.0 does: through grams and moles, rounding every
    amount to three decimals.

    Below 0.001 it keeps three significant figures. So 49 µmol/L of creatinine become 0.6 mg/dL and
    not 0.55.
    """
    (top, _, bottom), (top_wanted, _, bottom_wanted) = (
        normal_unit(unit).partition("/"),
        normal_unit(wanted).partition("/"),
    )
    path = _MEDCALC_PATHS.get((_amount(top), _amount(top_wanted)))
    if analyte is None or path is None or bottom == "" or not converts(unit, wanted, analyte):
        return convert(value, unit, wanted, analyte)
    if top != top_wanted:
        for here, there in itertools.pairwise((top, *path, top_wanted)):
            if here != there:
                value = _rounded(convert(value, here, there, analyte))
    return value if bottom == bottom_wanted else _rounded(convert(value, f"g/{bottom}", f"g/{bottom_wanted}"))


def _amount(part: str) -> str | None:
    for ending, kind in (("mol", "substance"), ("eq", "charge"), ("g", "mass")):
        if part.endswith(ending):
            return kind
    return None


def _rounded(value: float) -> float:
    return round(value, 3) if abs(value) >= 1e-3 else float(f"{value:.3g}")


@lru_cache(maxsize=4096)
def straight_line(unit: str, wanted: str, analyte: str | None = None) -> tuple[float, float]:
    """Returns (factor, offset) of the conversion value * factor + offset. Raises InputError as
    `convert` does."""
    if len(unit) > MAX_UNIT:
        raise InputError("that is no unit")
    if unit == wanted:
        return 1.0, 0.0
    given, target = readings(unit), readings(wanted)
    lines = {line for reading in given for there in target if (line := _line(reading, there, analyte)) is not None}
    if len(lines) == 1:
        return lines.pop()
    if target[0].scale and not lines:
        raise InputError(f"'{unit}' is not a temperature; write C or F")
    if lines:
        raise InputError(f"'{unit}' has two readings in {wanted}")
    raise InputError(
        f"'{unit}' does not convert to {wanted or 'a bare number'}" + (f" of {analyte}" if analyte else "")
    )


def _line(given: Reading, wanted: Reading, analyte: str | None) -> tuple[float, float] | None:
    """Finds (factor, offset) between two readings.

    None if they are not of one kind and the analyte has no rule that joins them.
    """
    if given.scale or wanted.scale:
        return _temperature(given.scale, wanted.scale) if given.scale and wanted.scale else None
    share = 1.0
    if given.note != wanted.note:
        if (analyte or "", given.note) not in NOTED or wanted.note:
            return None
        share = NOTED[analyte or "", given.note] if "mass" in _kinds(given.above) else 1.0
    if (factor := _same_kind(given, wanted) or _joined(given, wanted, analyte)) is not None:
        return factor * share, 0.0
    return _ruled(given, wanted, analyte)


def _same_kind(given: Reading, wanted: Reading) -> float | None:
    if (_kinds(given.above), _kinds(given.below)) != (_kinds(wanted.above), _kinds(wanted.below)):
        return None
    return _clean(float((_size(given) / _size(wanted)).to("").magnitude))


def _joined(given: Reading, wanted: Reading, analyte: str | None) -> float | None:
    """Returns the factor between two kinds of amounts of the analyte, if the denominators are of
    one kind."""
    kinds = *_kinds(given.above), *_kinds(wanted.above)
    if (
        analyte not in ANALYTES
        or _kinds(given.below) != _kinds(wanted.below)
        or len(kinds) != 2
        or not _AMOUNTS.issuperset(kinds)
    ):
        return None
    size, target = _size(given), _size(wanted)
    bridges: list[Any] = [_registry().Quantity(text) for text in ANALYTES[analyte]]
    for path in (
        *(size * bridge for bridge in bridges),
        *(size / bridge for bridge in bridges),
        *_chained(size, bridges),
    ):
        if path.dimensionality == target.dimensionality:
            return float((path / target).to("").magnitude)
    return None


def _chained(given: Any, bridges: list[Any]) -> list[Any]:
    """Returns the ways between mass and equivalents, through substance."""
    if len(bridges) < 2:
        return []
    mass, charge = bridges
    return [given / mass * charge, given / charge * mass]


def _ruled(given: Reading, wanted: Reading, analyte: str | None) -> tuple[float, float] | None:
    """Finds (slope, offset) by a line between two units of the analyte, in either direction."""
    for one, other, slope, offset in LINES.get(analyte or "", ()):
        here, there = readings(one)[0], readings(other)[0]
        before, after = _same_kind(given, here), _same_kind(there, wanted)
        if before is not None and after is not None:
            return before * slope * after, offset * after
        before, after = _same_kind(given, there), _same_kind(here, wanted)
        if before is not None and after is not None:
            return before / slope * after, -offset / slope * after
    return None


def _temperature(here: str, there: str) -> tuple[float, float]:
    to_kelvin = {"k": (1.0, 0.0), "c": (1.0, 273.15), "f": (5 / 9, 459.67 * 5 / 9)}
    (factor, offset), (factor_wanted, offset_wanted) = to_kelvin[here], to_kelvin[there]
    return factor / factor_wanted, (offset - offset_wanted) / factor_wanted


def _size(reading: Reading) -> Any:
    """Builds one of the unit as a pint quantity."""
    registry = _registry()
    quantity = registry.Quantity(reading.times, "")
    for part in reading.above:
        quantity = quantity * registry.Quantity(1.0, part)
    for part in reading.below:
        quantity = quantity / registry.Quantity(1.0, part)
    return quantity


@cache
def _kinds(parts: Sequence[str]) -> tuple[str, ...]:
    """Names what each part measures, in alphabetical order. Nothing above the line cancels with
    what is below it."""
    named = {
        "[length]": "length",
        "[length] ** 2": "area",
        "[length] ** 3": "volume",
        "[mass]": "mass",
        "[time]": "time",
    }
    found = []
    for part in parts:
        dimension = str(_registry().Quantity(1.0, part).dimensionality)
        found.append("percent" if part == "percent" else named.get(dimension, dimension.strip("[]")))
    return tuple(sorted(found))


def _clean(factor: float) -> float:
    """Rounds off noise in the last digits: a thousand is 1000, so that a value on a limit stays on
    it."""
    return float(f"{factor:.14g}") if math.isfinite(factor) else factor


@cache
def _registry() -> UnitRegistry[Any]:
    from pint import UnitRegistry  # slow to import, so imported on first use

    registry: UnitRegistry[Any] = UnitRegistry(None, cache_folder=None)
    for line in f"{_PREFIXES};{_BASES};{_DERIVED}".replace("\n", ";").split(";"):
        if line.strip():
            registry.define(line.strip())
    registry.define("percent = 0.01")
    return registry
