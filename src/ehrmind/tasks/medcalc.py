"""MedCalc: a note, a calculator's question, and one value that a clinician would compute.

The rules are those of MedCalc-Bench (arXiv 2406.12036), made strict. Dates, gestational ages and
scores must be equal, any other value must be inside its row's limits. A unit may be left out, and
must be right if given. A truth is one of

    {"kind": "decimal", "value": 38.0, "low": 36.1, "high": 39.9, "unit": "mL/min", "calculator": 2}
    {"kind": "integer", "value": 3, "unit": "points", "calculator": 4}
    {"kind": "date", "value": "2007-01-09", "calculator": 13}
    {"kind": "weeks_days", "weeks": 14, "days": 1, "calculator": 69}
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.calculators.labels import given_inputs, truth_of, work_case
from ehrmind.calculators.spelling import normal_unit, same_unit
from ehrmind.calculators.telling import STYLES, stated
from ehrmind.parsing import reasons
from ehrmind.parsing.compare import read_date, read_number, read_weeks_days
from ehrmind.tasks.task import Reading, Task
from ehrmind.types import Case

# Examples show the form only: hardly any question has these values.
EXAMPLES = {"decimal": 999.9, "integer": 999, "date": "12/31/1999", "weeks_days": "45 weeks, 6 days"}
UNITLESS = frozenset({"none", "unitless", "dimensionless", "na", "n/a"})
WRONG_UNITS = ("mg/dL", "mmHg", "kg", "mL/min", "days", "%")


def record(case: Case) -> str:
    return case.fields["note"]


def question(case: Case) -> str:
    return case.fields["question"]


def hints(case: Case) -> Mapping[str, str]:
    """`entities`: the values that the calculator needs, as in the note; `formula`: the calculator's
    formula.
    """
    calculator = CALCULATORS[case.truth["calculator"]]
    found = {"formula": f"{calculator.name}: {calculator.formula}."}
    given = given_inputs(case)
    values = [f"{item.label} {stated(given[item.name])}" for item in calculator.inputs if item.name in given]
    return found | ({"entities": f"Values in the note: {' ; '.join(values)}."} if values else {})


def answer_example(case: Case) -> str:
    return as_json(EXAMPLES[case.truth["kind"]])


def options(case: Case) -> tuple[str, ...]:
    """Empty: values cannot be listed."""
    del case
    return ()


def gold_answer(case: Case) -> str:
    return as_json(_gold(case))


def read(case: Case, answer: Any, unit: Any) -> Reading:
    """The answer as read, and why it is not of the question's kind or unit (None: it is). Needs no
    gold answer.
    """
    truth = case.truth
    kind = truth["kind"]
    if kind == "date":
        return _with_unit(read_date(answer), unit, frozenset())
    if kind == "weeks_days":
        return _with_unit(read_weeks_days(answer), unit, frozenset({"weeks,days", "weeksanddays"}))
    value, attached, reason = read_number(answer)
    if reason is not None:
        return None, reason
    if attached or unit is not None:
        accepted = accepted_units(truth.get("calculator"), truth.get("unit"), case.fields["question"])
        if (attached and not same_unit(attached, accepted)) or not _key_fits(unit, accepted):
            return value, reasons.WRONG_UNIT
    return value, reasons.NOT_AN_INTEGER if kind == "integer" and value != int(value) else None


def check(case: Case, answer: Any, unit: Any) -> Reading:
    """The answer as read, and the reason why it is not right (None: it is right)."""
    value, reason = read(case, answer, unit)
    if reason is not None:
        return value, reason
    truth = case.truth
    if truth["kind"] == "date":
        return value, None if value == truth["value"] else reasons.WRONG_VALUE
    if truth["kind"] == "weeks_days":
        return value, None if value == [truth["weeks"], truth["days"]] else reasons.WRONG_VALUE
    low, high = (truth["value"], truth["value"]) if truth["kind"] == "integer" else (truth["low"], truth["high"])
    return value, None if low <= value <= high else reasons.OUT_OF_LIMITS


def measures(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    """Empty: accuracy is enough."""
    del cases, answers, probabilities
    return {}


def _with_unit(reading: tuple[Any, str, str | None], unit: Any, accepted: frozenset[str]) -> Reading:
    value, _, reason = reading
    return value, reasons.WRONG_UNIT if reason is None and not _key_fits(unit, accepted) else reason


def _key_fits(unit: Any, accepted: frozenset[str]) -> bool:
    """Tells whether an answer's `unit` is right. Null and empty text count as left out."""
    return unit is None or unit == "" or (type(unit) is str and same_unit(unit, accepted))


@lru_cache(maxsize=65536)
def accepted_units(calculator: int | None, unit: str | None, question: str) -> frozenset[str]:
    """The accepted units, in normal spelling. A dose may also name its drug."""
    if unit is None:
        spellings: tuple[str, ...] = tuple(UNITLESS)
    else:
        spellings = (unit,)
        if drug := re.search(rf"\bin {re.escape(unit)} of (\w+) ?([A-Z]{{2}})?", question):
            spellings += (f"{unit} {drug[1]}", f"{unit} {drug[1]} {drug[2] or ''}")
    known = CATALOGUE.get(calculator) if calculator is not None else None
    if known is not None and known.unit == unit:
        spellings += known.also
    return frozenset(map(normal_unit, spellings))


