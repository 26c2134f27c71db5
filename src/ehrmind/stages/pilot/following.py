"""The plan in the run folder: written once after the pilot, followed, and compared with the results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ehrmind.runs import Run
from ehrmind.stages.context import StageContext
from ehrmind.stages.pilot.plan import compare_gains, make_plan, planned


def follow_plan(context: StageContext, diagnosis: dict[str, Any]) -> StageContext:
    """Writes the plan if there is none, and returns the context with the recipe that follows it."""
    run, recipe = context.run, context.recipe
    if run.read_json("pilot.json") is None:  # it was damaged
        run.write_json("pilot.json", {name: found for name, found in diagnosis.items() if name != "seconds"})
    if run.read_json("plan.json") is None:
        run.write_json("plan.json", make_plan(recipe, diagnosis, context.train))
    return replace(context, recipe=planned(recipe, run.read_json("plan.json")))


def write_gains(run: Run) -> None:
    """Writes predicted and obtained gains if the run has a pilot and RLVR from the base."""
    plan, diagnosis, results = (run.read_json(f"{name}.json") for name in ("plan", "pilot", "results"))
    if plan is None or diagnosis is None or results is None:
        return
    if gains := compare_gains(plan, diagnosis, results):
        run.write_json("gains.json", gains)
