"""Measures where our verdict and the benchmark's rules part.

Both score the same forms of the right answer, and of no right answer. `parity(cases)` works on any
cases of the MedCalc family; `as_markdown` writes the table in `docs/verifier.md`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ehrmind.calculators.spelling import normal_unit
from ehrmind.prompts.protocol import wrap
from ehrmind.tasks.medcalc import WRONG_UNITS, accepted_units, gold_answer
from ehrmind.types import Case
from ehrmind.verify.benchmark import benchmark_score
from ehrmind.verify.judge import judge


@dataclass(frozen=True, slots=True)
class ParityRow:
    """Counts for one form: `n` cases have an answer of this form; `ours` and `benchmark` of them
    are right by each rule."""

    form: str
    n: int
    ours: int
    benchmark: int


def parity(cases: Iterable[Case]) -> list[ParityRow]:
    """Returns one row per form, in the order of `FORMS`. Cases that cannot take a form are left out
    (a minus sign for 3)."""
    kept = list(cases)
    rows = []
    for form, write in FORMS.items():
        pairs = [(case, text) for case in kept if (text := write(case)) is not None]
        ours = sum(judge(case, text).correct for case, text in pairs)
        rows.append(ParityRow(form, len(pairs), ours, sum(benchmark_score(case, text) for case, text in pairs)))
    return rows


def as_markdown(rows: Iterable[ParityRow]) -> str:
    head = "| form of the answer | rows | right by ours | right by the benchmark's |\n| --- | ---: | ---: | ---: |\n"
    return head + "".join(f"| {row.form} | {row.n} | {row.ours} | {row.benchmark} |\n" for row in rows)


Form = Callable[[Case], str | None]


def _answer(value: Any) -> str:
    return wrap("Worked out.", json.dumps({"answer": value}, ensure_ascii=False))


def _number(write: Callable[[Any], Any]) -> Form:
    return lambda case: _answer(write(case.truth["value"])) if case.truth["kind"] in ("decimal", "integer") else None


def _score(write: Callable[[Any], Any]) -> Form:
    return lambda case: _answer(write(case.truth["value"])) if case.truth["kind"] == "integer" else None


def _date(pattern: str) -> Form:
    def text(case: Case) -> str | None:
        if case.truth["kind"] != "date":
            return None
        date = datetime.date.fromisoformat(case.truth["value"])
        return _answer(pattern.format(d=date, month=f"{date:%B}"))

    return text


def _age(write: Callable[[int, int], Any]) -> Form:
    return lambda case: (
        _answer(write(case.truth["weeks"], case.truth["days"])) if case.truth["kind"] == "weeks_days" else None
    )


def _with_unit(case: Case) -> str | None:
    unit = case.truth.get("unit")
    return _answer(f"{case.truth['value']} {unit}") if unit else None


def _unit_key(case: Case) -> str | None:
    unit = case.truth.get("unit")
    return wrap("Worked out.", json.dumps({"answer": case.truth["value"], "unit": unit})) if unit else None


def _wrong_unit(case: Case) -> str | None:
    truth = case.truth
    if "value" not in truth or truth["kind"] == "date":
        return None
    accepted = accepted_units(truth.get("calculator"), truth.get("unit"), case.fields["question"])
    return _answer(f"{truth['value']} {next(unit for unit in WRONG_UNITS if normal_unit(unit) not in accepted)}")


def _thousands(case: Case) -> str | None:
    value = case.truth.get("value")
    return _answer(f"{value:,}") if isinstance(value, int | float) and abs(value) >= 1000 else None


def _minus(case: Case) -> str | None:
    value = case.truth.get("value")
    return _answer(f"\u2212{abs(value)}") if isinstance(value, int | float) and value < 0 else None


FORMS: dict[str, Form] = {
    "the gold response": lambda case: wrap("Worked out.", gold_answer(case)),
    'number as text, `"38.0"`': _number(str),
    'with its unit, `"38.0 mL/min"`': _with_unit,
    'with its unit in a second key, `"unit": "mL/min"`': _unit_key,
    'with thousands comma, `"1,234.5"`': _thousands,
    'with a typographic minus, `"−2.5"`': _minus,
    "score with a decimal point, `3.0`": _score(float),
    "date without padding, `1/9/2007`": _date("{d.month}/{d.day}/{d.year}"),
    "ISO date, `2007-01-09`": _date("{d}"),
    "date with the month's name, `January 9, 2007`": _date("{month} {d.day}, {d.year}"),
    "age as a tuple, `('14 weeks', '1 days')`": _age(lambda weeks, days: f"('{weeks} weeks', '{days} days')"),
    "age as a pair, `[14, 1]`": _age(lambda weeks, days: [weeks, days]),
    "score off by 0.4, `3.4`": _score(lambda value: value + 0.4),
    "with a wrong unit": _wrong_unit,
    'uncomputed expression, `"38.0 * 1"`': _number(lambda value: f"{value} * 1"),
    "list of guesses, `[38.0, 39.0]`": _number(lambda value: [value, value + 1]),
    'range, `"38.0 to 39.0"`': _number(lambda value: f"{value} to {value + 1}"),
    'age between guesses, `"14 weeks, 1 day or 2 days"`': _age(
        lambda weeks, days: f"{weeks} weeks, {days} days or {days + 1} days"
    ),
    "empty thinking": lambda case: wrap("", gold_answer(case)),
    "no thinking": lambda case: wrap(None, gold_answer(case)),
    "two answer blocks, the right one last": lambda case: (
        wrap("Worked out.", '{"answer": 999}') + wrap(None, gold_answer(case))
    ),
    "text after the answer": lambda case: wrap("Worked out.", gold_answer(case)) + " I hope this helps.",
    "trailing comma in the JSON": lambda case: wrap("Worked out.", gold_answer(case).removesuffix("}") + ",}"),
    "another key next to the answer": lambda case: wrap(
        "Worked out.", gold_answer(case).removesuffix("}") + ', "confidence": 1}'
    ),
}
