"""The plan in the run folder: written once after the pilot, followed, and compared with the
results."""

from __future__ import annotations

from dataclasses import replace

from ehrmind.runs import Run
from ehrmind.runs.records import Diagnosis, PilotMark, Plan, Results
from ehrmind.stages.context import StageContext
from ehrmind.stages.pilot.plan import compare_gains, make_plan, planned


def follow_plan(context: StageContext, diagnosis: PilotMark) -> StageContext:
    """Writes the plan if there is none, and returns the context with the recipe that follows it."""
    run, recipe = context.run, context.recipe
    if run.read_json("pilot.json") is None:  # it was damaged
        run.write_record("pilot.json", diagnosis.diagnosis())
    plan = run.read_record("plan.json", Plan)
    if plan is None:
        plan = make_plan(recipe, diagnosis, context.train)
        run.write_record("plan.json", plan)
    return replace(context, recipe=planned(recipe, plan))


def write_gains(run: Run) -> None:
    """Writes predicted and obtained gains if the run has a pilot and RLVR from the base."""
    plan, diagnosis = run.read_record("plan.json", Plan), run.read_record("pilot.json", Diagnosis)
    results = run.read_record("results.json", Results)
    if plan is None or diagnosis is None or results is None:
        return
    if gains := compare_gains(plan, diagnosis, results):
        run.write_record("gains.json", gains)
