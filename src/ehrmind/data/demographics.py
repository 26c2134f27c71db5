"""Age and sex of the patient of a note, by one plain rule, for tables by subgroup and nothing else.

The age is that of the first `63-year-old`, `63 y/o`, `14 month old` of the note; the sex that of the first of man, woman, male, female,
boy, girl, gentleman, lady in the sixty characters from there on, else the last one in the fifteen before. What the rule does not find is
not known, and nothing is guessed.
"""

from __future__ import annotations

import re
from typing import Any

from ehrmind.ages import shown, stated

AFTER, BEFORE = 60, 15
SEXES = {
    **dict.fromkeys(("man", "male", "boy", "gentleman"), "male"),
    **dict.fromkeys(("woman", "female", "girl", "lady"), "female"),
}
_UNITS = {"y": "year", "m": "month", "w": "week", "d": "day"}
_AGE = re.compile(
    r"\b(\d{1,3})[\s-]{0,2}(?:(year|yr|month|week|day)s?[\s.-]{0,2}(?:old|of\s+age)|(y)\.?[/ ]?o\b)", re.IGNORECASE
)
_SEX = re.compile(rf"\b({'|'.join(SEXES)})\b", re.IGNORECASE)


def person_of(note: str) -> dict[str, Any]:
    """`age` in years and `sex`, as far as the rule finds them."""
    found = _AGE.search(note)
    if found is None:
        return {}
    age = stated(int(found[1]), _UNITS[(found[2] or found[3])[0].lower()])
    if age > 120:
        return {}
    said = _SEX.findall(note[found.end() : found.end() + AFTER])[:1] or _SEX.findall(
        note[max(0, found.start() - BEFORE) : found.start()]
    )
    return {"age": shown(age), **({"sex": SEXES[said[-1].lower()]} if said else {})}
