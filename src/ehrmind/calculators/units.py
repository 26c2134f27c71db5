"""A number in the unit that a clinician wrote -> the number in the unit that a formula wants, by pint, or a refusal.

Mass, substance and equivalents of an analyte convert into each other by its molar mass and charge, insulin's units by its
strength. The definitions are our own: pint knows neither mEq nor IU and reads `K/uL` as kelvin. A unit's text is looked up in
the closed table below, part by part, and never parsed as an expression.
Sources: atomic weights IUPAC 2021; insulin 1 mIU/L = 6.00 pmol/L (Knopp et al. 2019, doi 10.1177/1932296818805074).
"""

from __future__ import annotations

import itertools
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from ehrmind.calculators.spelling import MAX_UNIT, normal_unit
from ehrmind.types import InputError

if TYPE_CHECKING:
    from pint import UnitRegistry

_PREFIXES = "kilo- = 1e3;deci- = 0.1;centi- = 0.01;milli- = 1e-3;micro- = 1e-6;nano- = 1e-9;pico- = 1e-12"
_BASES = (
    "gram = [mass];metre = [length];second = [time];mole = [substance];equivalent = [charge];activity_unit = [activity];osmole = [osmoles]"
)
_DERIVED = """
minute = 60 * second;hour = 60 * minute;day = 24 * hour;week = 7 * day;year = 365.25 * day;month = year / 12
pound = 453.59237 * gram;ounce = pound / 16;stone = 14 * pound;inch = 2.54 * centimetre;foot = 12 * inch;litre = 1e-3 * metre ** 3
pascal = kilogram / metre / second ** 2;mercury = 133.322387415 * pascal / millimetre;water = 98.0665 * pascal / centimetre
"""

# Unit -> its spellings as `normal_unit` writes them. "" is a count: of beats, breaths, cells.
UNITS: dict[str, str] = {
    "kilogram": "kg",
    "gram": "g",
    "milligram": "mg",
    "microgram": "ug",
    "nanogram": "ng",
    "picogram": "pg",
    "pound": "lb",
    "ounce": "oz ounce ounces",
    "stone": "st stone stones",
    "metre": "m",
    "centimetre": "cm",
    "millimetre": "mm",
    "inch": 'in inch inches "',
    "foot": "ft foot feet '",
    "metre ** 2": "m2",
    "millimetre ** 3": "mm3 cmm",
    "litre": "l",
    "decilitre": "dl",
    "millilitre": "ml",
    "microlitre": "ul",
    "mole": "mol",
    "millimole": "mmol",
    "micromole": "umol",
    "nanomole": "nmol",
    "picomole": "pmol",
    "equivalent": "eq",
    "milliequivalent": "meq",
    "microequivalent": "ueq",
    "milliosmole": "mosm",
    "osmole": "osm",
    "activity_unit": "u iu",
    "milliactivity_unit": "mu miu",
    "microactivity_unit": "uu uiu",
    "pascal": "pa",
    "kilopascal": "kpa",
    "millimetre * mercury": "mmhg torr",
    "centimetre * water": "cmh2o",
    "second": "s",
    "millisecond": "ms",
    "minute": "min",
    "hour": "h",
    "day": "day",
    "week": "week weeks wk wks",
    "month": "month months mo mos",
    "year": "year years yr yrs y yo y/o yearold yearsold year-old",
    "1 / minute": "bpm rpm brpm beatspm",
    "percent": "%",
    "": "1 beats beat breaths breath respirations cells cell count counts platelets doses dose times",
}
_TEMPERATURES = {
    "c": "c °c ºc degc degreec degreesc celsius degreecelsius degreescelsius degreescelsisus",
    "f": "f °f ºf degf degreef degreesf fahrenheit degreefahrenheit degreesfahrenheit degreesfahreinheit",
    "k": "k kelvin",
}
_PART = {spelling: unit for unit, spellings in UNITS.items() for spelling in spellings.split()} | {"": ""}
_SCALE = {spelling: scale for scale, spellings in _TEMPERATURES.items() for spelling in spellings.split()}
# Powers of ten in front of a volume: 10^9/L, x10*3/uL, K/uL, thousand/mm3.
_COUNT = re.compile(r"(?:x?10[e^]?([369]|12)|(k|thou|thousands?)|(million|mill?))?(?:cells?|counts?|platelets?)?/(l|ml|ul|mm3|cmm|dl)")

