"""Kinds of cases: compares the families and tasks in a run's data with those that its model is
asked now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ehrmind.stages.models import Chosen, about_model
from ehrmind.types import Case, InputError

NAMED = 3  # tasks in a message


def refuse_other_kinds(chosen: Chosen, cases: Sequence[Case], data: Path) -> None:
    """Refuses cases of a family that the run did not have, or had with other tasks only. Raises
    InputError.

    An exported model names only its families. A directory without ehrmind.json is asked anything.
    """
    had = set[tuple[str, str]]()
    if chosen.run is not None and chosen.run.cases("train").is_file():
        had = {(case.family, kind_of(case)) for split in chosen.run.load_cases().values() for case in split}
    about = about_model(chosen.folder)
    families = {family for family, _ in had} or set(about.families if about is not None else ())
    if not families:
        return
    anyway = "choose the model of another run, or say --any-task if it is meant to try"
    for family in sorted({case.family for case in cases}):
        asked = sorted({kind_of(case) for case in cases if case.family == family})
        if family not in families:
            many = sum(case.family == family for case in cases)
            raise InputError(
                f"{many:,} cases of {data} are of the family {family}, and {chosen.name} had {_listed(families)} only;"
                f" {anyway}."
            )
        if had and not {(family, kind) for kind in asked} & had:
            theirs = {kind for of, kind in had if of == family}
            raise InputError(
                f"The {family} cases of {data} are of {_listed(asked)}, and {chosen.name} had {_listed(theirs)} only;"
                f" {anyway}."
            )


def kind_of(case: Case) -> str:
    """Returns a task's name. For a table, whose task is named after its file, returns the form of
    its answers."""
    if case.family != "table":
        return case.task
    labels = ", ".join(map(str, case.truth.get("labels", ())))
    return f"kind {case.truth['kind']}" + (f" ({labels})" if labels else "")


def _listed(names: Sequence[str] | set[str]) -> str:
    shown = sorted(names)[:NAMED]
    return ", ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
