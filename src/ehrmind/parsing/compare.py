"""Reads a JSON value as a number, a date, weeks and days, or a label. Knows no task, executes
nothing, never raises.

Each reader takes what a clinician would accept as one value of that kind and names what is wrong
with the rest. An expression is deliberately not computed: an answer that still has to be computed
is no answer. Texts longer than `MAX_TEXT` characters are not values, so every pattern here works on
a short string.
"""

from __future__ import annotations

import datetime
import math
import re
from typing import Any, NamedTuple

from ehrmind.characters import MINUS
from ehrmind.labels import LONGEST, Labels, label_key, words_of
from ehrmind.parsing import reasons

MAX_TEXT = 120
LARGEST_WHOLE = 2**53  # above it a JSON number cannot tell neighbours apart
MAX_LABEL = 2 * LONGEST  # room for a label with a number, quotes or spaces around it


class Reading(NamedTuple):
    """A `value` of the answer's kind with the `unit` text attached to it, or the `reason` why there
    is none."""

    value: Any = None
    unit: str = ""
    reason: str | None = None


_PLAIN = str.maketrans({**dict.fromkeys(MINUS, "-"), **dict.fromkeys("\u00a0\u2007\u2009\u202f", " ")})
_DIGIT = re.compile(r"[0-9]")
# no group begins with 0: 0,500 is 0.5
_THOUSANDS = r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9,])|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?![0-9,])"
_NUMBER = re.compile(rf"[+-]?(?:(?:{_THOUSANDS}|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,3}})?")
_DIGITS_OF_UNITS = re.compile(r"1\.73|(?<=[A-Za-z)])(?:\^|\*\*)?-?[0-9](?![0-9.])")  # /1.73 m^2, min-1
_NO_UNIT_BEGINS_SO = re.compile(r"[-+*×·÷=^!<>±~,;|&_²³¹\u00bc-\u00be\u2070-\u209f\u2150-\u218f]|[x/]\s*[(.0-9]")

_SPREAD = re.compile(r"±|\+/-|\.\.|\bbetween\b|^[<>≤≥]")
_OPERATOR = re.compile(r"[*×·÷^=√]|/\s*[(.0-9]|\+\s*[(.0-9a-z]|[0-9)]\s*x\s*[(.0-9]|[0-9a-z]\(")
_FROM_TO = re.compile(r"([0-9.]+)[ a-z/%]*(?:-|\bto\b)\s*([0-9]+(?:\.[0-9]+)?)")
_SEPARATOR = re.compile(r"(?:\bor\b|\band\b|[,;|])\s*[-+]?\.?[0-9]|^[\[({]")


def read_number(answer: Any) -> Reading:
    """Reads a finite number, bare or as text, with thousands commas, a typographic minus or a unit
    after it."""
    kind = type(answer)
    if kind is float or kind is int:
        return Reading(answer) if math.isfinite(answer) else Reading(reason=reasons.NOT_A_NUMBER)
    if kind is not str:
        return Reading(reason=reasons.GUESSES if kind is list else reasons.NOT_A_NUMBER)
    if len(answer) > MAX_TEXT:
        return Reading(reason=reasons.NOT_A_NUMBER)
    text = answer.translate(_PLAIN).strip()
    number = _NUMBER.match(text)
    if number is None:
        return Reading(reason=_no_single_value(text))
    unit = text[number.end() :].strip(" .")
    if unit and (_NO_UNIT_BEGINS_SO.match(unit) or _DIGIT.search(_DIGITS_OF_UNITS.sub("", unit))):
        return Reading(reason=_no_single_value(text))
    value = float(number[0].replace(",", ""))
    return Reading(value, unit) if math.isfinite(value) else Reading(reason=reasons.NOT_A_NUMBER)


def _no_single_value(text: str) -> str:
    """Names the reason why a short text does not commit to one number."""
    text = _DIGITS_OF_UNITS.sub("", text.lower())
    if not _DIGIT.search(text):
        return reasons.NOT_A_NUMBER
    if _SPREAD.search(text):
        return reasons.RANGE
    if _OPERATOR.search(text):
        return reasons.EXPRESSION
    if span := _FROM_TO.search(text):
        return reasons.RANGE if _rises(span[1], span[2]) else reasons.EXPRESSION
    return reasons.GUESSES if _SEPARATOR.search(text) else reasons.NOT_A_NUMBER


