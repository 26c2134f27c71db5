"""The pipeline: every stage that a recipe asks for, in order. It skips finished stages and resumes
interrupted ones.

    data -> base model -> pilot -> warm-up (sft) -> RLVR from base (rlvr) and sft (sft_rlvr)
    -> evaluation of every arm -> results.json
"""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path

from ehrmind import verify
from ehrmind.config import Recipe
from ehrmind.runs import Run, open_run
from ehrmind.runs.lock import writes_into
from ehrmind.runs.records import PilotMark
from ehrmind.stages.context import Judge, StageContext
from ehrmind.stages.data import prepare_data
from ehrmind.stages.digests import digests
from ehrmind.stages.evaluation.all_arms import evaluate_arms, finish_evaluation
from ehrmind.stages.evaluation.endpoints import check_endpoints
from ehrmind.stages.memory_check import check_memory
from ehrmind.stages.models import (
    STARTS_FROM,
    Locate,
    OpenEngine,
    locate_base,
    model_folders,
    models_of,
    open_local,
    refuse_unusable,
    share_machine,
)
from ehrmind.stages.pilot.following import follow_plan
from ehrmind.stages.pilot.pilot import pilot
from ehrmind.stages.provenance import pin_run, refuse_changed_arms
from ehrmind.stages.rlvr.extra_rewards import load_rewards
from ehrmind.stages.rlvr.loop import refuse_early, rlvr
from ehrmind.stages.round_trip import refuse_lost_answers
from ehrmind.stages.warmup.warmup import warmup, warn_of_bare_answers
from ehrmind.tracking import write_tensorboard
from ehrmind.world import current

STAGES = ("pilot", "warmup", "rlvr", "evaluate")


@writes_into("out")
def run_pipeline(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    stages: tuple[str, ...] | None = None,
    open_engine: OpenEngine = open_local,
    locate: Locate = locate_base,
    judge: Judge = verify.judge,
    began: date | None = None,
) -> Run:
    """Runs `stages` of a recipe, by default all, into the folder `out`. A new run is pinned to the
    day `began`, by default today."""
    world, wanted, is_local = current(), stages or STAGES, open_engine is open_local
    share_machine(recipe.shards, recipe.threads)
    world.from_first(lambda: check_endpoints(recipe, wanted))
    if "rlvr" in wanted:
        load_rewards(recipe.reward.extra)  # by each worker, before there is a folder
    run = open_run(out, recipe, resume=resume)
    splits = prepare_data(run, recipe)
    if "rlvr" in wanted:
        refuse_early(recipe, splits["train"])
    if world.first and "warmup" in wanted and recipe.stages == "all" and {"sft", "sft_rlvr"} & models_of(recipe):
        warn_of_bare_answers(recipe, splits["train"])
    folders = model_folders(run, recipe, locate)
    base = folders["base"]
    if is_local:
        refuse_unusable(recipe, base)
    recipe = pin_run(run, recipe, base, began, wanted)
    if is_local:
        refuse_lost_answers(base, recipe, splits["train"])
        world.from_first(lambda: refuse_changed_arms(run, folders))
        check_memory(run, recipe, base, wanted)

    context = StageContext(run, recipe, splits, judge)
    diagnosis: PilotMark | None = None
    if "pilot" in wanted:
        if run.done("pilot") is None:
            with run.stage("pilot") as facts:
                facts |= pilot(context, open_engine(recipe, base)).to_dict()
        diagnosis = run.mark("pilot", PilotMark)
        assert diagnosis is not None, "its mark was written"
        context = follow_plan(context, diagnosis)
    recipe = context.recipe
    models = models_of(recipe)
    if "warmup" in wanted and {"sft", "sft_rlvr"} & models and run.done("warmup") is None:
        with run.stage("warmup") as facts:
            facts |= warmup(context, open_engine(recipe, base), diagnosis).to_dict()
            facts["model_sha256"] = world.from_first(partial(digests, folders["sft"]))
    for arm, start in STARTS_FROM.items():
        if "rlvr" in wanted and arm in models and run.done(f"rlvr-{arm}") is None:
            with run.stage(f"rlvr-{arm}") as facts:
                facts |= rlvr(context, open_engine(recipe, folders[start]), arm).to_dict()
                facts["model_sha256"] = world.from_first(partial(digests, folders[arm]))
    if "evaluate" in wanted:
        evaluate_arms(context, folders, open_engine)
        world.from_first(lambda: finish_evaluation(context))
    if recipe.tracking.tensorboard:
        world.from_first(lambda: write_tensorboard(run))
    return run
