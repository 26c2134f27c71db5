"""Reduces spellings of a unit (clinicians', laboratories', UCUM's) to one, so that two can be
compared. Converts nothing.

`mL/min/1.73m²`, `ml per min per 1.73 m^2`, `mL/min/{1.73_m2}` and `mL·min⁻¹·1.73 m⁻²` become the
same; `mg/dL` and `mmol/L` do not. Case is dropped deliberately; `unit_text` handles units in which
a capital letter decides (K, G, M).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

MAX_UNIT = 80

# Signs with several characters. Degree signs come first, because NFKC would turn an ordinal sign
# typed for one into a letter.
_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("º˚∘", "°"),
        **dict.fromkeys("·⋅×∙•", "*"),
        **dict.fromkeys("⁻−‐‑‒–", "-"),
        **dict.fromkeys("∕⁄", "/"),
    }
)
_SIGNS = str.maketrans("μ", "u", "^()[]")
# An annotation in braces is not part of the unit, unless it says how the number was measured.
_PER_AREA = re.compile(r"\{1\.73[ _]?m\^?2\}")
_ANNOTATION = re.compile(r"\{(?!(?:feu|ddu|jds|ifcc|urea|po4|tetramer|hb4)\})[^{}]*\}")
_ALL_ANNOTATION = re.compile(r"^\{([^{}]*)\}$")
_EXPONENT = re.compile(r"[\s.*]*((?:1\.73 ?)?[a-z%]+)-([1-3])(?![0-9])")
_PHRASES = (
    (re.compile(r"\bmillimet(?:er|re)s? (?:of )?mercury(?: column)?\b|\bmm hg\b"), "mmhg"),
    (re.compile(r"\bcubic (?:mm|millimet(?:er|re)s?)\b|\bcu\.? ?mm\b|\bc\.mm\b"), "mm3"),
    (re.compile(r"\b(?:square met(?:er|re)s?|met(?:er|re)s? squared|sq\.? ?m)\b"), "m2"),
    (re.compile(r"\bbeats? ?(?:per|/) ?min(?:ute)?\b"), "bpm"),
    (re.compile(r"\b(?:micro|u)-?(?:international )?units?\b"), "uiu"),
    (re.compile(r"\bmilli-?(?:international )?units?\b"), "miu"),
    (re.compile(r"\binternational units?\b"), "iu"),
    (re.compile(r"\b(lb|oz|stone)_av\b|\b(in|ft)_i\b|\b(pound|ounce|inch|foot) us\b"), r"\1\2\3"),
    (re.compile(r"\bper cent\b"), "%"),
    (re.compile(r"\bof\b"), " "),
    (re.compile(r"\bdaily\b"), "/day"),
    (re.compile(r"\bper\b"), "/"),
)
_WORDS = {
    spelling: unit
    for unit, spellings in {
        "%": "percent percentage pct",
        "cm": "centimeter centimeters centimetre centimetres",
        "day": "days d",
        "dl": "deciliter deciliters decilitre decilitres",
        "fl": "femtoliter femtolitre",
        "g": "gram grams gm gms",
        "h": "hour hours hr hrs",
        "iu": "ui",
        "kg": "kilogram kilograms kgs kilo kilos",
        "kpa": "kilopascal kilopascals",
        "l": "liter liters litre litres lt",
        "lb": "lbs pound pounds",
        "m": "meter meters metre metres",
        "meq": "milliequivalent milliequivalents meqs mequiv",
        "mg": "milligram milligrams mgs",
        "min": "minute minutes mins",
        "miu": "mui",
        "ml": "milliliter milliliters millilitre millilitres mls cc",
        "mmol": "millimol millimole millimoles mmols",
        "mosm": "milliosmole milliosmoles mosmol mosmols mosmole mosmoles milliosmol milliosmols",
        "ms": "msec msecs millisecond milliseconds",
        "ng": "nanogram nanograms",
        "nmol": "nanomol nanomole nanomoles",
        "pg": "picogram picograms",
        "pmol": "picomol picomole picomoles",
        "point": "points pt pts",
        "s": "sec secs second seconds",
        "u": "unit units",
        "ueq": "mceq",
        "ug": "mcg microgram micrograms",
        "uiu": "mciu uui",
        "nkat": "nanokatal",
        "ukat": "mckat microkatal",
        "ul": "mcl micl microliter microliters microlitre microlitres",
        "umol": "mcmol mcmols micromol micromole micromoles umols",
        "uu": "mcu",
    }.items()
    for spelling in spellings.split()
}
_WORD = re.compile(r"[a-z]+")
_TIMES_BELOW = re.compile(r"(?<=[a-z])\s*[.*-]\s*(?=[a-z])")
_DOTS = re.compile(r"\.(?![0-9])")
_JOINTS = re.compile(r"[\s*]+")
_OLD_PERCENT = re.compile(r"(u?g|mg)%")  # mg% is mg in 100 mL


def same_unit(text: str, accepted: Collection[str]) -> bool:
    """True if a unit's text is one of the accepted units, which are in normal spelling."""
    return len(text) <= MAX_UNIT and normal_unit(text) in accepted


def one_sign(text: str) -> str:
    """Replaces signs that look alike or mean the same by one (both micro signs, ⁹ and 9, ℃ and °C).
    Case and words stay."""
    return unicodedata.normalize("NFKC", text.translate(_LOOKALIKES)).translate(_LOOKALIKES).strip()


@lru_cache(maxsize=8192)
def normal_unit(text: str) -> str:
    """Returns the normal spelling of a unit. The empty string is no unit."""
    unit = one_sign(text).strip(".").lower().replace("**", "")
    unit = _ALL_ANNOTATION.sub(r"\1", unit)  # {score} alone is the unit itself
    unit = _ANNOTATION.sub("", _PER_AREA.sub("1.73m2", unit)).translate(_SIGNS).replace("{", "").replace("}", "")
    for phrase, short in _PHRASES:
        unit = phrase.sub(short, unit)
    unit = _EXPONENT.sub(lambda found: f"/{found[1]}{found[2].replace('1', '')}", unit)
    unit = _WORD.sub(lambda word: _WORDS.get(word[0], word[0]), unit)
    above, slash, below = unit.partition("/")
    unit = above + slash + _TIMES_BELOW.sub("/", below)
    unit = _JOINTS.sub("", _DOTS.sub("", unit))
    return _OLD_PERCENT.sub(r"\1/dl", unit).replace("/100ml", "/dl").replace("/24h", "/day")
