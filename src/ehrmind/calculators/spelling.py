"""Clinicians' spellings of a unit -> one spelling, to compare two of them. Converts nothing and knows no dimension.

`mL/min/1.73m²`, `ml per min per 1.73 m^2` and `mL/min/(1.73 m**2)` come out alike; `mg/dL` and `mmol/L` do not.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

MAX_UNIT = 80

_SIGNS = str.maketrans("²³µμ·⋅×", "23uu***", "^()[]")
_PHRASES = (
    (re.compile(r"\bmillimet(?:er|re)s? (?:of )?mercury\b|\bmm hg\b"), "mmhg"),
    (re.compile(r"\b(?:square met(?:er|re)s?|met(?:er|re)s? squared|sq\.? ?m)\b"), "m2"),
    (re.compile(r"\bbeats? ?(?:per|/) ?min(?:ute)?\b"), "bpm"),
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
        "g": "gram grams gm gms",
        "h": "hour hours hr hrs",
        "kg": "kilogram kilograms kgs kilo kilos",
        "l": "liter liters litre litres lt",
        "lb": "lbs pound pounds",
        "m": "meter meters metre metres",
        "meq": "milliequivalent milliequivalents meqs",
        "mg": "milligram milligrams mgs",
        "min": "minute minutes mins",
        "ml": "milliliter milliliters millilitre millilitres mls cc",
        "mmol": "millimole millimoles mmols",
        "mosm": "milliosmole milliosmoles mosmol mosmols mosmole mosmoles milliosmol milliosmols",
        "ms": "msec msecs millisecond milliseconds",
        "point": "points pt pts",
        "s": "sec secs second seconds",
        "ug": "mcg microgram micrograms",
    }.items()
    for spelling in spellings.split()
}
_WORD = re.compile(r"[a-z]+")
_JOINTS = re.compile(r"[\s*]+")


def same_unit(text: str, accepted: Collection[str]) -> bool:
    """Whether a unit's text is one of the accepted ones, which are in normal spelling."""
    return len(text) <= MAX_UNIT and normal_unit(text) in accepted


@lru_cache(maxsize=8192)
def normal_unit(text: str) -> str:
    """One spelling for all of a unit's. The empty string is no unit."""
    unit = text.strip().strip(".").lower().replace("**", "").translate(_SIGNS)
    for phrase, short in _PHRASES:
        unit = phrase.sub(short, unit)
    unit = _WORD.sub(lambda word: _WORDS.get(word[0], word[0]), unit)
    return _JOINTS.sub("", unit)
