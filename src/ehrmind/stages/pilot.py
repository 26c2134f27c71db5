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
from ehrmind.runs import Row, Run
from ehrmind.stages.rollout import answer_all, outcome_metrics, render_prompts
from ehrmind.statistics import wilson
from ehrmind.types import Case

LUCK = 0.05  # pass@1 that stays under this (upper end of its 95 % interval) is no knowledge


def pilot(run: Run, recipe: Recipe, engine: Engine, train: Sequence[Case]) -> dict[str, Any]:
    """Writes the rollouts and pilot.json; returns the diagnosis. Resumes after its last whole batch."""
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    questions = spread_over_strata([case for case in train if case.id in prompts], recipe.pilot.questions, recipe.seed)
    k = recipe.pilot.samples
    rows = answer_all(run, engine, recipe, "pilot", "base", questions, prompts, purpose="pilot", members=k, decoding=recipe.decoding)
    diagnosis = diagnose(rows, k)
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


def diagnose(rows: Sequence[Row], samples: int) -> dict[str, Any]:
    by_stratum: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_stratum[row["stratum"]].append(row)
    return {
        "samples": samples,
        "overall": _figures(rows, samples),
        "by_stratum": {stratum: _figures(by_stratum[stratum], samples) for stratum in sorted(by_stratum)},
    }


def _figures(rows: Sequence[Row], samples: int) -> dict[str, Any]:
    """pass@1 over answers with Wilson's interval, pass@k over questions likewise (k = samples, so a question counts as 0 or 1)."""
    by_case: dict[str, int] = defaultdict(int)
    for row in rows:
        by_case[row["case"]] += row["correct"]
    right, answers = list(by_case.values()), len(rows)
    solved = round(float(pass_at_k(samples, right, samples).sum()))
    means = outcome_metrics(rows)
    interval = wilson(sum(right), answers)
    return {
        "questions": len(right),
        "answers": answers,
        "correct": sum(right),
        "pass@1": sum(right) / max(1, answers),
        "pass@1_ci95": list(interval),
        "pass@k": solved / max(1, len(right)),
        "pass@k_ci95": list(wilson(solved, len(right))),
        "format_rate": means["format_rate"],
        "truncated": means["truncated"],
        "missing": sum(right) == 0 or interval[1] < LUCK,
    }