# Analyte -> what joins its mass, substance, equivalents and activity.
ANALYTES: dict[str, tuple[str, ...]] = {
    "albumin": ("66500 * gram / mole",),
    "bicarbonate": ("61.016 * gram / mole", "1 * equivalent / mole"),
    "bilirubin": ("584.67 * gram / mole",),
    "calcium": ("40.078 * gram / mole", "2 * equivalent / mole"),
    "chloride": ("35.45 * gram / mole", "1 * equivalent / mole"),
    "cholesterol": ("386.66 * gram / mole",),
    "creatinine": ("113.12 * gram / mole",),
    "glucose": ("180.156 * gram / mole",),
    "hemoglobin": ("16114 * gram / mole",),
    "insulin": ("6.00 * picomole / milliactivity_unit",),
    "potassium": ("39.098 * gram / mole", "1 * equivalent / mole"),
    "sodium": ("22.990 * gram / mole", "1 * equivalent / mole"),
    "triglycerides": ("885.43 * gram / mole",),
    "urea nitrogen": ("28.014 * gram / mole",),
}


def convert(value: float, unit: str, wanted: str, analyte: str | None = None) -> float:
    """`value` in `unit` as a number of `wanted`. Raises InputError where the two are not the same kind of thing."""
    factor, offset = straight_line(unit, wanted, analyte)
    return value * factor + offset


def converts(unit: str, wanted: str, analyte: str | None = None) -> bool:
    try:
        straight_line(unit, wanted, analyte)
    except InputError:
        return False
    return True


# Between kinds of amounts MedCalc-Bench v1.0 goes by way of these.
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
    """As MedCalc-Bench v1.0 converts a concentration: by way of grams and moles, every amount rounded to three decimals
    (three significant figures below 0.001), so that 49 µmol/L of creatinine become 0.6 mg/dL and not 0.55."""
    (top, _, bottom), (top_wanted, _, bottom_wanted) = normal_unit(unit).partition("/"), normal_unit(wanted).partition("/")
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
    """(factor, offset) of the conversion; every one of ours is value * factor + offset. Raises InputError as `convert` does."""
    if len(unit) > MAX_UNIT:
        raise InputError("that is no unit")
    here, there = normal_unit(unit), normal_unit(wanted)
    if here == there:
        return 1.0, 0.0
    if there in _SCALE:
        return _temperature(here, there, unit)
    registry = _registry()
    given, target = _quantity(here, unit), _quantity(there, wanted)
    bridges: list[Any] = [registry.Quantity(text) for text in ANALYTES.get(analyte or "", ())]
    for path in (given, *(given * bridge for bridge in bridges), *(given / bridge for bridge in bridges), *_chained(given, bridges)):
        if path.dimensionality == target.dimensionality:
            return float((path / target).to("").magnitude), 0.0
    raise InputError(f"'{unit}' does not convert to {wanted}" + (f" of {analyte}" if analyte else ""))


def _chained(given: Any, bridges: list[Any]) -> list[Any]:
    """Mass to equivalents and back: over substance."""
    if len(bridges) < 2:
        return []
    mass, charge = bridges
    return [given / mass * charge, given / charge * mass]


def _temperature(here: str, there: str, unit: str) -> tuple[float, float]:
    if here not in _SCALE:
        raise InputError(f"'{unit}' is not a temperature; write C or F")
    to_kelvin = {"k": (1.0, 0.0), "c": (1.0, 273.15), "f": (5 / 9, 459.67 * 5 / 9)}
    (factor, offset), (factor_wanted, offset_wanted) = to_kelvin[_SCALE[here]], to_kelvin[_SCALE[there]]
    return factor / factor_wanted, (offset - offset_wanted) / factor_wanted


def _quantity(text: str, shown: str) -> Any:
    """One of the unit, as a pint quantity. `text` is in normal spelling."""
    registry = _registry()
    if count := _COUNT.fullmatch(text):
        power = 10.0 ** int(count[1]) if count[1] else 1e3 if count[2] else 1e6 if count[3] else 1.0
        return registry.Quantity(power, "") / registry.Quantity(1.0, _PART[count[4]])
    top, *below = [_PART.get(part) if part in _PART else None for part in text.split("/")]
    if top is None or None in below:
        raise InputError(f"'{shown}' is not a unit known here")
    quantity = registry.Quantity(1.0, top)
    for part in below:
        quantity = quantity / registry.Quantity(1.0, part or "")
    return quantity


@cache
def _registry() -> UnitRegistry[Any]:
    from pint import UnitRegistry  # slow to import; only who converts pays for it

    registry: UnitRegistry[Any] = UnitRegistry(None, cache_folder=None)
    for line in f"{_PREFIXES};{_BASES};{_DERIVED}".replace("\n", ";").split(";"):
        if line.strip():
            registry.define(line.strip())
    registry.define("percent = 0.01")
    return registry
