"""The pilot: k answers to training questions before any training, and what they say: which strata are solid, misapplied or missing, and
where they fail (`interventions`)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ehrmind.config import Recipe
from ehrmind.engines import Engine
from ehrmind.runs import Run
from ehrmind.stages.pilot.diagnosis import diagnose
from ehrmind.stages.pilot.interventions import intervene
from ehrmind.stages.rollout import answer_all, render_prompts
from ehrmind.types import Case


def pilot(run: Run, recipe: Recipe, engine: Engine, train: Sequence[Case]) -> dict[str, Any]:
    """Writes the rollouts and pilot.json; returns the diagnosis. Resumes after its last whole batch."""
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    questions = spread_over_strata([case for case in train if case.id in prompts], recipe.pilot.questions, recipe.seed)
    k = recipe.pilot.samples
    rows = answer_all(
        run, engine, recipe, "pilot", "base", questions, prompts, purpose="pilot", members=k, decoding=recipe.decoding
    )
    diagnosis = diagnose(rows, k, {case.id: case for case in questions}, think=recipe.prompts.think, seed=recipe.seed)
    if recipe.pilot.interventions:
        intervene(run, recipe, engine, questions, rows, diagnosis)
    run.write_json("pilot.json", diagnosis)
    return diagnosis


def spread_over_strata(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """`count` cases, each stratum in turn giving one, which ones by a hash of seed and id."""
    by_stratum: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: hashlib.sha256(f"{seed}:pilot:{case.id}".encode()).digest()):
        by_stratum[case.stratum].append(case)
    columns = [by_stratum[stratum] for stratum in sorted(by_stratum)]
    deepest = max(map(len, columns), default=0)
    return [column[row] for row in range(deepest) for column in columns if row < len(column)][:count]
