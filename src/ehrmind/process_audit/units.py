"""Reads the unit after a number in a thought, as powers of symbols: `41.0 mg Serum Creatinine/dL`
has mg 1, dL -1.

Names of substances and counts (beats, cells, doses) are dropped, so that units of a product can be
computed without knowing what they measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from ehrmind.calculators.spelling import normal_unit
from ehrmind.calculators.unit_text import UNITS
from ehrmind.process_audit.numbers import SUPERSCRIPTS, Token

Unit: TypeAlias = tuple[tuple[str, int], ...]
"""Symbols and their powers, sorted; () where none is written."""

MOST_NAMES = 4  # words between the two halves of a unit: mg total cholesterol/dL
PER_AREA = "1.73m2"
_COUNTS = frozenset(
    {
        "1",
        "beats",
        "beat",
        "breaths",
        "breath",
        "respirations",
        "cells",
        "cell",
        "count",
        "counts",
        "platelets",
        "doses",
        "dose",
        "times",
    }
    | {"drinks", "drink", "criteria", "criterion"}
)
_SAME = {
    "mmhg": "mmhg", "torr": "mmhg", "iu": "u", "units": "u", "unit": "u", "uiu": "uu", "miu": "mu", "percent": "%",
    "celsius": "c", "celsisus": "c", "fahrenheit": "f", "fahreinheit": "f", "°c": "c", "°f": "f",
    "years": "year", "yrs": "year", "yr": "year", "yo": "year", "old": "",
    "weeks": "week", "wks": "week", "wk": "week", "months": "month", "mos": "month", "mo": "month",
    "inches": "in", "inch": "in", "feet": "ft", "foot": "ft", "cmm": "mm3", "msec": "ms", "cc": "ml", "billion": "109",
    "micrograms": "ug", "microgram": "ug",
}  # fmt: skip
_NO_UNITS = frozenset({"k", "a", "an", "y", "st", "t", "mill", "thousand", "thou", "stone", "stones", "mins"})
_KNOWN = frozenset(spelling for spellings in UNITS.values() for spelling in spellings.split()) - _COUNTS - _NO_UNITS
_MORE = frozenset({"c", "f", "point", "mme", "meq", "mosm", "109"})
_DIGITS = {"³": "3", "⁶": "6", "⁹": "9"}
_PREPOSITION = "in"


@lru_cache(maxsize=4096)
def symbol(word: str) -> str | None:
    """Returns one spelling for a unit's word; "" for a count, None for any other word. Powers
    attached to the word stay: m2."""
    word = word.strip("'’")
    if word in _COUNTS:
        return ""
    plain = "".join(str(SUPERSCRIPTS.get(letter, letter)) for letter in word)
    plain = _SAME.get(plain, plain)
    if plain == "":
        return ""
    normal = _SAME.get(normal_unit(plain), normal_unit(plain))
    return normal if normal in _KNOWN or normal in _MORE else None


def unit_behind(tokens: Sequence[Token], place: int) -> tuple[Unit, int]:
    """Returns (the unit that begins at a place, the place after it); ((), place) if none begins."""
    powers: dict[str, int] = {}
    at, sign, last, spoken = place, 1, None, 0
    while at < len(tokens):
        token = tokens[at]
        if token.kind == "%" and not powers:
            powers["%"] = sign
            at += 1
        elif token.kind == "scale":
            powers[
                "".join(_DIGITS.get(letter, letter) for letter in token.text if letter in _DIGITS or letter.isdecimal())
            ] = sign
            at += 1
        elif token.kind == "word" and token.text == "per":
            sign, at = -1, at + 1
        elif token.kind == "word" and token.text in ("mm", "cm") and _text(tokens, at + 1) in ("hg", "h2o"):
            powers[f"{token.text}{tokens[at + 1].text}"] = sign
            at += 2
        elif token.kind == "word" and (token.text in ("degrees", "degree", "deg", "°")):
            at += 1
        elif token.kind == "word" and (name := _symbol(tokens, at)) is not None:
            if last is not None and sign == 1 and not _joined(tokens, at) and name:
                break  # a number has one unit: 70 kg m ...
            at, last = _add(powers, tokens, at, name, sign), name
        elif token.kind == "/" and (behind := _below(tokens, at)) is not None:
            at, sign = behind, -1
            if _is_per_area(tokens, at):
                powers[PER_AREA] = -1
                at += 4 if _text(tokens, at + 2) == "^" else 2
        elif token.kind == "word" and spoken < MOST_NAMES and (slash := _slash(tokens, at)) is not None:
            at, spoken = slash, MOST_NAMES
        else:
            break
    while at > place and tokens[at - 1].kind == "word" and tokens[at - 1].text == "per":
        at -= 1
    return tuple(sorted((name, power) for name, power in powers.items() if power)), at


def _symbol(tokens: Sequence[Token], at: int) -> str | None:
    word = tokens[at].text
    if word == _PREPOSITION and _kind(tokens, at + 1) in ("word", "number"):
        return None  # "in" before a word is not an inch
    return symbol(word)


def _add(powers: dict[str, int], tokens: Sequence[Token], at: int, name: str, sign: int) -> int:
    """Counts a symbol with the power written after it. Returns the place after both."""
    power = 1
    if name and name[-1] in "23" and name not in ("h2", "co2"):
        name, power = name[:-1], int(name[-1])
    at += 1
    if _kind(tokens, at) == "^" and _kind(tokens, at + 1) == "number" and tokens[at + 1].value in (2, 3):
        power, at = int(tokens[at + 1].value), at + 2
    elif _kind(tokens, at) in SUPERSCRIPTS:
        power, at = SUPERSCRIPTS[tokens[at].kind], at + 1
    if name == "bpm":
        name, power = "min", -power
    if name:
        powers[name] = powers.get(name, 0) + sign * power
    return at


def _below(tokens: Sequence[Token], slash: int) -> int | None:
    """Returns the place after a slash that continues a unit; None if the slash divides."""
    if _kind(tokens, slash + 1) == "word" and symbol(tokens[slash + 1].text) is not None:
        return slash + 1
    if _is_per_area(tokens, slash + 1):
        return slash + 1
    name = next((n for n in range(1, MOST_NAMES + 1) if _kind(tokens, slash + n) != "word"), MOST_NAMES + 1)
    return (
        slash + 1 if name > 1 and _text(tokens, slash + 1) not in ("sqrt", "ln", "log", "exp", "min", "max") else None
    )


def _is_per_area(tokens: Sequence[Token], at: int) -> bool:
    return _kind(tokens, at) == "number" and tokens[at].value == 1.73 and _text(tokens, at + 1)[:1] == "m"


def _slash(tokens: Sequence[Token], at: int) -> int | None:
    """Returns the place of a slash and unit that follow some names: `Serum Creatinine/dL`."""
    for place in range(at, at + MOST_NAMES + 1):
        if _kind(tokens, place) == "/":
            return place if _kind(tokens, place + 1) == "word" and symbol(tokens[place + 1].text) is not None else None
        if _kind(tokens, place) != "word" or tokens[place].text == "x":
            return None
    return None


def _joined(tokens: Sequence[Token], at: int) -> bool:
    return _kind(tokens, at - 1) in ("/", "scale") or _text(tokens, at - 1) == "per"


def _kind(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].kind if 0 <= at < len(tokens) else ""


def _text(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].text if 0 <= at < len(tokens) else ""


def product(one: Unit, other: Unit, sign: int = 1) -> Unit:
    powers = dict(one)
    for name, power in other:
        powers[name] = powers.get(name, 0) + sign * power
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def raised(unit: Unit, power: int) -> Unit:
    return tuple((name, times * power) for name, times in unit) if power else ()


def spelled(unit: Unit) -> str:
    """Writes a unit as text that the calculators can read: mg/dl, kg/m^2."""
    powers: Mapping[str, int] = dict(unit)
    above = [f"{name}{power if power > 1 else ''}" for name, power in powers.items() if power > 0]
    below = [f"/{name}{-power if power < -1 else ''}" for name, power in powers.items() if power < 0]
    return "*".join(above) + "".join(below)
