"""Puts known errors into a right rationale, each at one known place. They prove the process audit,
as the tasks' corruptions prove the judge.

Plain patterns of this module find the places, not the audit's reader, so texts that the audit
cannot read are corrupted too. Every error is real: a number changes by more than its rounding, an
operator changes the value of its expression, a unit gets another size or kind. All draws are
seeded.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ehrmind.calculators.arithmetic import evaluate

TRIES = 40


class Place(NamedTuple):
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A `text` with one error from `start` to `end`; `kind` is one of `KINDS`."""

    kind: str
    text: str
    start: int
    end: int


_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e-\d+)?"
_FREE = re.compile(rf"(?<![\w.,/^-])-?(?P<n>{_NUMBER})(?![\w]|[.,/-]\d|\.\w)|(?<=[-+*/( ^]){_NUMBER}(?=[-+*/() ])")
_LIST = re.compile(r"(?m)^\s*\d+[.)](?=\s)")
_DAY = re.compile(r"\b\d{1,2}[/-]\d{1,2}[/-]\d{4}\b")
_EXPRESSION = re.compile(r"[^=;\n]*?(?P<e>[(√\d-][^=;\n]*?[-+*/^√][^=;\n]*?)=\s*(?P<r>-?" + _NUMBER + r")")
_OPERATOR = re.compile(r"(?<=[\d)a-zA-Z³²%]) ?(?P<o>\*\*|[-+*/^]) ?(?=[\d(]|-\d|ln|sqrt|exp)")
_PER = r"(?:/(?:d?L|mL|µL|uL|kg|m\^2|m²|min|hr|h|day|mol|mmol|mEq|g|mg|dose))*"
_UNIT = re.compile(
    r"(?<=\d) ?(?P<u>(?:mg|µg|mcg|g|kg|mmol|µmol|mol|mEq|mOsm|U|IU|µIU|mL|L|dL|cm|m|mm ?Hg|msec|ms|s|in|bpm|years"
    r"|months|days|weeks|%)"
    rf"{_PER}(?:\^\d)?)"
    r"(?![\w/^*]|\s*\d)"
)
_UNITS = ("mg/dL", "mmol/L", "g/L", "kg", "cm", "mL/min", "mm Hg", "days", "µmol/L", "lb")
_POINTS = re.compile(
    rf"(?P<n>-?{_NUMBER}) points?\b(?! for each)"
    rf"|(?:add(?:ed)?|by|(?:yes|no|present|absent)) (?P<m>-?{_NUMBER})(?= to|,| ;|\.| and| so)"
)
_TOTAL = re.compile(
    rf"(?:total|score|count)[^.;\n=]{{0,24}}? (?:at|to|remains at|is) (?P<n>-?{_NUMBER})(?![\d.]*\d)"
    rf"|total (?P<m>-?{_NUMBER})"
)


def corrupt(kind: str, text: str, draw: random.Random, avoid: Collection[Place] = ()) -> Corrupted | None:
    """Puts one error of a kind into the text, outside the places to avoid; None if the text has no
    place for it."""
    places = [
        place
        for place in dict.fromkeys(KINDS[kind].places(text))
        if not any(place.start < end and start < place.end for start, end in avoid)
    ]
    draw.shuffle(places)
    for place in places:
        for _ in range(TRIES):
            new = KINDS[kind].other(text, place, draw)
            if new is not None and new != text[place.start : place.end]:
                return Corrupted(
                    kind, text[: place.start] + new + text[place.end :], place.start, place.start + len(new)
                )
    return None


def _numbers(text: str) -> list[Place]:
    """Returns every number that is not a list number, a day, a power or part of a name."""
    taken = [match.span() for pattern in (_LIST, _DAY) for match in pattern.finditer(text)]
    found = []
    for match in _FREE.finditer(text):
        start, end = match.span("n") if match["n"] else match.span()
        if not any(begin < end and start < stop for begin, stop in taken):
            found.append(Place(start, end))
    return found


def _operands(text: str) -> Iterator[Place]:
    spans = [match.span("e") for match in _EXPRESSION.finditer(text)]
    return (place for place in _numbers(text) if any(start <= place.start and place.end <= end for start, end in spans))


def _results(text: str) -> Iterator[Place]:
    for match in _EXPRESSION.finditer(text):
        start, end = match.span("r")
        yield Place(start + (text[start] == "-"), end)


def _operators(text: str) -> Iterator[Place]:
    for match in _EXPRESSION.finditer(text):
        start, end = match.span("e")
        days = [day.span() for day in _DAY.finditer(text, start, end)]
        for operator in _OPERATOR.finditer(text, start, end):
            if not any(begin <= operator.start("o") < stop for begin, stop in days):
                yield Place(*operator.span("o"))


def _units(text: str) -> Iterator[Place]:
    return (Place(*match.span("u")) for match in _UNIT.finditer(text))


def _points(text: str) -> Iterator[Place]:
    for pattern in (_POINTS, _TOTAL):
        for match in pattern.finditer(text):
            yield Place(*match.span("n" if match["n"] else "m"))
    if text.count(" ; ") > 1 and "total " in text:  # the jotted style: melena yes 1 ; …
        for match in re.finditer(rf" (?P<n>-?{_NUMBER})(?= ;)", text):
            if "=" not in text[text.rfind(" ; ", 0, match.start()) + 1 : match.start()]:
                yield Place(*match.span("n"))


