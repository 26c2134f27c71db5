"""RLVR: sample a group of answers to each question, judge them, reinforce those that beat their siblings.

`rlvr` is the loop. Which questions it asks is in `questions`, what their answers earn in `rewards`, which weights are kept and when more
steps are no use in `selection`, and what looks wrong in `alarms`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ehrmind.config import Recipe
from ehrmind.engines import Engine, Learner
from ehrmind.runs import Run, rollout_rows
from ehrmind.stages.progress import Ticker, progress
from ehrmind.stages.rlvr.alarms import Curves, alarms
from ehrmind.stages.rlvr.curriculum import Curriculum, left_out_of_mix, pilot_rows, pools_of
from ehrmind.stages.rlvr.extra_rewards import extra_metrics, load_rewards, with_extra_rewards
from ehrmind.stages.rlvr.rewards import class_weights, signal, with_advantages
from ehrmind.stages.rlvr.selection import out_of_patience, standard_error, tuning_accuracy
from ehrmind.stages.rollout import outcome_metrics, render_prompts, sample_and_judge
from ehrmind.types import Case, Group, Prompt

Rows = list[dict[str, Any]]


def rlvr(
    run: Run, recipe: Recipe, engine: Engine, arm: str, train: Sequence[Case], tuning: Sequence[Case]
) -> dict[str, Any]:
    """Train `engine` in place; the weights that did best on `tuning` become the arm's model. Resumes from its last checkpoint."""
    settings, stage = recipe.rlvr, f"rlvr-{arm}"
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    asked = [case for case in train if case.id in prompts]
    seen = (
        pilot_rows(run) if settings.curriculum == "pass_rate" and arm == "rlvr" else ()
    )  # after a warm-up its rates hold no more
    curriculum = Curriculum(recipe, asked, seen)
    weights = class_weights(asked) if settings.class_weights == "balanced" else {}
    extra = load_rewards(recipe.reward.extra)
    learner = engine.learner(settings, settings.steps, rlvr=settings, decoding=recipe.decoding)
    state, history = _resumed(run, stage, learner, curriculum)
    with progress(stage, settings.steps, state["step"]) as ticker:
        while state["step"] < settings.steps and state["stopped"] is None:
            step, started = state["step"], time.monotonic()
            groups, resampled = collect(engine, recipe, curriculum, prompts, arm, step)
            groups = with_advantages(with_extra_rewards(groups, extra), settings, weights)
            learned = learner.learn_from_groups(groups)
            rows = rollout_rows(stage, arm, step, groups)
            metrics = {**outcome_metrics(rows), **learned, **signal(groups, weights), **extra_metrics(groups, extra)}
            metrics["resampled_groups"] = resampled
            metrics["tokens_per_second"] = sum(row["tokens"] for row in rows) / (time.monotonic() - started)
            history.append(metrics)
            stop = _alarmed(run, recipe, stage, arm, step, history, ticker)
            last = stop is not None or step + 1 == settings.steps
            if last or (step + 1) % settings.tuning_every == 0:
                metrics["tuning_accuracy"] = tuning_accuracy(engine, recipe, tuning)
                if metrics["tuning_accuracy"] >= state["best"]:  # of equals the longer trained
                    state |= {
                        "best": metrics["tuning_accuracy"],
                        "best_step": step + 1,
                        "saved": run.keep_model(arm, engine.save),
                    }
                stop = stop or _exhausted(recipe, history, len(tuning))
            state |= {"step": step + 1, "stopped": stop}
            run.write_rollouts(stage, step, rows)
            run.log(stage, arm, step, metrics)
            if last or stop is not None or state["step"] % settings.checkpoint_every == 0:
                reached = {**state, "order": curriculum.state}
                run.keep_checkpoint(stage, state["step"], partial(learner.save, progress=reached))
            ticker.advance(1, metrics)
        if state["stopped"] is not None:
            ticker.say(f"stopped after {state['step']} of {settings.steps} steps: {state['stopped']}")
    error = standard_error(state["best"], len(tuning))
    return {
        **_facts(recipe, curriculum, train, asked),
        "class_weights": weights,
        **state,
        "best_standard_error": round(error, 4),
    }


def collect(
    engine: Engine, recipe: Recipe, curriculum: Curriculum, prompts: Mapping[str, Prompt], arm: str, step: int
) -> tuple[list[Group], int]:
    """(judged groups, how many were replaced). Where the recipe refills, groups whose outcomes are all equal make room for fresh
    questions of their family, for a stated number of rounds; what is still equal then stays."""
    wanted, resampled = curriculum.shares(recipe.rlvr.questions_per_step), 0
    kept: list[Group] = []
    spare: list[Group] = []
    judged: list[Group] = []
    for _ in range(recipe.rlvr.dynamic_sampling + 1):
        groups = sample_and_judge(
            engine,
            recipe,
            curriculum.draw(wanted, step, besides=[group.case for group in judged]),
            prompts,
            purpose=f"rlvr-{arm}",
            step=curriculum.asked,  # a question met again in one step draws other numbers
            members=recipe.rlvr.samples,
            decoding=recipe.decoding,
        )
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
    """What the recipe asks of RLVR and its data do not have, said before hours are spent on other stages. Raises InputError."""
    pools_of(train, recipe.rlvr.mix)
    if recipe.rlvr.class_weights == "balanced":
        class_weights(train)


def _resumed(run: Run, stage: str, learner: Learner, curriculum: Curriculum) -> tuple[dict[str, Any], Rows]:
    """Where to go on, the newest whole checkpoint or the beginning, and the metrics up to there."""
    checkpoint = run.latest_checkpoint(stage)
    state: dict[str, Any] = {"step": 0, "best": -1.0, "best_step": 0, "stopped": None, "saved": {}}
    if checkpoint is not None:
        found = learner.resume(checkpoint)
        state |= {key: found[key] for key in state if key in found}
        curriculum.state = found["order"]
    run.rollback(stage, int(state["step"]))
    return state, [row for row in run.metrics() if row["stage"] == stage]


def _alarmed(run: Run, recipe: Recipe, stage: str, arm: str, step: int, history: Rows, ticker: Ticker) -> str | None:
    """Write and say the alarms that are new to this stage; why to stop, where the recipe stops on one."""
    reward = recipe.reward
    right = reward.correct + reward.correct_format
    worth = (right, reward.wrong, reward.malformed, reward.truncated)
    spread = max(worth) - min(worth) + max((row.get("extra_reward_range", 0.0) for row in history), default=0.0)
    curves = Curves(history, recipe.rlvr.questions_per_step, spread=spread, right=right - reward.wrong)
    known, raised = {row["alarm"] for row in run.alarms() if row["stage"] == stage}, alarms(curves)
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
    return f"no better on tuning in {patience} checks, each of {cases} cases and so uncertain by {error:.1f} points (standard error)"


def _facts(recipe: Recipe, curriculum: Curriculum, train: Sequence[Case], asked: Sequence[Case]) -> dict[str, Any]:
    """What the stage's mark says of the questions."""
    return {
        "questions": len(asked),
        "left_out_too_long": len(train) - len(asked),
        "left_out_of_mix": left_out_of_mix(asked, recipe.rlvr.mix),
        "asked": curriculum.state["asked"],
        "asked_by_stratum": dict(sorted(curriculum.state["asked_by_stratum"].items())),
        "in_train_by_stratum": dict(sorted(Counter(case.stratum for case in asked).items())),
    }
