"""Questions of any table: a number with a tolerance, a whole number, a date, or a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.tasks import medcalc
from ehrmind.tasks.task import Task
from ehrmind.types import Case

LABEL = Task()


def kind_of(case: Case) -> Task:
    """The task that checks answers of the truth's kind."""
    return LABEL if case.truth["kind"] == "label" else medcalc.TASK


def hints(case: Case) -> Mapping[str, str]:
    """The row's hints: columns that the recipe names under `hints`."""
    return dict(case.provenance.get("hints", {}))


def measures(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    return kind_of(cases[0]).measures(cases, answers, probabilities)


def same_truth(case: Case, other: Case) -> bool:
    return case.truth["kind"] == other.truth["kind"] and kind_of(case).same_truth(case, other)


TASK = Task(
    question=lambda case: kind_of(case).question(case),
    answer_example=lambda case: kind_of(case).answer_example(case),
    gold_answer=lambda case: kind_of(case).gold_answer(case),
    options=lambda case: kind_of(case).options(case),
    read=lambda case, answer, unit: kind_of(case).read(case, answer, unit),
    check=lambda case, answer, unit: kind_of(case).check(case, answer, unit),
    corruptions=lambda case: kind_of(case).corruptions(case),
    same_truth=same_truth,
    measures=measures,
    hints=hints,
)
