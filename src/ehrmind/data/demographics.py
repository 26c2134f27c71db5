"""Finds a patient's age and sex in a note by one simple rule, only for tables by subgroup.

The age is the first one such as `63-year-old`, `63 y/o` or `14 month old`. The sex is the first of
man, woman, male, female, boy, girl, gentleman, lady in the 60 characters after the age, otherwise
the last one in the 15 characters before it. Nothing else is guessed.
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


def age_and_sex(note: str) -> dict[str, Any]:
    """Returns `age` in years and `sex`, if the rule finds them."""
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
