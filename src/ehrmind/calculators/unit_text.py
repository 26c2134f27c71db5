"""Reads a unit's text by a closed table into what is above and below the line. Nothing is parsed as
an expression.

A text may have several readings: `G/L` is gram per litre in a laboratory that writes capitals, and
10^9 per litre. The wanted unit decides between them. A text with two readings of one kind (`MU/mL`:
milli or mega) is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ehrmind.calculators.spelling import MAX_UNIT, normal_unit, one_sign
from ehrmind.types import InputError


class Reading(NamedTuple):
    """One reading of a unit's text.

    `above` and `below` the line are names from `units`' definitions; `times` multiplies them (10^9
    for 10^9/L). `note` is an annotation that changes the meaning (`feu`, `urea`); `scale` is the
    letter of a temperature.
    """

    above: tuple[str, ...]
    below: tuple[str, ...]
    times: float = 1.0
    note: str = ""
    scale: str = ""


# Unit -> its spellings as `normal_unit` writes them. "" is a count of beats, breaths or cells.
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
# Spellings that occur in laboratories' files but not in sentences. The process audit does not read
# them as units.
FILES_UNITS: dict[str, str] = {
    "femtolitre": "fl",
    "nanolitre": "nl",
    "picolitre": "pl",
    "centimetre ** 3": "cm3 ccm",
    "kiloactivity_unit": "ku kiu",
    "katal": "kat",
    "millikatal": "mkat",
    "microkatal": "ukat",
    "nanokatal": "nkat",
    "hectopascal": "hpa",
    "": "# ratio fraction ph inr score scores point insp inspirations resp resps br drink drinks wbc plt",
}
_TEMPERATURES = {
    "c": "c cel °c c° degc degreec degreesc celsius degreecelsius degreescelsius degreescelsisus celcius "
    "degreescelcius centigrade degreescentigrade",
    "f": "f °f f° degf degreef degreesf fahrenheit degreefahrenheit degreesfahrenheit degreesfahreinheit",
    "k": "k kelvin",
}
_PART = {
    spelling: unit
    for units in (UNITS, FILES_UNITS)
    for unit, spellings in units.items()
    for spelling in spellings.split()
} | {"": ""}
_SCALE = {spelling: scale for scale, spellings in _TEMPERATURES.items() for spelling in spellings.split()}
# Powers of ten before a volume: 10^9/L, x10*3/uL, 10E3/uL, K/uL, thousand/mm3, Giga/L.
_WORDS_OF_POWERS = {
    **dict.fromkeys(("k", "1000", "thou", "thous", "thousand", "thousands", "tsd"), 1e3),
    **dict.fromkeys(("million", "millions", "mill", "mio", "mln"), 1e6),
    **dict.fromkeys(("giga", "gpt", "bil", "billion", "billions"), 1e9),
    **dict.fromkeys(("tera", "tpt", "trillion"), 1e12),
}
_COUNT = re.compile(
    rf"x?(?:10(?:e|ex|exp|x|_|')?\+?0?(1[0-2]|[1-9])|e([369]|12)"
    rf"|({'|'.join(sorted(_WORDS_OF_POWERS, key=len, reverse=True))}))"
    r"(?:cells?|counts?|platelets?|plts?|wbc|#)?/(l|dl|ml|ul|nl|pl|mm3|cmm)"
)
# Giga and tera, per litre only: a small g is a gram, and G/DL is g/dL in capitals.
_CAPITALS = {"G": 1e9, "T": 1e12}
_MOLAR = {"mM": "millimole", "μM": "micromole", "uM": "micromole", "nM": "nanomole", "pM": "picomole"}
_NOTE = re.compile(r"[{(\s]*\b(feu|ddu|d-du|jds|ifcc|ngsp|dcct|urea|po4|tetramer|hb4)\b[})]*", re.IGNORECASE)
_OF_HEMOGLOBIN = re.compile(r"\s(?:of\s+)?(?:total\s+)?(?:hgb|hb|ha?emoglobin)$", re.IGNORECASE)
_MEGA = re.compile(r"(?<![A-Za-z])M(?=\[?[iI]?[uU]\b)")
_TWO_SIZES = re.compile(r"x?(?:m|mm|mil)(?:cells?)?/(?:ul|mm3|cmm|l|ml)")


@lru_cache(maxsize=4096)
def readings(text: str) -> tuple[Reading, ...]:
    """Returns all readings of the text. Raises InputError if it is not a unit known here, or has
    two readings of one kind."""
    if len(text) > MAX_UNIT:
        raise InputError("that is no unit")
    plain = one_sign(text)
    note = " ".join(sorted({_note(found[1], plain) for found in _NOTE.finditer(plain)} - {""}))
    plain = _OF_HEMOGLOBIN.sub("", _NOTE.sub("", plain))
    _refuse_two_sizes(plain, text)
    found = [reading._replace(note=note) for reading in _readings(plain)]
    if not found:
        raise InputError(f"'{text}' is not a unit known here")
    return tuple(found)


def _note(word: str, plain: str) -> str:
    """Normalises a scale's note: per cent are usually NGSP's (and DCCT's), and IFCC's are another
    scale; mmol/mol are IFCC's own."""
    word = word.lower().replace("d-du", "ddu")
    return "" if word == ("ifcc" if "mol" in plain else "ngsp") or word == "dcct" else word


def _refuse_two_sizes(plain: str, text: str) -> None:
    if _MEGA.search(plain) and ("[" in plain or not plain.isupper()):
        raise InputError(f"'{text}' has two readings, milli and mega; write the unit out, for example mIU/L")
    if _TWO_SIZES.fullmatch(normal_unit(plain)):
        raise InputError(f"'{text}' has two readings, thousands and millions; write 10^3/uL or 10^6/uL")


def _readings(plain: str) -> list[Reading]:
    if plain in _MOLAR:
        return [Reading((_MOLAR[plain],), ("litre",))]
    normal = normal_unit(plain)
    found = [Reading((), (), scale=_SCALE[normal])] if normal in _SCALE else []
    if count := _COUNT.fullmatch(normal):
        power = 10.0 ** int(count[1] or count[2]) if count[1] or count[2] else _WORDS_OF_POWERS[count[3]]
        found.append(Reading((), (_PART[count[4]],), power))
    if plain[0:1] in _CAPITALS and normal_unit(plain[1:]) == normal_unit("/L"):
        found.append(Reading((), ("litre",), _CAPITALS[plain[0]]))
    if plain == "a":
        found.append(Reading(("year",), ()))
    parts = _parts(normal)
    return found if parts is None else [*found, parts]


def _parts(normal: str) -> Reading | None:
    if normal in _PART:
        above, below = _PART[normal], list[str]()
    else:
        top, *rest = normal.split("/")
        if not rest or top not in _PART or any(part not in _PART or part == "" for part in rest):
            return None
        above, below = _PART[top], [_PART[part] for part in rest]
    if above == "1 / minute":
        above, below = "", ["minute", *below]
    return Reading((above,) if above else (), tuple(part for part in below if part))
