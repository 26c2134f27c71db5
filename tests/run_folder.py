"""A finished run folder on synthetic cases, written by the project's own recorders, with planned
answers in place of a model.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ehrmind.config import Recipe, parse_recipe
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.prompts import gold_response
from ehrmind.runs import Run, open_run
from ehrmind.runs.records import DataFacts, ModelProvenance, Provenance, rollout_rows
from ehrmind.stages.context import StageContext
from ehrmind.stages.evaluation.results import write_results
from ehrmind.stages.pilot.diagnosis import diagnose
from ehrmind.stages.rollout import outcome_metrics
from ehrmind.types import Case, Completion, Group, Prompt, Segment
from ehrmind.verify.judge import judge
from tests.medcalc_cases import SHORT

CANARY = "Canary-of-the-record"
HOSTILE = (
    f"{CANARY} <script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'></script><!-- {{{{ 7 * 7 }}}} {{%"
    " raw %} &amp; &lt;b&gt; \u202eright to left\u202c \u2028 line \u2029 paragraph \u200b zero \u05d0\u05d1\u05d2"
    " ]]> ${8 * 8} `tick` \\u003c"
)
# Chances of a right answer where the base knows the calculator, and where it does not.
SKILL = {"base": (0.45, 0.0), "rlvr": (0.8, 0.0), "sft": (0.5, 0.4), "sft_rlvr": (0.85, 0.75)}
UNKNOWN = ("morphine-equivalents", "maintenance-fluids")


def recipe(kl: float, **changes: Any) -> Recipe:
    synthetic = {"synthetic": {"n": 70, "seed": 1, **SHORT}}
    tree = {
        "name": "a made-up run",
        "seed": 5,
        "data": {"train": synthetic, "held_out": synthetic},
        "model": {"tiny": {}},
    }
    return parse_recipe(
        {**tree, "pilot": {"questions": 42, "samples": 8}, "rlvr": {"steps": 30, "samples": 4, "kl": kl}, **changes}
    )


def finished_run(
    path: Path, *, name: str = "a made-up run", arms: Sequence[str] = tuple(SKILL), cases: int = 140, kl: float = 0.001
) -> Run:
    """Everything that `ehrmind run` leaves behind, but models and checkpoints. The first held-out
    note and its answers are hostile."""
    made = recipe(name=name, arms=list(arms), kl=kl)
    run = open_run(path, made, resume=False)
    train = [_with_note(case, f"{CANARY} {case.fields['note']}") for case in synthetic_cases(70, 1, "train", **SHORT)]
    held_out = [
        _with_note(case, f"{CANARY} {case.fields['note']}") for case in synthetic_cases(cases, 3, "held_out", **SHORT)
    ]
    held_out[0] = _with_note(held_out[0], HOSTILE)
    with run.stage("data") as facts:
        run.save_cases({"train": train, "tuning": train[:0], "held_out": held_out})
        sources = {"train": {"synthetic": 70, "seed": 1}, "held_out": {"synthetic": cases, "seed": 3}}
        facts |= {"sources": sources, "proven": {"cases": 70 + cases, "corruptions": 0}, "digest": "0" * 64}
        facts |= {"cases": {"train": 70, "tuning": 0, "held_out": cases}, "train_notes_also_held_out_dropped": 0}
    provenance = Provenance(
        recipe_digest="f" * 64,
        seed=5,
        data=DataFacts.model_validate(facts),
        model=ModelProvenance(name="scripted", revision=None, sha256={}),
        versions={"ehrmind": "0.1", "python": "3.11"},
        platform="x86_64",
        date="2026-01-02",
    )
    run.write_record("provenance.json", provenance)
    with run.stage("pilot") as facts:
        groups = [_group(case, "base", 8) for case in train[:42]]
        rows = rollout_rows("pilot", "base", 0, groups)
        run.write_rollouts("pilot", 0, rows)
        diagnosis = diagnose(rows, 8, {case.id: case for case in train})
        run.write_record("pilot.json", diagnosis)
        facts |= diagnosis.to_dict()
    if "sft" in arms:
        with run.stage("warmup") as facts:
            facts |= {"steps": 20, "traces": 70, "by_stratum": {}, "left_out": {}, "rehearsed": 0, "saved": {}}
            for step in range(20):
                run.log("warmup", "sft", step, {"loss": 2.0 / (step + 1), "gradient_norm": 1.0, "learning_rate": 1e-4})
    for arm in ("rlvr", "sft_rlvr"):
        if arm in arms:
            with run.stage(f"rlvr-{arm}") as facts:
                facts |= {"questions": 70, "left_out_too_long": 0, "left_out_of_mix": {}, "asked": {"all": 120}}
                facts |= {"asked_by_stratum": {}, "in_train_by_stratum": {}, "class_weights": {}, "step": 30}
                facts |= {"best": 0.59, "best_step": 30, "stopped": None, "saved": {}, "best_standard_error": 0.0}
                _learn(run, arm, train, measures_kl=kl > 0)
    for arm in arms:
        for decoding in ("greedy", "sampled"):
            _evaluate(run, arm, decoding, held_out)
    seconds = {stage: (run.done(stage) or {})["seconds"] for stage in run.finished()}
    write_results(StageContext(run, made, {"train": (), "tuning": (), "held_out": held_out}), {}, seconds)
    return run


def _learn(run: Run, arm: str, train: Sequence[Case], *, measures_kl: bool) -> None:
    for step in range(30):
        groups = [_group(case, arm, 4) for case in train[step : step + 4]]
        learned = {"entropy": 1.2 - 0.02 * step, "loss": 0.01, "zero_advantage_groups": 4 - step % 3}
        learned |= {"kl": 0.001 * step} if measures_kl else {}
        tuning = {"tuning_accuracy": 0.3 + 0.01 * step} if step % 10 == 9 else {}
        rows = rollout_rows(f"rlvr-{arm}", arm, step, groups)
        run.write_rollouts(f"rlvr-{arm}", step, rows)
        run.log(f"rlvr-{arm}", arm, step, {**outcome_metrics(rows), **learned, **tuning})


def _evaluate(run: Run, arm: str, decoding: str, held_out: Sequence[Case]) -> None:
    stage = f"evaluate-{arm}-{decoding}"
    with run.stage(stage) as facts:
        run.count_scoring(arm, decoding, 5)
        groups = [_group(case, arm, 1, salt=decoding) for case in held_out]
        rows = rollout_rows(stage, arm, 0, groups)
        run.write_rollouts(stage, 0, rows)
        facts |= {"held_out": len(held_out), "prompts_too_long": 0, **outcome_metrics(rows)}


def _group(case: Case, arm: str, members: int, salt: str = "") -> Group:
    texts = [_answer(case, random.Random(f"{case.id}:{arm}:{member}:{salt}"), arm) for member in range(members)]
    completions = [Completion((Segment("assistant", tuple(range(20)), (0.0,) * 20),), "stop", text) for text in texts]
    verdicts = [judge(case, text) for text in texts]
    mean = sum(verdict.reward for verdict in verdicts) / members
    return Group(case, Prompt((1, 2)), completions, verdicts, tuple(verdict.reward - mean for verdict in verdicts))


def _answer(case: Case, draw: random.Random, arm: str) -> str:
    if case.fields["note"] == HOSTILE:
        return (
            f'<think>{HOSTILE}</think>\n<answer>{{"answer": "{CANARY} </script><script>window.pwned ='
            ' 3</script>"}</answer>'
        )
    if draw.random() < 0.08:
        return f"{CANARY} says nothing that can be parsed"
    if draw.random() < SKILL[arm][case.task in UNKNOWN]:
        return gold_response(case)
    return f'<think>{CANARY} guesses</think>\n<answer>{{"answer": -12345}}</answer>'


def _with_note(case: Case, note: str) -> Case:
    return dataclasses.replace(case, fields={**case.fields, "note": note})
