"""RLVR: samples a group of answers to each question, judges them, and reinforces those that beat
the others of their group.

`rlvr` is the loop. `curriculum` chooses the questions, `rewards` turns verdicts into advantages,
`selection` chooses the weights to keep and when to stop, and `alarms` looks for what is wrong.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypedDict, cast

from ehrmind.config import Recipe
from ehrmind.engines import Engine, Learner, Proof
from ehrmind.runs import Run
from ehrmind.runs.records import RlvrFacts, rollout_rows
from ehrmind.stages.context import StageContext
from ehrmind.stages.progress import Ticker, progress
from ehrmind.stages.rlvr.alarms import Curves, alarms
from ehrmind.stages.rlvr.curriculum import Curriculum, left_out_of_mix, pilot_rows, pools_of
from ehrmind.stages.rlvr.extra_rewards import extra_metrics, load_rewards, with_extra_rewards
from ehrmind.stages.rlvr.rewards import class_weights, signal, with_advantages
from ehrmind.stages.rlvr.selection import out_of_patience, standard_error, tuning_accuracy
from ehrmind.stages.rollout import Request, outcome_metrics, render_prompts, sample_and_judge, variant_of
from ehrmind.types import Case, Group, Prompt

Rows = list[dict[str, float]]


class RlvrState(TypedDict):
    """How far the loop is, as the checkpoint's JSON has it: steps done, the best accuracy on tuning
    and its step, why the loop stopped early, and the proof of the saved model."""

    step: int
    best: float
    best_step: int
    stopped: str | None
    saved: Proof


def rlvr(context: StageContext, engine: Engine, arm: str) -> RlvrFacts:
    """Trains `engine` in place. The weights that did best on `tuning` become the arm's model.
    Resumes from its last checkpoint."""
    run, recipe, train = context.run, context.recipe, context.train
    settings, stage = recipe.rlvr, f"rlvr-{arm}"
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    asked = [case for case in train if case.id in prompts]
    # after a warm-up the pilot's pass rates hold no more
    seen = pilot_rows(run) if settings.curriculum == "pass_rate" and arm == "rlvr" else ()
    curriculum = Curriculum(recipe, asked, seen)
    weights = class_weights(asked) if settings.class_weights == "balanced" else {}
    extra = load_rewards(recipe.reward.extra)
    learner = engine.learner(settings, settings.steps, rlvr=settings, decoding=recipe.decoding)
    state, history = _resumed(run, stage, learner, curriculum)
    with progress(stage, settings.steps, state["step"]) as ticker:
        while state["step"] < settings.steps and state["stopped"] is None:
            step, started = state["step"], time.monotonic()
            groups, resampled = collect(context, engine, curriculum, prompts, arm, step)
            groups = with_advantages(with_extra_rewards(groups, extra), settings, weights)
            learned = learner.learn_from_groups(groups)
            rows = rollout_rows(stage, arm, step, groups)
            metrics = {**outcome_metrics(rows), **learned, **signal(groups, weights), **extra_metrics(groups, extra)}
            metrics["resampled_groups"] = resampled
            metrics["tokens_per_second"] = sum(row.tokens for row in rows) / (time.monotonic() - started)
            history.append(metrics)
            stop = _alarmed(context, stage, arm, step, history, ticker)
            last = stop is not None or step + 1 == settings.steps
            if last or (step + 1) % settings.tuning_every == 0:
                metrics["tuning_accuracy"] = tuning_accuracy(context, engine)
                if metrics["tuning_accuracy"] >= state["best"]:  # of equals the longer trained
                    state |= {
                        "best": metrics["tuning_accuracy"],
                        "best_step": step + 1,
                        "saved": run.keep_model(arm, engine.save),
                    }
                stop = stop or _exhausted(recipe, history, len(context.tuning))
            state |= {"step": step + 1, "stopped": stop}
            run.write_rollouts(stage, step, rows)
            run.log(stage, arm, step, metrics)
            if last or stop is not None or state["step"] % settings.checkpoint_every == 0:
                reached = {**state, "order": curriculum.state}
                run.keep_checkpoint(stage, state["step"], partial(learner.save, progress=reached))
            ticker.advance(1, metrics)
        if state["stopped"] is not None:
            ticker.say(f"stopped after {state['step']} of {settings.steps} steps: {state['stopped']}")
    error = standard_error(state["best"], len(context.tuning))
    return RlvrFacts(
        questions=len(asked),
        left_out_too_long=len(train) - len(asked),
        left_out_of_mix=left_out_of_mix(asked, settings.mix),
        asked=curriculum.state["asked"],
        asked_by_stratum=dict(sorted(curriculum.state["asked_by_stratum"].items())),
        in_train_by_stratum=dict(sorted(Counter(case.stratum for case in asked).items())),
        class_weights=weights,
        **state,
        best_standard_error=round(error, 4),
    )


def collect(
    context: StageContext, engine: Engine, curriculum: Curriculum, prompts: Mapping[str, Prompt], arm: str, step: int
) -> tuple[list[Group], int]:
    """Returns (judged groups, number of replaced groups). With dynamic sampling, groups whose
    outcomes are all equal are replaced by fresh questions of their family, for a set number of
    rounds. Groups that are still equal then stay."""
    recipe = context.recipe
    wanted, resampled = curriculum.shares(recipe.rlvr.questions_per_step), 0
    kept: list[Group] = []
    spare: list[Group] = []
    judged: list[Group] = []
    for _ in range(recipe.rlvr.dynamic_sampling + 1):
        cases = curriculum.draw(wanted, step, besides=[group.case for group in judged])
        request = Request(cases, prompts, f"rlvr-{arm}", recipe.rlvr.samples, recipe.decoding, variant_of(recipe))
        # a question met again in one step draws other numbers
        groups = sample_and_judge(context, engine, request, step=curriculum.asked)
        judged += groups
        kept += [group for group in groups if not group.all_equal]
        spare = [group for group in groups if group.all_equal]
        if not spare:
            break
        resampled += len(spare)
        wanted = Counter(curriculum.pool(group.case) for group in spare)
    curriculum.hear(judged, step)
    return kept + spare, resampled - len(spare)


def refuse_early(recipe: Recipe, train: Sequence[Case]) -> None:
    """Refuses RLVR settings that the data cannot satisfy, before other stages take hours. Raises
    InputError."""
    pools_of(train, recipe.rlvr.mix)
    if recipe.rlvr.class_weights == "balanced":
        class_weights(train)


def _resumed(run: Run, stage: str, learner: Learner, curriculum: Curriculum) -> tuple[RlvrState, Rows]:
    """Reads the newest whole checkpoint, or starts at the beginning. Also returns the metrics up to
    there."""
    checkpoint = run.latest_checkpoint(stage)
    state: RlvrState = {"step": 0, "best": -1.0, "best_step": 0, "stopped": None, "saved": {}}
    if checkpoint is not None:
        found = learner.resume(checkpoint)
        curriculum.state = found["order"]
        state |= cast(RlvrState, {key: found[key] for key in state if key in found})
    run.rollback(stage, state["step"])
    return state, [dict(row.values) for row in run.metrics() if row.stage == stage]


def _alarmed(context: StageContext, stage: str, arm: str, step: int, history: Rows, ticker: Ticker) -> str | None:
    """Writes and prints alarms that are new in this stage. Returns why to stop, if the recipe stops
    on an alarm."""
    run, recipe, reward = context.run, context.recipe, context.recipe.reward
    right = reward.correct + reward.correct_format
    worth = (right, reward.wrong, reward.malformed, reward.truncated)
    spread = max(worth) - min(worth) + max((row.get("extra_reward_range", 0.0) for row in history), default=0.0)
    curves = Curves(history, recipe.rlvr.questions_per_step, spread=spread, right=right - reward.wrong)
    known, raised = {row.alarm for row in run.alarms() if row.stage == stage}, alarms(curves)
    fresh = [name for name in raised if name not in known]
    for name in fresh:
        run.raise_alarm(stage, arm, step, name, raised[name])
        ticker.say(f"alarm {name} at step {step + 1}: {raised[name]}")
    return f"alarm {fresh[0]}" if fresh and recipe.rlvr.on_alarm == "stop" and step + 1 < recipe.rlvr.steps else None


def _exhausted(recipe: Recipe, history: Rows, cases: int) -> str | None:
    checks = [row["tuning_accuracy"] for row in history if "tuning_accuracy" in row]
    patience = recipe.rlvr.patience
    if len(history) >= recipe.rlvr.steps or not out_of_patience(checks, patience):
        return None
    error = 100 * standard_error(max(checks), cases)
    return (
        f"no better on tuning in {patience} checks, each of {cases} cases and so uncertain by {error:.1f} points"
        " (standard error)"
    )
