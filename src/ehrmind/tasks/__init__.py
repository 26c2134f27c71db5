"""Task families, one per file: question, form of the answer, check, gold answer, corruptions.
`TASKS` lists them.
"""

from __future__ import annotations

from ehrmind.tasks import ehr, medcalc, table, trials
from ehrmind.tasks.task import Task
from ehrmind.types import Case, InputError

__all__ = ["TASKS", "Task", "hint_causes", "of"]

TASKS: dict[str, Task] = {"medcalc": medcalc.TASK, "trials": trials.TASK, "ehr": ehr.TASK, "table": table.TASK}


def of(case: Case) -> Task:
    """The task of a case. Raises InputError for an unknown family: then the data are at fault, not
    the answer.
    """
    task = TASKS.get(case.family)
    if task is None:
        raise InputError(
            f"A case ({case.place}) is of a family that is not known here; known are {', '.join(sorted(TASKS))}."
        )
    return task


def hint_causes() -> dict[str, str]:
    """The hints of all families by name, each with the cause of failure that it shows."""
    return {hint: cause for task in TASKS.values() for hint, cause in task.hint_causes.items()}
