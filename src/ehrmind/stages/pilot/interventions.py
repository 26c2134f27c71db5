"""Interventions: the pilot's questions are asked again with one kind of help each time. The first
in the list that lifts accuracy names the cause of failure.

A case gets the hints that its task has for it (`Task.hints`). The tool is for questions whose
answer is a number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ehrmind import tasks
from ehrmind.config import Recipe
from ehrmind.engines import Engine
from ehrmind.runs import Row, Run
from ehrmind.stages.pilot.diagnosis import SOLID
from ehrmind.stages.rollout import answer_all, render_prompts, variant_of
from ehrmind.statistics.intervals import t_interval
from ehrmind.types import Case


class Intervention(NamedTuple):
    hints: tuple[str, ...]
    tool: bool
    cause: str


FEWEST = 3  # questions of a stratum
LIFT = 0.1  # a smaller one names no cause, however sure it is


def interventions() -> dict[str, Intervention]:
    """All interventions by name, in the order in which causes are considered: one per hint of a
    task, and two more.
    """
    alone = {hint: Intervention((hint,), False, cause) for hint, cause in tasks.hint_causes().items()}
    return {
        "entities": alone.pop("entities"),
        "formula": alone.pop("formula"),
        "both": Intervention(("entities", "formula"), False, "extraction and knowledge"),
        "tool": Intervention((), True, "arithmetic"),
        **alone,
    }


def intervene(
    run: Run, recipe: Recipe, engine: Engine, asked: Sequence[Case], before: Sequence[Row], diagnosis: dict[str, Any]
) -> None:
    """Ask again and write into the diagnosis of every stratum that is not solid: `interventions`
    with their lifts, and `cause`.
    """
    rates = _rates(before)
    weak = [case for case in asked if diagnosis["by_stratum"][case.stratum]["kind"] != SOLID][
        : recipe.pilot.interventions
    ]
    lifts: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, intervention in interventions().items():
        cases = [case for case in weak if applies(intervention, case)]
        plain = variant_of(recipe)
        hints = (*plain.hints, *(hint for hint in intervention.hints if hint not in plain.hints))
        variant = replace(plain, hints=hints, tool=plain.tool or intervention.tool)
        if not cases or variant == plain:
            continue
        prompts = render_prompts(engine, _lenient(recipe), cases, recipe.decoding, variant)
        cases = [case for case in cases if case.id in prompts]
        rows = answer_all(
            run,
            engine,
            recipe,
            f"intervention-{name}",
            "base",
            cases,
            prompts,
            purpose=f"intervention-{name}",
            members=recipe.pilot.samples,
            decoding=recipe.decoding,
            variant=variant,
        )
        for stratum, figures in _lifts(cases, rates, _rates(rows)).items():
            lifts[stratum][name] = figures
    for stratum, figures in diagnosis["by_stratum"].items():
        if stratum in lifts:
            figures["interventions"] = lifts[stratum]
            figures["cause"] = cause_of(lifts[stratum])


def _lenient(recipe: Recipe) -> Recipe:
    """Help makes prompts longer: those that do not fit any more are left out."""
    return recipe.model_copy(update={"prompts": recipe.prompts.model_copy(update={"too_long": "leave_out"})})


def applies(intervention: Intervention, case: Case) -> bool:
    if intervention.tool:
        return case.truth["kind"] in ("decimal", "integer")
    return set(intervention.hints) <= tasks.of(case).hints(case).keys()


def cause_of(lifts: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The cause of the first intervention that lifts accuracy by `LIFT`, with 95 % confidence of
    any lift; None if none does.
    """
    return next((one.cause for name, one in interventions().items() if name in lifts and lifts[name]["lifts"]), None)


def _rates(rows: Sequence[Row]) -> dict[str, float]:
    right: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        right[row["case"]].append(row["correct"])
    return {name: sum(found) / len(found) for name, found in right.items()}


def _lifts(cases: Sequence[Case], before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """By stratum, the mean difference of pass@1 on the same questions, with an interval over
    patients.
    """
    by_stratum: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_stratum[case.stratum].append(case)
    found = {}
    for stratum, members in by_stratum.items():
        differences = [after[case.id] - before[case.id] for case in members]
        lift = sum(differences) / len(differences)
        low, high = t_interval(differences, [case.group for case in members])
        found[stratum] = {
            "questions": len(members),
            "lift": lift,
            "ci95": [max(-1.0, low), min(1.0, high)],
            "lifts": len(members) >= FEWEST and lift >= LIFT and low > 0,
        }
    return found
