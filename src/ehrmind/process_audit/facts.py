"""Collects what a thought may say about a case: numbers and days of record and question, the
calculator's constants and steps."""

from __future__ import annotations

import datetime
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from types import CodeType, FunctionType

from ehrmind import tasks
from ehrmind.calculators import CALCULATORS, Calculator, Convention, Result
from ehrmind.calculators.inputs import Choice, Day, Flag, Input, Quantity
from ehrmind.calculators.labels import given_inputs, work_case
from ehrmind.calculators.telling import STYLES
from ehrmind.calculators.working import Step
from ehrmind.process_audit.amounts import Amounts, bases_of, says
from ehrmind.process_audit.numbers import Token, tokens
from ehrmind.process_audit.units import Unit, unit_behind
from ehrmind.types import Case, InputError

# Common factors between units and between times: 1000 mg in a g, 2.54 cm in an inch, 32 degrees
# Fahrenheit.
_FACTORS = (
    0,
    1,
    10,
    100,
    1000,
    1e6,
    1e9,
    0.1,
    0.01,
    0.001,
    1e-6,
    60,
    24,
    7,
    12,
    365,
    2.54,
    0.393701,
    2.20462,
    0.453592,
    0.0254,
    1.8,
)
_COMMON = (*_FACTORS, 5, 9, 32)
_CONVENTIONS: tuple[Convention, ...] = ("published", "medcalc", "medcalc-verified")
_WORDED = ("shorthand", "jotted", "formula_first")  # the other styles use the same words
_VERBS = frozenset({"is", "was", "of", "and", "point", "points", "or"})


@dataclass(frozen=True, slots=True)
class Needed:
    """An input that the case says its note holds. `values` are its numbers in the units it may be
    given in."""

    item: Input
    values: tuple[tuple[float, Unit], ...] = ()
    day: datetime.date | None = None
    word: str = ""
    present: bool | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """The facts of a case, which a thought is checked against.

    - `given`: numbers of record and question
    - `inputs`: the calculator's inputs, as given and as it takes them
    - `constants`: numbers of the formula, with a unit if its text has one
    - `factors`: common factors between units
    - `reached`: the calculator's own results
    - `wording`: for two words in the calculator's working, the numbers that follow them
    - `bases`: what the calculator's units are made of
    """

    given: Amounts
    inputs: Amounts
    constants: Amounts
    factors: Amounts
    reached: Amounts
    days: frozenset[datetime.date]
    text: str = ""
    calculator: Calculator | None = None
    results: tuple[Result, ...] = ()
    needed: tuple[Needed, ...] = ()
    wording: Mapping[tuple[str, str], frozenset[tuple[float, Unit]]] = field(default_factory=dict)
    bases: frozenset[str] = frozenset()

    @property
    def is_score(self) -> bool:
        """True if the calculator adds up points."""
        return any(step.points is not None for result in self.results for step in result.steps)


def known(case: Case) -> Known:
    record = f"{tasks.of(case).record(case)}\n{tasks.of(case).question(case)}"
    found = tokens(record)
    given = list(_with_units(found))
    days = {token.date for token in found if token.date}
    number = case.truth.get("calculator")
    if case.family != "medcalc" or number is None or number not in CALCULATORS:
        nothing = Amounts()
        return Known(
            Amounts.of(given), nothing, nothing, _common_factors(), nothing, frozenset(days), plain_text(record)
        )
    calculator = CALCULATORS[number]
    results = _results(case)
    inputs = _needed(case, calculator)
    needed = tuple(need for need in inputs if all(_is_used(need, result) for result in results))
    days |= {need.day for need in inputs if need.day}
    return Known(
        Amounts.of(given),
        Amounts.of(pair for need in inputs for pair in need.values),
        constants_of(calculator, results),
        _common_factors(),
        Amounts.of(_reached(results)),
        frozenset(
            days | {step.value for result in results for step in result.steps if isinstance(step.value, datetime.date)}
        ),
        plain_text(record),
        calculator,
        results,
        needed,
        _wording(calculator, results),
        _bases(calculator, inputs, results),
    )


