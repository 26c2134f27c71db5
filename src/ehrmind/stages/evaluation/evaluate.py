"""The evaluation: every arm answers the same held-out cases under the same decodings. `results`
puts the arms side by side."""

from __future__ import annotations

from dataclasses import replace

from ehrmind.config import VOTING, split_arm
from ehrmind.engines import Sampler
from ehrmind.runs.records import HELD_OUT, RolloutRow, ScoringFacts, StageKey
from ehrmind.stages.context import StageContext
from ehrmind.stages.evaluation.repeated import REPEATED
from ehrmind.stages.evaluation.samples import SAMPLES, with_labels
from ehrmind.stages.evaluation.variants import VOTES, variant_for, voted
from ehrmind.stages.rollout import Request, answer_all, outcome_metrics, render_prompts, variant_of


def evaluate(context: StageContext, engine: Sampler, arm: str, decoding: str, where: str = HELD_OUT) -> ScoringFacts:
    """Scores one frozen arm under one decoding on the split `where`, writes its rollouts, and
    returns counts.

    The decoding `SAMPLES` asks only cases whose answers are labels; it decides their probabilities
    and nothing else. `REPEATED` gives `evaluate.repeats` answers to every case. An interrupted
    scoring resumes after its last whole batch."""
    run, recipe, held_out = context.run, context.recipe, context.splits[where]
    model, variant_name = (arm, "") if arm in recipe.endpoints else split_arm(arm)
    stage, variant = str(StageKey.scoring(arm, decoding, where)), variant_for(recipe, variant_name, context.train)
    how = recipe.decoding.model_copy(update={"temperature": 0.0}) if decoding == "greedy" else recipe.decoding
    several = {SAMPLES: ("samples", recipe.evaluate.samples), REPEATED: ("repeated", recipe.evaluate.repeats)}
    purpose, group_size = several.get(decoding, ("evaluate", 1))
    if decoding == SAMPLES:
        held_out = with_labels(held_out)
    likelihoods = recipe.evaluate.probabilities == "answer_tokens" and decoding != REPEATED
    prompts = render_prompts(engine, recipe, held_out, how, variant)
    request = Request(held_out, prompts, purpose, group_size, how, variant)
    if not run.rollout_steps(stage):
        run.count_scoring(arm, decoding if where == HELD_OUT else f"{decoding}, {where}", recipe.seed)
    if variant_name in VOTING:
        rows = _vote(context, engine, request, model, variant_name, stage)
    else:
        rows = answer_all(context, engine, request, stage, arm, likelihoods=likelihoods)
    metrics = outcome_metrics(rows)
    run.rollback_metrics(stage, 0)
    run.log(stage, arm, 0, metrics)
    too_long = len(held_out) - len(prompts)
    return ScoringFacts(held_out=len(held_out), prompts_too_long=too_long, **metrics)


def _vote(
    context: StageContext, engine: Sampler, request: Request, model: str, variant_name: str, stage: str
) -> list[RolloutRow]:
    """Returns one row per case, chosen among samples that the voting arms of a model share."""
    recipe = context.recipe
    drawn = replace(
        request, purpose=VOTES, group_size=recipe.evaluate.votes, decoding=recipe.decoding, variant=variant_of(recipe)
    )
    samples = answer_all(context, engine, drawn, str(StageKey.scoring(model, VOTES)), model)
    chosen = voted(samples, variant_name, {case.id: case for case in request.cases}, recipe.prompts.think)
    rows = [replace(row, stage=stage, arm=f"{model}_{variant_name}", step=0) for row in chosen]
    context.run.write_rollouts(stage, 0, rows)
    return rows