def _elsewhere(text: str) -> Iterator[Place]:
    """Returns numbers outside expressions, results and points: values, thresholds and constants."""
    spans = [match.span() for match in _EXPRESSION.finditer(text)]
    taken = {*_points(text), *_last(text)}
    inside = (match.span("e")[0] for match in _EXPRESSION.finditer(text))
    begins = dict(zip(spans, inside, strict=True))
    return (
        place
        for place in _numbers(text)
        if place not in taken
        and not any(begins[start, end] <= place.start and place.end <= end for start, end in spans)
    )


def _last(text: str) -> list[Place]:
    """Returns the last number or day of the text, which is its conclusion."""
    days = [Place(*match.span()) for match in _DAY.finditer(text)]
    numbers = [
        place
        for place in _numbers(text)
        if not re.match(r"\s*m(?:\^2|²)", text[place.end : place.end + 5]) or text[place.start : place.end] != "1.73"
    ]
    return sorted([*days, *numbers])[-1:]


def _other_number(text: str, place: Place, draw: random.Random) -> str | None:
    """Draws another number with as many decimals; None if it is too close.

    Single digits change by at least one of the last digit. Others change by at least 2 % and two of
    it.
    """
    old = text[place.start : place.end].replace(",", "")
    if _DAY.fullmatch(old):
        return _other_day(old, draw)
    decimals = len(old.partition("e")[0].partition(".")[2])
    value = float(old)
    if "e" in old or value == 0:
        return f"{value * draw.choice((10, 0.1)):g}" if value else str(draw.randint(1, 4))
    if value == int(value) and abs(value) < 20:
        new = value + draw.choice((-3, -2, -1, 1, 2, 3))
        new = abs(new) if value > 0 else new
    else:
        new = value * draw.choice((draw.uniform(0.5, 0.97), draw.uniform(1.03, 1.9), 10, 0.1))
    written = f"{new:.{decimals}f}"
    far = abs(float(written) - value) >= max(
        0.02 * abs(value), (1 if len(old) < 2 else 2) * 10.0**-decimals if decimals else 1
    )
    return written if far else None


def _other_day(old: str, draw: random.Random) -> str:
    month, mark, day, year = re.match(r"(\d+)([/-])(\d+)[/-](\d+)", old).groups()  # type: ignore[union-attr]
    return f"{month}{mark}{(int(day) + draw.randint(1, 26)) % 28 + 1:02}{mark}{year}"


def _other_operator(text: str, place: Place, draw: random.Random) -> str | None:
    """Draws another operator; None if it changes nothing: + 0, * 1, or an expression of the same
    value."""
    old = text[place.start : place.end]
    new = draw.choice([sign for sign in ("+", "-", "*", "/") if sign != old])
    behind = text[place.end : place.end + 12].lstrip()
    before = text[max(0, place.start - 12) : place.start].rstrip()
    if {old, new} <= {"+", "-"} and re.match(r"0(?:\.0+)?(?![\d.]*\d)", behind):
        return None
    if {old, new} <= {"*", "/", "^", "**"} and (
        re.match(r"1(?:\.0+)?(?![\d.]*\d)", behind) or re.search(r"(?<![\d.])0(?:\.0+)?$", before)
    ):
        return None
    match = next(
        (found for found in _EXPRESSION.finditer(text) if found.start("e") <= place.start < found.end("e")), None
    )
    if match is not None:
        start, end = match.span("e")
        changed = text[start : place.start] + new + text[place.end : end]
        value, written = _plain_value(changed), float(match["r"].replace(",", ""))
        if value is not None and abs(value - written) <= max(
            0.005 * abs(written), 0.6 * 10.0 ** -len(match["r"].partition(".")[2])
        ):
            return None
    return new


def _plain_value(expression: str) -> float | None:
    """Computes an expression with the calculators' own reader, after removing its units and finding
    its start."""
    plain = re.sub(
        r"\((?:in )?[a-zA-Zµ][^()\d]*\)|(?<![a-z])(?!ln|sqrt|exp|max|min)[a-zA-Zµ%]+(?:/[a-zA-Zµ]+)*(?:\^\d)?",
        " ",
        expression,
    )
    plain = re.sub(r"/\s*(?=[-+*/=)]|$)", " ", plain)
    for begin in [0, *(match.start() for match in re.finditer(r"[\d(]", plain))][:12]:
        value = evaluate(plain[begin:])
        if value is not None and math.isfinite(value):
            return value
    return None


def _other_unit(text: str, place: Place, draw: random.Random) -> str:
    old = text[place.start : place.end]
    alike = {"mmol/L"} if old.startswith("mEq") else set()  # the same for ions with a charge of one
    return draw.choice(
        [unit for unit in _UNITS if unit.partition("/")[0] != old.partition("/")[0] and unit not in alike]
    )


class _Kind(NamedTuple):
    places: Callable[[str], Iterator[Place] | list[Place]]
    other: Callable[[str, Place, random.Random], str | None]


KINDS: dict[str, _Kind] = {
    "number in an expression": _Kind(_operands, _other_number),
    "result of a step": _Kind(_results, _other_number),
    "operator": _Kind(_operators, _other_operator),
    "unit": _Kind(_units, _other_unit),
    "points or total": _Kind(_points, _other_number),
    "number elsewhere": _Kind(_elsewhere, _other_number),
    "conclusion": _Kind(_last, _other_number),
}