def _results(case: Case) -> tuple[Result, ...]:
    """Works the case in every convention and keeps the results that differ."""
    found: list[Result] = []
    for convention in _CONVENTIONS:
        result = work_case(case, convention)[0]
        if result is not None and all((result.value, result.steps) != (other.value, other.steps) for other in found):
            found.append(result)
    return tuple(found)


def _with_units(found: Sequence[Token]) -> Iterable[tuple[float, Unit]]:
    for place, token in enumerate(found):
        if token.kind == "number":
            unit = unit_behind(found, place + 1)[0]
            if (
                not unit
                and place + 2 < len(found)
                and found[place + 1].kind == "/"
                and found[place + 2].kind == "number"
            ):
                unit = unit_behind(found, place + 3)[0]  # 120/80 mm Hg
            yield token.value, unit


@lru_cache(maxsize=8192)
def _pairs(text: str) -> tuple[tuple[float, Unit], ...]:
    """Reads the numbers of a short text, such as a formula, with their units."""
    return tuple(_with_units(tokens(text)))


def _needed(case: Case, calculator: Calculator) -> tuple[Needed, ...]:
    found = []
    given = given_inputs(case)
    for item in calculator.inputs:
        if item.name not in given:
            continue
        value = given[item.name]
        try:
            if isinstance(item, Quantity):
                found.append(Needed(item, _values(item, value)))
            elif isinstance(item, Day):
                found.append(Needed(item, day=item.read(value)))
            elif isinstance(item, Choice):
                found.append(Needed(item, word=item.read(value)))
            elif isinstance(item, Flag):
                found.append(Needed(item, present=item.read(value)))
        except InputError:
            continue  # the row's own value does not fit: nothing to look for
    return tuple(found)


def _is_used(need: Needed, result: Result) -> bool:
    """True if a measurement appears in the calculator's steps. A score may ask for one and decide
    by another."""
    if not need.values:
        return True
    text = " ; ".join(f"{step.what} {step.expression}" for step in result.steps)
    return any(says(value, token) for token in tokens(text) if token.kind == "number" for value, _ in need.values)


def _values(item: Quantity, value: object) -> tuple[tuple[float, Unit], ...]:
    """Returns a value as given and in the formula's unit, by arithmetic and as the benchmark rounds
    it."""
    own = unit_of(item.unit)
    read = [
        (item.read(value, benchmark=benchmark), own) for benchmark in (True, False) if benchmark or _fits(item, value)
    ]
    if isinstance(value, list | tuple) and len(value) == 2:
        return ((float(value[0]), unit_of(str(value[1]))), *read)
    return tuple(read)


def _fits(item: Quantity, value: object) -> bool:
    try:
        item.read(value)
    except InputError:
        return False
    return True


@lru_cache(maxsize=1024)
def unit_of(text: str) -> Unit:
    """Reads a unit's text as powers of symbols."""
    return unit_behind(tokens(text), 0)[0]


def constants_of(calculator: Calculator, results: Sequence[Result]) -> Amounts:
    """Collects the numbers of the formula, the inputs' names and the steps' words: thresholds,
    coefficients, points."""
    texts = [calculator.formula, calculator.question, calculator.name, *(item.label for item in calculator.inputs)]
    texts += [deviation.what for deviation in calculator.deviations]
    texts += [step.what for result in results for step in result.steps]
    texts += [text for result in results for text in result.assumed]
    pairs = [pair for text in texts for pair in _pairs(text)]
    pairs += [(value, ()) for value in _written_in(calculator.work)]
    pairs += [(step.points, ()) for result in results for step in result.steps if step.points is not None]
    patients = {value for result in results for step in result.steps for value, _ in _pairs(step.expression)}
    return Amounts.of([*pairs, *((value, ()) for value in patients)])


@cache
def _common_factors() -> Amounts:
    return Amounts.of((value, ()) for value in _COMMON)


