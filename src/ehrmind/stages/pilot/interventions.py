"""Interventions: the pilot's questions are asked again with one kind of help each time. The first
in the list that lifts accuracy names the cause of failure.

A case gets the hints that its task has for it (`Task.hints`). The tool is for questions whose
answer is a number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ehrmind import tasks
from ehrmind.config import Recipe
from ehrmind.engines import Sampler
from ehrmind.runs.records import Diagnosis, Lift, RolloutRow
from ehrmind.stages.context import StageContext
from ehrmind.stages.pilot.diagnosis import SOLID
from ehrmind.stages.rollout import Request, answer_all, render_prompts, variant_of
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
    context: StageContext, engine: Sampler, asked: Sequence[Case], before: Sequence[RolloutRow], diagnosis: Diagnosis
) -> Diagnosis:
    """Asks again, and adds the lifts and the cause to the diagnosis of every stratum that is not
    solid."""
    recipe, rates = context.recipe, _rates(before)
    weak = [case for case in asked if diagnosis.by_stratum[case.stratum].kind != SOLID][: recipe.pilot.interventions]
    lifts: dict[str, dict[str, Lift]] = defaultdict(dict)
    for name, intervention in interventions().items():
        cases = [case for case in weak if applies(intervention, case)]
        plain = variant_of(recipe)
        hints = (*plain.hints, *(hint for hint in intervention.hints if hint not in plain.hints))
        variant = replace(plain, hints=hints, tool=plain.tool or intervention.tool)
        if not cases or variant == plain:
            continue
        prompts = render_prompts(engine, _lenient(recipe), cases, recipe.decoding, variant)
        cases = [case for case in cases if case.id in prompts]
        stage = f"intervention-{name}"
        request = Request(cases, prompts, stage, recipe.pilot.samples, recipe.decoding, variant)
        rows = answer_all(context, engine, request, stage, "base")
        for stratum, figures in _lifts(cases, rates, _rates(rows)).items():
            lifts[stratum][name] = figures
    by_stratum = {
        stratum: figures.model_copy(update={"interventions": lifts[stratum], "cause": cause_of(lifts[stratum])})
        if stratum in lifts
        else figures
        for stratum, figures in diagnosis.by_stratum.items()
    }
    return diagnosis.model_copy(update={"by_stratum": by_stratum})


def _lenient(recipe: Recipe) -> Recipe:
    """Leaves out prompts that help makes too long."""
    return recipe.model_copy(update={"prompts": recipe.prompts.model_copy(update={"too_long": "leave_out"})})


def applies(intervention: Intervention, case: Case) -> bool:
    if intervention.tool:
        return case.truth["kind"] in ("decimal", "integer")
    return set(intervention.hints) <= tasks.of(case).hints(case).keys()


def cause_of(lifts: Mapping[str, Lift]) -> str | None:
    """The cause of the first intervention that lifts accuracy by `LIFT`, with 95 % confidence of
    any lift; None if none does.
    """
    return next((one.cause for name, one in interventions().items() if name in lifts and lifts[name].lifts), None)


def _rates(rows: Sequence[RolloutRow]) -> dict[str, float]:
    right: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        right[row.case].append(row.correct)
    return {name: sum(found) / len(found) for name, found in right.items()}


def _lifts(cases: Sequence[Case], before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Lift]:
    """Returns, by stratum, the mean difference of pass@1 on the same questions, with an interval
    over patients."""
    by_stratum: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_stratum[case.stratum].append(case)
    found = {}
    for stratum, members in by_stratum.items():
        differences = [after[case.id] - before[case.id] for case in members]
        lift = sum(differences) / len(differences)
        low, high = t_interval(differences, [case.group for case in members])
        found[stratum] = Lift(
            questions=len(members),
            lift=lift,
            ci95=(max(-1.0, low), min(1.0, high)),
            lifts=len(members) >= FEWEST and lift >= LIFT and low > 0,
        )
    return found
