"""Questions of anybody's table: a number with a tolerance, a whole number, a date, or a label, checked as the other families are."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ehrmind.measures import label_measures
from ehrmind.tasks import labelled, medcalc
from ehrmind.types import Case


def _kind(case: Case) -> Any:
    """The functions for the truth's kind."""
    return labelled if case.truth["kind"] == "label" else medcalc


def record(case: Case) -> str:
    return case.fields["record"]


def question(case: Case) -> str:
    if case.truth["kind"] == "label":
        return f"{case.fields['question']} Answer with one of: {labelled.listed(case.truth['labels'])}."
    return case.fields["question"]


def hints(case: Case) -> Mapping[str, str]:
    """Those of the row: the columns that the recipe names as aids."""
    return dict(case.provenance.get("hints", {}))


def answer_example(case: Case) -> str:
    return str(_kind(case).answer_example(case))


def gold_answer(case: Case) -> str:
    return str(_kind(case).gold_answer(case))


def options(case: Case) -> tuple[str, ...]:
    return tuple(_kind(case).options(case))


def read(case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
    value, reason = _kind(case).read(case, answer, unit)
    return value, reason


def check(case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
    value, reason = _kind(case).check(case, answer, unit)
    return value, reason


def corruptions(case: Case) -> Iterator[tuple[str, str]]:
    yield from _kind(case).corruptions(case)


def measures(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    """Of labels; empty for the other kinds."""
    del probabilities
    if cases[0].truth["kind"] != "label":
        return {}
    return label_measures([case.truth["value"] for case in cases], answers, cases[0].truth["labels"])


def worked(case: Case, draw: random.Random) -> Case | None:
    """The case itself where its row has a worked answer."""
    del draw
    return case if case.rationale else None


def same_truth(case: Case, other: Case) -> bool:
    return case.truth["kind"] == other.truth["kind"] and bool(_kind(case).same_truth(case, other))