def _rises(low: str, high: str) -> bool:
    try:
        return float(low) < float(high)
    except ValueError:  # the pattern lets "1.2.3" through
        return False


_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_MONTH_NUMBER = {name[:3]: number for number, name in enumerate(_MONTHS, 1)}
_MONTH = rf"({'|'.join(f'{name}|{name[:3]}' for name in _MONTHS)}|sept)\.?"
_MDY = re.compile(r"([0-9]{1,2})([/-])([0-9]{1,2})\2([0-9]{4})")
_YMD = re.compile(r"([0-9]{4})([/-])([0-9]{1,2})\2([0-9]{1,2})")
_NAMED_MDY = re.compile(rf"{_MONTH}\s+([0-9]{{1,2}})(?:st|nd|rd|th)?(?:,\s*|\s+)([0-9]{{4}})")
_NAMED_DMY = re.compile(rf"([0-9]{{1,2}})(?:st|nd|rd|th)?(?:\s+|-)(?:of\s+)?{_MONTH}(?:,?\s+|-)([0-9]{{4}})")


def read_date(answer: Any) -> Reading:
    """Reads a calendar date into ISO form. Accepts month/day/year (as the questions ask), ISO, or
    the month's name."""
    if type(answer) is not str or len(answer) > MAX_TEXT:
        return Reading(reason=reasons.GUESSES if type(answer) is list else reasons.NOT_A_DATE)
    text = answer.translate(_PLAIN).strip(" .").lower()
    if found := _MDY.fullmatch(text):
        month, day, year = int(found[1]), int(found[3]), int(found[4])
    elif found := _YMD.fullmatch(text):
        year, month, day = int(found[1]), int(found[3]), int(found[4])
    elif found := _NAMED_MDY.fullmatch(text):
        month, day, year = _MONTH_NUMBER[found[1][:3]], int(found[2]), int(found[3])
    elif found := _NAMED_DMY.fullmatch(text):
        day, month, year = int(found[1]), _MONTH_NUMBER[found[2][:3]], int(found[3])
    else:
        return Reading(reason=_no_single_date(text))
    try:
        return Reading(datetime.date(year, month, day).isoformat())
    except ValueError:  # no such day
        return Reading(reason=reasons.NOT_A_DATE)


def _no_single_date(text: str) -> str:
    dates = sum(1 for pattern in (_MDY, _YMD, _NAMED_MDY, _NAMED_DMY) for _ in pattern.finditer(text))
    if dates == 0:
        return reasons.NOT_A_DATE
    if dates > 1:
        return reasons.RANGE if re.search(r" - |\bto\b|\bbetween\b|[0-9]\.\.", text) else reasons.GUESSES
    return reasons.EXPRESSION if re.search(r"[0-9]\s*[+-]\s*[0-9]+\s*(?:day|week|month)", text) else reasons.NOT_A_DATE


_WEEKS_DAYS = re.compile(r"([0-9]{1,3})\s*(?:weeks?|wks?|w)\s*(?:,|;|and|, and)?\s*([0-9]{1,3})\s*(?:days?|d)")
_WEEKS = re.compile(r"([0-9]{1,3})(?:\s*(?:weeks?|wks?|w))?")
_DAYS = re.compile(r"([0-9]{1,3})(?:\s*(?:days?|d))?")
_QUOTES = str.maketrans("", "", "'\"()[]")


