"""Splits a thought into tokens: numbers as written, dates, units, words and signs, each with its
place.

One pass, linear, never raises. A number knows the weight of its last digit, so that "40.8" can be
distinguished from "40.80": values are equal as written if they differ by at most half of it.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

MAX_DIGITS = 40

# Different characters for one sign become that sign, one for one, so places stay the same.
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),
    }
    | {
        "×": "*",
        "⋅": "*",
        "·": "*",
        "∙": "*",
        "÷": "/",
        "∕": "/",
        "⁄": "/",
        "＝": "=",
        "≈": "=",
        "≅": "=",
        "[": "(",
        "]": ")",
        "{": "(",
    }
    | {"}": ")", "µ": "u", "μ": "u"}
)
SUPERSCRIPTS = {"²": 2, "³": 3}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)

_TOKEN = re.compile(
    rf"""
    (?P<date>(?<![\w/.-])
            (?:\d{{1,2}}/\d{{1,2}}/\d{{4}}|\d{{1,2}}-\d{{1,2}}-\d{{4}}|\d{{4}}-\d{{1,2}}-\d{{1,2}})(?![\w/]|-\d)
        |\b{_MONTH}\.?\ \d{{1,2}}(?:st|nd|rd|th)?,?\ \d{{4}}\b
        |(?<![\w.])\d{{1,2}}(?:st|nd|rd|th)?\ (?:of\ )?{_MONTH},?\ \d{{4}}\b)
  | (?P<scale>x\ ?10(?:\^|\*\*|\*)?(?:[369]|12)(?=/|\b)|x\ ?10[³⁶⁹]
        |\*\ ?10(?:\^|\*\*|\*)(?:[369]|12)(?=/)|\*\ ?10[³⁶⁹]
        |(?<![\w.])10(?:\^|\*\*)(?:[369]|12)(?=/\ ?[a-z])|(?<![\w.])10[³⁶⁹](?=/))
  | (?P<number>(?<![A-Za-z_\d])(?:(?:[1-9]\d{{0,2}}(?:,\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
        (?:e[+-]?\d{{1,3}}(?![\w.]))?)
  | (?P<word>(?![²³])[^\W\d_](?:[\w²³'’%]|-(?=\w))*|°\w?|\d+[^\W\d_]\w*)
  | (?P<power>\*\*)
  | (?P<sign>[-+*/^=()<>≤≥,;:.!?%²³√"“”'‘’\n])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GLUED_WORD = re.compile(r"[^\W\d_]")


class Token(NamedTuple):
    """A token. `kind` is number, date, scale (x10^9), word, or the sign itself. `worth` is the
    weight of the last digit written."""

    kind: str
    text: str
    start: int
    end: int
    value: float = math.nan
    worth: float = 0.0
    date: datetime.date | None = None


def tokens(text: str) -> list[Token]:
    plain = text.translate(_SIGNS)
    found: list[Token] = []
    for match in _TOKEN.finditer(plain):
        kind, word, start, end = str(match.lastgroup), match[0], match.start(), match.end()
        if kind == "number":
            found.append(_number(word, start, end))
        elif kind == "date":
            found += _date(word, start, end)
        elif kind == "word":
            found.append(Token("word", word.lower(), start, end))
        elif kind == "sign" and word == "-" and _hyphen(plain, start, found):
            continue  # a hyphen inside a word: 10-year, a 5-day course
        else:
            found.append(Token("^" if kind == "power" else word if kind == "sign" else kind, word, start, end))
    return found


def _hyphen(plain: str, at: int, before: Sequence[Token]) -> bool:
    """True for a dash that joins a number to a word, which is not a minus sign."""
    joined = bool(before) and before[-1].end == at and before[-1].kind in ("number", "word")
    return joined and bool(_GLUED_WORD.match(plain, at + 1))


def _number(word: str, start: int, end: int) -> Token:
    if len(word) > MAX_DIGITS:
        return Token("word", word, start, end)
    digits, _, power = word.lower().partition("e")
    value = float(word.replace(",", ""))
    decimals = len(digits.partition(".")[2])
    worth = 10.0 ** (int(power or 0) - decimals)
    return Token("number", word, start, end, value, worth) if math.isfinite(value) else Token("word", word, start, end)


def _date(word: str, start: int, end: int) -> list[Token]:
    """Reads a day, or the words that only look like one."""
    day = read_day(word)
    return [Token("date", word, start, end, date=day)] if day else [Token("word", word.lower(), start, end)]


def read_day(word: str) -> datetime.date | None:
    """Reads a day written month first (as the questions ask), in ISO form, or with the month's
    name."""
    numbers = [int(number) for number in re.findall(r"\d+", word)]
    name = re.search(r"[a-z]{3}", re.sub(r"\d(?:st|nd|rd|th)", " ", word.lower()))
    if name and name[0] in MONTHS and len(numbers) == 2:
        year, month, day = numbers[1], MONTHS.index(name[0]) + 1, numbers[0]
    elif len(numbers) == 3 and numbers[0] > 31:
        year, month, day = numbers
    elif len(numbers) == 3:
        month, day, year = numbers
    else:
        return None
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def equal_as_written(value: float, written: float, worth: float) -> bool:
    """True if `written` is `value` rounded to the last digit that was written."""
    return abs(value - written) <= 0.5 * worth * (1 + 1e-6) + 1e-9 * abs(value)