def corruptions(case: Case) -> Iterator[tuple[str, str]]:
    """Answers that must not be right: near misses of the value, and answers that commit to none."""
    kind = case.truth["kind"]
    gold = _gold(case)
    if kind in ("date", "weeks_days"):
        yield from _other_days(case)
        wrong = _next(case)
    else:
        wrong = case.truth.get("high", gold) + max(1, abs(gold))
        yield "wrong value", as_json(wrong)
        low, high = case.truth.get("low", gold), case.truth.get("high", gold)
        yield "just outside the limits", as_json(high + (max(abs(high), 1) / 1000 if kind == "decimal" else 1))
        yield "just outside the limits", as_json(low - (max(abs(low), 1) / 1000 if kind == "decimal" else 1))
        if kind == "integer":
            yield "integer off by 0.4", as_json(gold + 0.4)
            yield "integer off by 0.4", as_json(gold - 0.4)
        accepted = accepted_units(case.truth.get("calculator"), case.truth.get("unit"), case.fields["question"])
        unit = next(unit for unit in WRONG_UNITS if normal_unit(unit) not in accepted)
        yield "wrong unit", as_json(f"{gold} {unit}")
        yield "wrong unit", json.dumps({"answer": gold, "unit": unit})
        yield "expression", as_json(f"{gold} * 1")
        yield "expression", as_json(f"({gold} + 2) - 2")
        yield "expression", f'{{"answer": {gold} + 0}}'
    yield "list of guesses", as_json([gold, wrong])
    yield "list of guesses", as_json([wrong, gold, wrong])
    yield "list of guesses", as_json(f"{gold} or {wrong}")
    yield "range", as_json(f"{gold} to {wrong}")
    yield "range", as_json(f"{gold} - {wrong}")
    for nothing in ("null", "true", '""', "{}", "[]", '"unknown"'):
        yield "no value", f'{{"answer": {nothing}}}'


def same_truth(case: Case, other: Case) -> bool:
    mine, theirs = case.truth, other.truth
    if mine["kind"] == "decimal" and theirs["kind"] == "decimal":
        return bool(mine["low"] <= theirs["value"] <= mine["high"])
    return bool(mine["kind"] == theirs["kind"] and _gold(case) == _gold(other))


def worked(case: Case, draw: random.Random) -> Case | None:
    """The case with the answer and rationale of the published calculator; None if its inputs cannot
    be read.
    """
    result, _ = work_case(case)
    if result is None:
        return None
    calculator = CALCULATORS[case.truth["calculator"]]
    rationale = STYLES[draw.choice(tuple(STYLES))](calculator, result)
    return dataclasses.replace(case, truth=truth_of(CATALOGUE[calculator.id], result), rationale=rationale)


def as_json(answer: Any) -> str:
    return json.dumps({"answer": answer})


def _gold(case: Case) -> Any:
    """The truth in the form of an answer."""
    truth = case.truth
    if truth["kind"] == "date":
        return _month_first(datetime.date.fromisoformat(truth["value"]))
    if truth["kind"] == "weeks_days":
        return _age(truth["weeks"], truth["days"])
    return truth["value"]


def _month_first(date: datetime.date) -> str:
    return f"{date:%m/%d}/{date.year:04}"


def _age(weeks: int, days: int) -> str:
    return f"{weeks} week{'s' * (weeks != 1)}, {days} day{'s' * (days != 1)}"


def _next(case: Case) -> str:
    """The day after the truth."""
    truth = case.truth
    if truth["kind"] == "weeks_days":
        return _age(truth["weeks"] + (truth["days"] + 1) // 7, (truth["days"] + 1) % 7)
    return _month_first(datetime.date.fromisoformat(truth["value"]) + datetime.timedelta(days=1))


def _other_days(case: Case) -> Iterator[tuple[str, str]]:
    truth = case.truth
    yield "wrong value", as_json(_next(case))
    if truth["kind"] == "weeks_days":
        weeks, days = truth["weeks"], truth["days"]
        yield "wrong value", as_json([weeks + 1, days])
        yield "weeks without days", as_json(f"{weeks} weeks")
        yield "wrong unit", as_json(f"{weeks} months, {days} days")
        yield "wrong unit", json.dumps({"answer": _age(weeks, days), "unit": "kg"})
        yield "expression", as_json(f"{weeks} + 0 weeks, {days} days")
        return
    date = datetime.date.fromisoformat(truth["value"])
    yield "wrong value", as_json(_month_first(date - datetime.timedelta(days=365)))
    yield "wrong unit", json.dumps({"answer": _gold(case), "unit": "kg"})
    yield "expression", as_json(f"{_gold(case)} + 0 days")
    yield "no such day", as_json(date.strftime("%m/32/%Y"))


TASK = Task(
    record=record,
    question=question,
    answer_example=answer_example,
    gold_answer=gold_answer,
    options=options,
    read=read,
    check=check,
    corruptions=corruptions,
    same_truth=same_truth,
    measures=measures,
    worked=worked,
    hints=hints,
    hint_causes={"entities": "extraction", "formula": "knowledge"},
)
