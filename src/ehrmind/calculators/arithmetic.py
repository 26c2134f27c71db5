"""Computes plain arithmetic from text with a grammar of its own. Nothing is executed.

sum = product {(+|-) product}    product = power {(*|/) power}    power = [+|-] atom [^ power]
atom = number | (sum) | name(sum {, sum}), where name is one of FUNCTIONS
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

LONGEST, DEEPEST = 500, 40  # characters, and levels of brackets
FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt,
    "ln": math.log,
    "log10": math.log10,
    "exp": math.exp,
    "min": min,
    "max": max,
    "abs": abs,
    "round": round,
}
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})
_TOKEN = re.compile(r"\s*(?:(\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})|(\*\*|[-+*/^(),])|([a-z]{2,5}(?:10)?))")


def evaluate(text: str) -> float | None:
    """Returns the value; None if the text is not arithmetic or has no finite value."""
    tokens = _tokens(text) if len(text) <= LONGEST else None
    if not tokens:
        return None
    try:
        value, rest = _sum(tokens, 0, 0)
    except (ValueError, ArithmeticError, TypeError, IndexError):
        return None
    if rest != len(tokens) or isinstance(value, complex) or not math.isfinite(value):
        return None
    return value


def _tokens(text: str) -> list[str] | None:
    plain, place, found = text.translate(_SIGNS).rstrip(), 0, []
    while place < len(plain):
        match = _TOKEN.match(plain, place)
        if match is None:
            return None
        found.append("^" if match[2] == "**" else match[match.lastindex or 0])
        place = match.end()
    return found


def _sum(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    if depth > DEEPEST:
        raise ValueError
    value, place = _product(tokens, place, depth)
    while place < len(tokens) and tokens[place] in "+-":
        right, after = _product(tokens, place + 1, depth)
        value, place = (value + right if tokens[place] == "+" else value - right), after
    return value, place


def _product(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    value, place = _power(tokens, place, depth)
    while place < len(tokens) and tokens[place] in "*/":
        right, after = _power(tokens, place + 1, depth)
        value, place = (value * right if tokens[place] == "*" else value / right), after
    return value, place


def _power(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    """Reads a power. A sign binds less than a power: -2^2 is -4."""
    if depth > DEEPEST:
        raise ValueError
    if tokens[place] in "+-":
        value, after = _power(tokens, place + 1, depth + 1)
        return (-value if tokens[place] == "-" else value), after
    value, place = _atom(tokens, place, depth)
    if place < len(tokens) and tokens[place] == "^":
        exponent, place = _power(tokens, place + 1, depth + 1)
        value = math.pow(value, exponent)
    return value, place


def _atom(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    token = tokens[place]
    if token[0].isdigit() or token[0] == ".":
        return float(token), place + 1
    if token == "(":
        value, place = _sum(tokens, place + 1, depth + 1)
        return value, _closed(tokens, place)
    function = FUNCTIONS.get(token)
    if function is None or tokens[place + 1] != "(":
        raise ValueError
    value, place = _sum(tokens, place + 2, depth + 1)
    values = [value]
    while tokens[place] == ",":
        value, place = _sum(tokens, place + 1, depth + 1)
        values.append(value)
    return float(function(*values)), _closed(tokens, place)


def _closed(tokens: list[str], place: int) -> int:
    if tokens[place] != ")":
        raise ValueError
    return place + 1
