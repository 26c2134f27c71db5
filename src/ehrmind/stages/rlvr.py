"""RLVR: sample a group of answers to each question, judge them, reinforce those that beat their siblings.

`rlvr` is the loop. What it needs besides is below it: the order of questions, refilling, advantages, selection on tuning.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ehrmind.config import Recipe
from ehrmind.engines import Engine, Learner
from ehrmind.rl.advantages import advantages
from ehrmind.runs import Run, rollout_rows
from ehrmind.stages.progress import progress
from ehrmind.stages.rollout import outcome_metrics, render_prompts, sample_and_judge
from ehrmind.types import Case, Group, InputError, Prompt


def rlvr(run: Run, recipe: Recipe, engine: Engine, arm: str, train: Sequence[Case], tuning: Sequence[Case]) -> dict[str, Any]:
    """Train `engine` in place; the weights that did best on `tuning` become the arm's model. Resumes from its last checkpoint."""
    settings, stage = recipe.rlvr, f"rlvr-{arm}"
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    questions = [case for case in train if case.id in prompts]
    learner = engine.learner(settings, settings.steps, rlvr=settings, decoding=recipe.decoding)
    state = _resumed(run, stage, learner)
    with progress(stage, settings.steps, state["step"]) as ticker:
        for step in range(state["step"], settings.steps):
            started = time.monotonic()
            groups, state["cursor"], refilled = _collect(engine, recipe, questions, prompts, arm, step, state["cursor"])
            groups = [_with_advantages(group, settings.advantage, masked=settings.mask_truncated) for group in groups]
            learned = learner.learn_from_groups(groups)
            rows = rollout_rows(stage, arm, step, groups)
            metrics = {**outcome_metrics(rows), **learned, **_signal(groups), "refilled_groups": refilled}
            metrics["tokens_per_second"] = sum(c.n_tokens for g in groups for c in g.completions) / (time.monotonic() - started)
            state["step"] = step + 1
            if state["step"] % settings.tuning_every == 0 or state["step"] == settings.steps:
                metrics["tuning_accuracy"] = _tuning_accuracy(engine, recipe, tuning)
                if metrics["tuning_accuracy"] >= state["best"]:  # of equals the longer trained
                    state |= {"best": metrics["tuning_accuracy"], "best_step": state["step"]}
                    engine.save(run.model(arm))
            run.write_rollouts(stage, step, rows)
            run.log(stage, arm, step, metrics)
            if state["step"] % settings.checkpoint_every == 0 or state["step"] == settings.steps:
                learner.save(run.new_checkpoint(stage, state["step"]), state)
            ticker.advance(1, metrics)
    return {"questions": len(questions), "left_out_too_long": len(train) - len(questions), **state}


def _resumed(run: Run, stage: str, learner: Learner) -> dict[str, Any]:
    """Where to go on: the newest whole checkpoint, or the beginning."""
    checkpoint = run.latest_checkpoint(stage)
    state = {"step": 0, "cursor": 0, "best": -1.0, "best_step": 0}
    if checkpoint is not None:
        state |= {key: value for key, value in learner.resume(checkpoint).items() if key in state}
    run.forget(stage, int(state["step"]))
    return state


def _collect(
    engine: Engine, recipe: Recipe, questions: Sequence[Case], prompts: Mapping[str, Prompt], arm: str, step: int, cursor: int
) -> tuple[list[Group], int, int]:
    """(judged groups, the next cursor, groups that were replaced). Where the recipe refills, groups whose outcomes are all equal
    make room for fresh questions, for a stated number of rounds; what is still equal then stays."""
    if not questions:
        raise InputError("No training question is left: every prompt is too long; raise prompts.max_tokens.")
    wanted, refilled = recipe.rlvr.questions_per_step, 0
    kept: list[Group] = []
    spare: list[Group] = []
    for _ in range(recipe.rlvr.refill + 1):
        count = wanted - len(kept)
        batch = [question for question, _ in zip(_order(questions, recipe.seed, cursor), range(count), strict=False)]
        cursor += count
        groups = sample_and_judge(
            engine,
            recipe,
            batch,
            prompts,
            purpose=f"rlvr-{arm}",
            step=cursor,  # a question met again in one step draws other numbers
            members=recipe.rlvr.samples,
            decoding=recipe.decoding,
        )
        kept += [group for group in groups if not group.all_equal]
        spare = [group for group in groups if group.all_equal]
        if not spare:
            break
        refilled += len(spare)
    return kept + spare, cursor, refilled - len(spare)


def _order(questions: Sequence[Case], seed: int, cursor: int) -> Iterator[Case]:
    """Every question once an epoch, each epoch in its own order, from the cursor on."""
    epoch, place = divmod(cursor, len(questions))
    while True:
        order = list(range(len(questions)))
        random.Random(f"{seed}:order:{epoch}").shuffle(order)
        yield from (questions[index] for index in order[place:])
        epoch, place = epoch + 1, 0


def _with_advantages(group: Group, kind: str, *, masked: bool) -> Group:
    rewards_PG = torch.tensor([[verdict.reward for verdict in group.verdicts]])
    valid_PG = torch.tensor([[not (masked and c.finish_reason == "length") for c in group.completions]])
    return dataclasses.replace(group, advantages=tuple(advantages(rewards_PG, kind, valid_PG)[0].tolist()))


def _signal(groups: Sequence[Group]) -> dict[str, float]:
    """How many groups teach nothing, and how many teach at most the format."""
    return {
        "zero_advantage_groups": sum(not any(group.advantages) for group in groups),
        "all_equal_groups": sum(group.all_equal for group in groups),
    }


def _tuning_accuracy(engine: Engine, recipe: Recipe, tuning: Sequence[Case]) -> float:
    greedy = recipe.decoding.model_copy(update={"temperature": 0.0})
    prompts = render_prompts(engine, recipe, tuning, greedy)
    groups = sample_and_judge(engine, recipe, tuning, prompts, purpose="tuning", step=0, members=1, decoding=greedy)
    return sum(verdict.correct for group in groups for verdict in group.verdicts) / max(1, len(groups))