def read_weeks_days(answer: Any) -> Reading:
    """Reads completed weeks and days as `[weeks, days]`.

    Accepts "14 weeks, 1 day", "14w1d", [14, 1], ["14 weeks", "1 days"] and {"weeks": 14, "days":
    1}. Both numbers must be there. 8 days are not a week and a day, as in the benchmark.
    """
    weeks: int | None = None
    days: int | None = None
    if type(answer) is str and len(answer) <= MAX_TEXT:
        text = answer.translate(_PLAIN).translate(_QUOTES).strip(" .").lower()
        if found := _WEEKS_DAYS.fullmatch(text):
            weeks, days = int(found[1]), int(found[2])
        elif len(_WEEKS_DAYS.findall(text)) > 1:
            return Reading(reason=reasons.RANGE if re.search(r" - |\bto\b|\bbetween\b", text) else reasons.GUESSES)
        elif re.search(r"[0-9][ a-z]*[*/+]\s*[0-9]", text):
            return Reading(reason=reasons.EXPRESSION)
    elif type(answer) is list:
        if len(answer) != 2:
            return Reading(reason=reasons.GUESSES)
        weeks, days = _count(answer[0], _WEEKS), _count(answer[1], _DAYS)
    elif type(answer) is dict and answer.keys() == {"weeks", "days"}:
        weeks, days = _count(answer["weeks"], _WEEKS), _count(answer["days"], _DAYS)
    if weeks is None or days is None:
        return Reading(reason=reasons.NOT_WEEKS_DAYS)
    return Reading([weeks, days])


def _count(part: Any, pattern: re.Pattern[str]) -> int | None:
    """Reads a whole number of weeks or days, bare or with its word."""
    if type(part) is int or (type(part) is float and part.is_integer()):
        return int(part) if 0 <= part < 1000 else None
    if type(part) is str and len(part) <= MAX_TEXT and (found := pattern.fullmatch(part.strip().lower())):
        return int(found[1])
    return None


_TRUTHS = (("false", "true"), ("no", "yes"))  # pairs of labels that JSON's false and true can mean
_NUMBER_FIRST = re.compile(r"([0-9]{1,3})\s*[:=,(-]\s*(.+)")
_NUMBER_LAST = re.compile(r"(.*[^\s:=,(-])\s*[:=,(-]\s*([0-9]{1,3})")


def read_label(answer: Any, labels: Labels) -> Reading:
    """Reads one of `labels` and returns its place.

    Accepts its own word, another word for it, its place if no label is itself a number, or word and
    place if they agree. A bare number that spells a label is that label.
    """
    kind = type(answer)
    if kind is bool:
        said = [labels.numbers[pair[answer]] for pair in _TRUTHS if labels.numbers.keys() >= {*pair}]
        return Reading(said[0]) if said else Reading(reason=reasons.NOT_A_LABEL)
    if kind is int or kind is float:
        if not abs(answer) <= LARGEST_WHOLE:  # also true for NaN
            return Reading(reason=reasons.NOT_A_LABEL)
        answer = repr(answer)
    elif kind is not str or len(answer) > MAX_LABEL:
        return Reading(reason=reasons.GUESSES if kind is list else reasons.NOT_A_LABEL)
    key = label_key(answer)
    place = labels.numbers.get(key, _place(key, labels))
    if place is not None:
        return Reading(place)
    if labels.counted and (both := _word_and_place(answer, labels)) is not None:
        return Reading(both[0]) if both[0] == both[1] else Reading(reason=reasons.GUESSES)
    return Reading(reason=reasons.GUESSES if _several(key, labels) else reasons.NOT_A_LABEL)


def _place(key: str, labels: Labels) -> int | None:
    """Returns the place that a bare number gives, if the labels are counted."""
    if not labels.counted or not (key.isascii() and key.isdigit() and len(key) < 10):
        return None
    return int(key) if int(key) < len(labels.names) else None


def _word_and_place(answer: str, labels: Labels) -> tuple[int, int] | None:
    """Returns (place of the word, place written next to it) if an answer has both."""
    text = answer.translate(_PLAIN).strip(" .").removesuffix(")")
    if first := _NUMBER_FIRST.fullmatch(text):
        number, word = first[1], first[2]
    elif last := _NUMBER_LAST.fullmatch(text):
        word, number = last[1], last[2]
    else:
        return None
    place = labels.numbers.get(label_key(word))
    return None if place is None else (place, int(number))


def _several(key: str, labels: Labels) -> bool:
    """True if a text that is no label names more than one."""
    words = words_of(key)
    named = {
        place
        for at, word in enumerate(words)
        if word in labels.spoken
        for spoken, place in labels.spoken[word]
        if f"{' '.join(words[at : at + spoken.count(' ')])} " == spoken
    }
    return len(named) > 1
