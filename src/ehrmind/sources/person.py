"""Age and sex of the patient of a note, by one plain rule, for tables by subgroup and nothing else.

The age is that of the first `63-year-old`, `63 y/o`, `14 month old` of the note; the sex that of the first of man, woman, male, female,
boy, girl, gentleman, lady in the sixty characters from there on, else the last one in the fifteen before. What the rule does not find is
not known, and nothing is guessed.
"""

from __future__ import annotations

import re
from typing import Any

AFTER, BEFORE = 60, 15
SEXES = {**dict.fromkeys(("man", "male", "boy", "gentleman"), "male"), **dict.fromkeys(("woman", "female", "girl", "lady"), "female")}
_YEARS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
_AGE = re.compile(r"\b(\d{1,3})[\s-]{0,2}(?:(year|yr|month|week|day)s?[\s.-]{0,2}(?:old|of\s+age)|(y)\.?[/ ]?o\b)", re.IGNORECASE)
_SEX = re.compile(rf"\b({'|'.join(SEXES)})\b", re.IGNORECASE)


def person_of(note: str) -> dict[str, Any]:
    """`age` in years and `sex`, as far as the rule finds them."""
    stated = _AGE.search(note)
    if stated is None:
        return {}
    age = int(stated[1]) * _YEARS[(stated[2] or stated[3])[0].lower()]
    if age > 120:
        return {}
    said = _SEX.findall(note[stated.end() : stated.end() + AFTER])[:1] or _SEX.findall(
        note[max(0, stated.start() - BEFORE) : stated.start()]
    )
    return {"age": round(age, 2), **({"sex": SEXES[said[-1].lower()]} if said else {})}