def _wording(calculator: Calculator, results: Sequence[Result]) -> dict[tuple[str, str], frozenset[tuple[float, Unit]]]:
    """Maps the two words before a number to the numbers, with units, that follow them in the worked
    styles."""
    found: dict[tuple[str, str], set[tuple[float, Unit]]] = defaultdict(set)
    for result in results:
        for style in _WORDED:
            worked = tokens(STYLES[style](calculator, result))
            for place, token in enumerate(worked):
                if token.kind == "number" and (before := words_before(worked, place)):
                    found[before].add((token.value, unit_behind(worked, place + 1)[0]))
    return {before: frozenset(values) for before, values in found.items()}


def words_before(text: Sequence[Token], place: int) -> tuple[str, str] | None:
    """Returns the two words, or a number and a word, before a number.

    None if anything but a colon, comma or bracket stands between.
    """
    found: list[str] = []
    at = place - 1
    while at >= 0 and len(found) < 2:
        kind = text[at].kind
        if kind == "word" or (kind == "number" and not (found and found[0][0].isdigit())):
            found.append(text[at].text)
        elif kind not in (":", ",", "("):
            return None
        at -= 1
    return (found[1], found[0]) if len(found) == 2 and found[0] not in _VERBS else None


def _written_in(work: Callable[..., object]) -> frozenset[float]:
    """Collects the numbers in a calculator's own code and tables: thresholds of its bands,
    coefficients, doses."""
    found: set[float] = set()
    waiting: list[object] = [work]
    seen: set[int] = set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, bool) or thing is None:
            continue
        if isinstance(thing, int | float):
            found.add(abs(float(thing)))
        elif isinstance(thing, Mapping):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, tuple | list | set | frozenset):
            waiting += thing
        elif isinstance(thing, FunctionType) and thing.__module__ == work.__module__:
            waiting += [
                thing.__code__,
                *(thing.__globals__.get(name) for name in thing.__code__.co_names),
                thing.__defaults__,
            ]
        elif isinstance(thing, CodeType):
            waiting += thing.co_consts
    return frozenset(found)


def _reached(results: Sequence[Result]) -> Iterable[tuple[float, Unit]]:
    for result in results:
        for step in result.steps:
            if isinstance(step.value, int | float):
                yield float(step.value), unit_of(step.unit or "")
        if isinstance(result.value, int | float):
            yield float(result.value), unit_of(result.unit or "")


def _bases(calculator: Calculator, needed: Iterable[Needed], results: Sequence[Result]) -> frozenset[str]:
    """Names what the units are made of that the calculator takes, is given, or reaches on its
    way."""
    texts = [calculator.formula, calculator.question, *(item.label for item in calculator.inputs)]
    texts += [
        f"{step.what} ; {step.expression if step.points is not None else ''}"
        for result in results
        for step in result.steps
    ]
    units = [unit for text in texts for _, unit in _pairs(text)]
    units += [unit_of(item.unit) for item in calculator.inputs if isinstance(item, Quantity)]
    units += [unit for need in needed for _, unit in need.values]
    units += [unit_of(step.unit or "") for result in results for step in result.steps]
    bases = bases_of([*units, *(unit_of(result.unit or "") for result in results)])
    return (
        bases
        | ({"age"} if any(item.name == "age" for item in calculator.inputs) else set())
        | ({"%"} if results else set())
    )


def plain_text(text: str) -> str:
    """Reduces a text to letters, digits and single spaces, so that a quotation can be looked up."""
    return " ".join(re.findall(r"[a-z0-9.]+", text.casefold()))


def criteria(result: Result) -> list[Step]:
    """Returns the steps that earn points."""
    return [step for step in result.steps if step.points is not None]


def with_numbers_of(about: Known, text: str) -> Known:
    """Adds the numbers of a tool's answer to the given ones."""
    more = Amounts.of([*zip(about.given.numbers, about.given.units, strict=True), *_with_units(tokens(text))])
    return replace(about, given=more)
