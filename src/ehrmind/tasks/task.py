"""`Task`: what a family asks, and how its answers are read, checked and shown to be wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ehrmind.tasks import labelled
from ehrmind.types import Case

Reading = tuple[Any, str | None]  # the answer as read, and the named reason why it is refused (None: it is not)


def no_hints(case: Case) -> Mapping[str, str]:
    del case
    return {}


def source_solution(case: Case, draw: random.Random) -> Case | None:
    """Returns the case itself if its source has a worked solution, else None."""
    del draw
    return case if case.rationale else None


@dataclass(frozen=True, slots=True)
class Task:
    """One family, as functions. The defaults are a labelled task: fields `record` and `question`,
    and a truth with its labels.

    A function that returns an answer returns JSON text. One that takes an answer takes parsed JSON
    of any kind, and never raises on it.
    """

    record: Callable[[Case], str] = labelled.record
    """The record's text, as the prompt shows it."""

    question: Callable[[Case], str] = labelled.question

    answer_example: Callable[[Case], str] = labelled.answer_example
    """A valid answer of the right form. It does not depend on the truth."""

    gold_answer: Callable[[Case], str] = labelled.gold_answer

    options: Callable[[Case], tuple[str, ...]] = labelled.options
    """All possible answers if they are a few labels, else an empty tuple."""

    read: Callable[[Case, Any, Any], Reading] = labelled.read
    """(case, answer, unit) -> the answer, and why it does not have the required form. Does not look
    at the gold answer.
    """

    check: Callable[[Case, Any, Any], Reading] = labelled.check
    """(case, answer, unit) -> the answer, and why it is not right."""

    corruptions: Callable[[Case], Iterator[tuple[str, str]]] = labelled.corruptions
    """Named answers that `check` must refuse."""

    same_truth: Callable[[Case, Case], bool] = labelled.same_truth
    """Tells whether the second case's gold answer would be right for the first."""

    measures: Callable[[Sequence[Case], Sequence[Any], Sequence[Sequence[float] | None]], dict[str, Any]] = (
        labelled.measures
    )
    """(cases, answers as read, label probabilities) -> what is reported in addition to accuracy. An
    answer is None if malformed.
    """

    worked: Callable[[Case, random.Random], Case | None] = source_solution
    """(case, draw) -> the case with an answer and a worked solution, in a drawn style; None if
    there is no solution.
    """

    hints: Callable[[Case], Mapping[str, str]] = no_hints
    """Texts that may stand next to the question, by name. The pilot adds them to find where a model
    fails.
    """

    hint_causes: Mapping[str, str] = field(default_factory=dict)
    """Each hint's name, and the cause of failure that the pilot reports if the hint helps."""
