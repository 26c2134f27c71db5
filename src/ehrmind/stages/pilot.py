"""The pilot: k answers to training questions before any training. A stratum with no right answer, or hardly one by luck,
lacks the knowledge that RLVR could reinforce; one with more misapplies what it knows."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ehrmind.config import Recipe
from ehrmind.engines import Engine
from ehrmind.files import write_json
from ehrmind.rl.passk import pass_at_k
from ehrmind.runs import Run
from ehrmind.stages.progress import progress
from ehrmind.stages.rollout import outcome_metrics, render_prompts, sample_and_judge
from ehrmind.statistics import wilson
from ehrmind.types import Case, Group

LUCK = 0.05  # pass@1 that stays under this (upper end of its 95 % interval) is no knowledge


def pilot(run: Run, recipe: Recipe, engine: Engine, train: Sequence[Case]) -> dict[str, Any]:
    """Writes pilot.json and the rollouts; returns the diagnosis."""
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    questions = spread_over_strata([case for case in train if case.id in prompts], recipe.pilot.questions, recipe.seed)
    run.forget("pilot", 0)
    groups: list[Group] = []
    with progress("pilot", len(questions)) as ticker:
        at_once = max(1, recipe.sampler_rows // recipe.pilot.samples)
        for start in range(0, len(questions), at_once):
            groups += sample_and_judge(
                engine,
                recipe,
                questions[start : start + at_once],
                prompts,
                purpose="pilot",
                step=0,
                members=recipe.pilot.samples,
                decoding=recipe.decoding,
            )
            ticker.advance(min(at_once, len(questions) - start), outcome_metrics(groups))
    run.write_rollouts("pilot", "base", 0, groups)
    diagnosis = diagnose(groups, recipe.pilot.samples)
    write_json(run.path / "pilot.json", diagnosis)
    return diagnosis


def spread_over_strata(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """`count` cases, each stratum in turn giving one, which ones by a hash of seed and id."""
    by_stratum: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: hashlib.sha256(f"{seed}:pilot:{case.id}".encode()).digest()):
        by_stratum[case.stratum].append(case)
    columns = [by_stratum[stratum] for stratum in sorted(by_stratum)]
    deepest = max(map(len, columns), default=0)
    return [column[row] for row in range(deepest) for column in columns if row < len(column)][:count]


def diagnose(groups: Sequence[Group], samples: int) -> dict[str, Any]:
    by_stratum: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_stratum[group.case.stratum].append(group)
    return {
        "samples": samples,
        "overall": _figures(groups, samples),
        "by_stratum": {stratum: _figures(by_stratum[stratum], samples) for stratum in sorted(by_stratum)},
    }


def _figures(groups: Sequence[Group], samples: int) -> dict[str, Any]:
    """pass@1 over answers with Wilson's interval, pass@k over questions likewise (k = samples, so a question counts as 0 or 1)."""
    right = [sum(verdict.correct for verdict in group.verdicts) for group in groups]
    solved = round(float(pass_at_k(samples, right, samples).sum()))
    answers = samples * len(groups)
    means = outcome_metrics(groups)
    interval = wilson(sum(right), answers)
    return {
        "questions": len(groups),
        "answers": answers,
        "correct": sum(right),
        "pass@1": sum(right) / max(1, answers),
        "pass@1_ci95": list(interval),
        "pass@k": solved / max(1, len(groups)),
        "pass@k_ci95": list(wilson(solved, len(groups))),
        "format_rate": means["format_rate"],
        "truncated": means["truncated"],
        "missing": sum(right) == 0 or interval[1] < LUCK,
    }
