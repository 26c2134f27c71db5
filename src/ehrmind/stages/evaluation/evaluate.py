"""The evaluation: every arm answers the same held-out cases under the same decodings. `results` puts the arms side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.config import VOTING, Recipe, split_arm
from ehrmind.engines import Engine
from ehrmind.runs import Row, Run
from ehrmind.stages.evaluation.repeated import REPEATED
from ehrmind.stages.evaluation.samples import SAMPLES, with_labels
from ehrmind.stages.evaluation.variants import VOTES, variant_for, voted
from ehrmind.stages.rollout import answer_all, outcome_metrics, render_prompts
from ehrmind.types import Case, Prompt


def stage_of(arm: str, decoding: str, where: str = "held_out") -> str:
    """The name of scoring one arm: on the recipe's held-out cases, or elsewhere. `SAMPLES`,
    `REPEATED` and `VOTES` are decodings here."""
    if where != "held_out":
        return f"{where}-{arm}-{decoding}"
    return f"{decoding}-{arm}" if decoding in (SAMPLES, REPEATED, VOTES) else f"evaluate-{arm}-{decoding}"


def evaluate(
    run: Run,
    recipe: Recipe,
    engine: Engine,
    arm: str,
    decoding: str,
    held_out: Sequence[Case],
    where: str = "held_out",
    train: Sequence[Case] = (),
) -> dict[str, Any]:
    """Score one frozen arm once under one decoding; writes its rollouts and returns counts. Resumes after its last whole batch. The
    decoding `SAMPLES` gives further answers where answers are labels, which decide nothing but probabilities; `REPEATED` gives as many to
    every case as `evaluate.repeats` says."""
    model, variant_name = (arm, "") if arm in recipe.endpoints else split_arm(arm)
    stage, variant = stage_of(arm, decoding, where), variant_for(recipe, variant_name, train)
    how = recipe.decoding.model_copy(update={"temperature": 0.0}) if decoding == "greedy" else recipe.decoding
    several = {SAMPLES: ("samples", recipe.evaluate.samples), REPEATED: ("repeated", recipe.evaluate.repeats)}
    purpose, members = several.get(decoding, ("evaluate", 1))
    if decoding == SAMPLES:
        held_out = with_labels(held_out)
    likelihoods = recipe.evaluate.probabilities == "answer_tokens" and decoding != REPEATED
    prompts = render_prompts(engine, recipe, held_out, how, variant)
    if not run.rollout_steps(stage):
        run.count_scoring(arm, decoding if where == "held_out" else f"{decoding}, {where}", recipe.seed)
    if variant_name in VOTING:
        rows = _vote(run, recipe, engine, model, variant_name, held_out, prompts, stage)
    else:
        options: dict[str, Any] = {
            "purpose": purpose,
            "members": members,
            "decoding": how,
            "likelihoods": likelihoods,
            "variant": variant,
        }
        rows = answer_all(run, engine, recipe, stage, arm, held_out, prompts, **options)
    metrics = outcome_metrics(rows)
    run.rollback_metrics(stage, 0)
    run.log(stage, arm, 0, metrics)
    return {"held_out": len(held_out), "prompts_too_long": len(held_out) - len(prompts), **metrics}


def _vote(
    run: Run,
    recipe: Recipe,
    engine: Engine,
    model: str,
    variant_name: str,
    held_out: Sequence[Case],
    prompts: Mapping[str, Prompt],
    stage: str,
) -> list[Row]:
    """A row a case, chosen among samples that the voting arms of a model share."""
    drawn = stage_of(model, VOTES)
    options: dict[str, Any] = {"purpose": VOTES, "members": recipe.evaluate.votes, "decoding": recipe.decoding}
    samples = answer_all(run, engine, recipe, drawn, model, held_out, prompts, **options)
    rows = voted(samples, variant_name, {case.id: case for case in held_out}, recipe.prompts.think)
    run.write_rollouts(stage, 0, [{**row, "stage": stage, "arm": f"{model}_{variant_name}", "step": 0} for row in rows])
    return rows
