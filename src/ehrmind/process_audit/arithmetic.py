"""Computes arithmetic as people write it, with a small parser: + - * / ^ ( ) sqrt ln log exp min
max, and units.

An expression comes to an interval, because its numbers may be rounded. A number is taken as exact
unless an earlier step gave it rounded or it has `LONG` digits or more. Units multiply and cancel
along with the numbers; the terms of a sum must have the same unit. Nothing is executed or raised;
depth and length are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ehrmind.process_audit.numbers import SUPERSCRIPTS, Token
from ehrmind.process_audit.units import Unit, product, raised, unit_behind

MAX_DEPTH = 24
LONG = 6  # from this many significant digits on, a number counts as cut off: 0.453592
_BINARY = {"+", "-", "*", "/", "^"}
FUNCTIONS = {"sqrt", "√", "ln", "log", "log10", "exp", "max", "min"}
_JOINS = frozenset(
    {
        "and",
        "or",
        "is",
        "are",
        "then",
        "so",
        "plus",
        "minus",
        "times",
        "equals",
        "gives",
        "to",
        "by",
        "with",
        "from",
        "we",
        "the",
    }
)


class Amount(NamedTuple):
    """The interval that an expression comes to; NaN if it divides by zero.

    `unit` is None if it cannot be known. `clash`: a sum had unlike units. `bare`: a number without
    a unit took part, which may have one that was not written: 0.8 * (4 g/dL - 2.8 g/dL).
    """

    low: float
    high: float
    unit: Unit | None = ()
    clash: bool = False
    bare: bool = True

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


class Reading(NamedTuple):
    """A parsed expression: its amount, the place after it, how many operators it has, and its first
    number."""

    amount: Amount
    end: int
    operators: int
    percent: bool
    first: Amount


class _NotArithmeticError(Exception):
    """These tokens are not an expression."""


def read_expression(tokens: Sequence[Token], start: int, stop: int, rounded: Collection[float] = ()) -> Reading | None:
    """Reads the longest expression that starts at a place and ends before `stop`; None if there is
    none.

    `rounded` holds results that an earlier step wrote rounded.
    """
    parser = _Parser(tokens, start, stop, rounded)
    try:
        amount = parser.sum(0)
    except (_NotArithmeticError, ArithmeticError, ValueError):
        return None
    if parser.first is None or math.isinf(amount.low) or math.isinf(amount.high):
        return None
    return Reading(amount, parser.at, parser.operators, parser.percent, parser.first)


class _Parser:
    """Recursive descent parser; `at` is the next token.

    It takes a sign only if an operand follows, so prose ends an expression.
    """

    def __init__(self, tokens: Sequence[Token], start: int, stop: int, rounded: Collection[float]) -> None:
        self.tokens, self.at, self.stop, self.rounded = tokens, start, stop, rounded
        self.operators, self.percent = 0, False
        self.first: Amount | None = None

    def kind(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place].kind if place < self.stop else ""

    def word(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place].text if place < self.stop and self.tokens[place].kind in ("word", "√") else ""

    def operand_at(self, ahead: int) -> bool:
        while self.kind(ahead) == "-":
            ahead += 1
        return self.kind(ahead) in ("number", "(") or self.word(ahead) in FUNCTIONS

    def sum(self, depth: int) -> Amount:
        total = self.term(depth)
        while self.kind() in ("+", "-") and self.operand_at(1):
            sign = self.kind()
            self.at, self.operators = self.at + 1, self.operators + 1
            total = _added(total, self.term(depth), sign)
        return total

    def term(self, depth: int) -> Amount:
        amount = self.power(depth)
        while True:
            kind = "*" if self.word() == "x" else self.kind()
            if kind in ("*", "/") and self.operand_at(1):
                self.at += 1
            elif self.kind() == "(" and self.tokens[self.at - 1].end == self.tokens[self.at].start:
                kind = "*"  # implicit product: 0.8(4 - 2.8)
            else:
                return amount
            self.operators += 1
            amount = _multiplied(amount, self.power(depth), kind)

    def power(self, depth: int) -> Amount:
        base = self.operand(depth)
        if self.kind() in SUPERSCRIPTS:
            self.at, self.operators = self.at + 1, self.operators + 1
            times = float(SUPERSCRIPTS[self.tokens[self.at - 1].kind])
            base = _raised(base, Amount(times, times))
        if self.kind() == "^" and self.operand_at(1):
            self.at, self.operators = self.at + 1, self.operators + 1
            return _raised(base, self.power(depth + 1))  # powers associate to the right
        return base

    def operand(self, depth: int) -> Amount:
        if depth > MAX_DEPTH:
            raise _NotArithmeticError
        if self.kind() in ("-", "+"):
            sign, self.at = self.kind(), self.at + 1
            amount = self.power(depth + 1)
            return amount if sign == "+" else amount._replace(low=-amount.high, high=-amount.low)
        if self.kind() == "(":
            self.at += 1
            amount = self.sum(depth + 1)
            self.close()
            return self.with_unit(amount, grouped=True)
        if self.word() in FUNCTIONS:
            return self.function(depth)
        if self.kind() != "number":
            raise _NotArithmeticError
        token = self.tokens[self.at]
        self.at += 1
        slack = token.worth / 2 if token.value in self.rounded or _significant(token) >= LONG else 0.0
        amount = self.with_unit(Amount(token.value - slack, token.value + slack))
        self.first = self.first or amount
        return amount

    def close(self) -> None:
        if self.kind() != ")":
            raise _NotArithmeticError
        self.at += 1

    def with_unit(self, amount: Amount, *, grouped: bool = False) -> Amount:
        """Reads the unit after a number, and remarks in brackets: 12.0 (mEq/L), 69.685 (in
        inches)."""
        before = self.at
        unit, behind = unit_behind(self.tokens, before)
        self.percent |= any(name == "%" for name, _ in unit)
        self.at = min(behind, self.stop)
        if behind > before:
            self.at = self.names(self.at)
        while self.kind() == "(" and (over := self.remark()):
            self.at = over
        if not unit:
            return amount
        if grouped and amount.unit:
            return amount
        return amount._replace(unit=unit, bare=False)

    def names(self, at: int) -> int:
        """Skips the names of what is measured if an operator, a closing bracket or the end follows.

        Example: 366.0 umol Serum Creatinine * …
        """
        place = at
        while place < min(self.stop, at + 6) and self.tokens[place].kind == "word" and self.tokens[place].text != "x":
            if self.tokens[place].text in FUNCTIONS or self.tokens[place].text in _JOINS:
                return at
            place += 1
        return (
            place
            if place > at
            and (place == self.stop or self.tokens[place].kind in (_BINARY | {")"}) or self.lonely_x(place))
            else at
        )

    def lonely_x(self, place: int) -> bool:
        return self.tokens[place].text == "x"

    def remark(self) -> int | None:
        """Returns the place after a bracket that holds words and no sum of numbers."""
        depth, numbers = 0, 0
        for place in range(self.at, min(self.stop, self.at + 16)):
            kind = self.tokens[place].kind
            depth += (kind == "(") - (kind == ")")
            numbers += kind == "number"
            if depth == 0:
                begins = self.tokens[self.at + 1]
                return place + 1 if not numbers or (begins.kind == "word" and begins.text not in FUNCTIONS) else None
        return None

    def function(self, depth: int) -> Amount:
        name = self.word()
        self.at, self.operators = self.at + 1, self.operators + 1
        if self.kind() != "(":
            return _applied(name, [self.operand(depth + 1)])
        self.at += 1
        values = [self.sum(depth + 1)]
        while self.kind() == "," and name in ("min", "max"):
            self.at += 1
            values.append(self.sum(depth + 1))
        self.close()
        return self.with_unit(_applied(name, values), grouped=True)


def _significant(token: Token) -> int:
    return len(token.text.lower().partition("e")[0].replace(",", "").replace(".", "").strip("0"))


def _added(one: Amount, other: Amount, sign: str) -> Amount:
    low, high = (other.low, other.high) if sign == "+" else (-other.high, -other.low)
    clash = one.clash or other.clash
    if one.unit is None or other.unit is None:
        unit: Unit | None = None
    elif one.unit and other.unit and one.unit != other.unit:
        unit, clash = None, clash or not (one.bare or other.bare)
    else:
        unit = one.unit or other.unit
    bare = (one.bare and bool(one.unit)) or (other.bare and bool(other.unit)) or not unit
    return Amount(one.low + low, one.high + high, unit, clash, bare)


def _multiplied(one: Amount, other: Amount, kind: str) -> Amount:
    if kind == "/":
        if other.low == other.high == 0:
            return Amount(math.nan, math.nan, None)
        if other.low <= 0 <= other.high:
            raise _NotArithmeticError
        ends = [a / b for a in one[:2] for b in other[:2]]
    else:
        ends = [a * b for a in one[:2] for b in other[:2]]
    unit = None if one.unit is None or other.unit is None else product(one.unit, other.unit, -1 if kind == "/" else 1)
    return Amount(min(ends), max(ends), unit, one.clash or other.clash, one.bare or other.bare)


def _raised(base: Amount, power: Amount) -> Amount:
    if base.low <= 0 and power.low != power.high:
        raise _NotArithmeticError
    if abs(power.low) > 400 or abs(power.high) > 400:
        raise _NotArithmeticError
    ends = [a**b for a in base[:2] for b in power[:2]]
    if any(isinstance(end, complex) for end in ends):
        raise _NotArithmeticError
    whole = power.low == power.high == int(power.low)
    unit = () if not base.unit else raised(base.unit, int(power.low)) if whole else None
    return Amount(min(ends), max(ends), unit, base.clash, base.bare)


_ONE_TO_ONE: dict[str, Callable[[float], float]] = {
    "sqrt": math.sqrt,
    "√": math.sqrt,
    "ln": math.log,
    "exp": math.exp,
    "log": math.log10,
    "log10": math.log10,
}


def _applied(name: str, values: Sequence[Amount]) -> Amount:
    clash = any(value.clash for value in values)
    if name in ("min", "max"):
        pick = min if name == "min" else max
        units = {value.unit for value in values if value.unit}
        unit: Unit | None = () if not units else units.pop() if len(units) == 1 else None
        return Amount(pick(value.low for value in values), pick(value.high for value in values), unit, clash)
    function, inside = _ONE_TO_ONE[name], values[0]
    return Amount(
        function(inside.low), function(inside.high), None if inside.unit or inside.unit is None else (), clash
    )
