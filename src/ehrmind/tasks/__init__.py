"""One task family a file: its question, answer schema, check, gold answer and corruptions. `TASKS` names them all."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ehrmind.tasks import ehr, medcalc, table, trials
from ehrmind.types import Case, InputError


class Task(Protocol):
    """What the file of a family holds, as functions. Answers that go out are JSON texts; those that come in are parsed JSON."""

    def record(self, case: Case) -> str:
        """The record's text, as the prompt shows it."""

    def question(self, case: Case) -> str: ...

    def hints(self, case: Case) -> Mapping[str, str]:
        """What may be laid beside the question to find where a model fails, by name; empty where there is nothing to lay."""

    def answer_example(self, case: Case) -> str:
        """A valid answer of the right form, the same whatever the truth is."""

    def gold_answer(self, case: Case) -> str: ...

    def options(self, case: Case) -> tuple[str, ...]:
        """Every answer there is, for a family whose answers are few labels; else empty."""

    def read(self, case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
        """The answer as read, and the named reason why it is none of the form asked for, its unit included. Needs no gold answer."""

    def check(self, case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
        """The answer as read, and the named reason why it is not right (None: it is right). Never raises on an answer."""

    def measures(
        self, cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
    ) -> dict[str, Any]:
        """What the family reports beside accuracy, of answers as read (None: malformed); empty where that is all."""

    def corruptions(self, case: Case) -> Iterator[tuple[str, str]]:
        """Named answers that must not be right."""

    def worked(self, case: Case, draw: random.Random) -> Case | None:
        """The case with an answer and a worked solution of the family's own making, in a drawn style; None where there is no way to one."""

    def same_truth(self, case: Case, other: Case) -> bool:
        """Whether the other case's gold answer would be right here too."""


TASKS: dict[str, Task] = {"medcalc": medcalc, "trials": trials, "ehr": ehr, "table": table}


def of(case: Case) -> Task:
    """The task of a case. Raises InputError for a family that nobody wrote: that is the data's fault, not the answer's."""
    task = TASKS.get(case.family)
    if task is None:
        raise InputError(
            f"A case ({case.place}) is of a family that is not known here; known are {', '.join(sorted(TASKS))}."
        )
    return task
