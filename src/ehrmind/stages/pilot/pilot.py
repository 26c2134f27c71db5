"""The pilot: k answers to training questions before any training. They show which strata are solid,
misapplied or missing, and where they fail (`interventions`)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from ehrmind.engines import Sampler
from ehrmind.runs.records import Diagnosis
from ehrmind.stages.context import StageContext
from ehrmind.stages.pilot.diagnosis import diagnose
from ehrmind.stages.pilot.interventions import intervene
from ehrmind.stages.rollout import Request, answer_all, render_prompts, variant_of
from ehrmind.types import Case


def pilot(context: StageContext, engine: Sampler) -> Diagnosis:
    """Writes the rollouts and pilot.json; returns the diagnosis. Resumes after its last whole
    batch."""
    recipe, train = context.recipe, context.train
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    questions = spread_over_strata([case for case in train if case.id in prompts], recipe.pilot.questions, recipe.seed)
    k = recipe.pilot.samples
    request = Request(questions, prompts, "pilot", k, recipe.decoding, variant_of(recipe))
    rows = answer_all(context, engine, request, "pilot", "base")
    diagnosis = diagnose(rows, k, {case.id: case for case in questions}, think=recipe.prompts.think, seed=recipe.seed)
    if recipe.pilot.interventions:
        diagnosis = intervene(context, engine, questions, rows, diagnosis)
    context.run.write_record("pilot.json", diagnosis)
    return diagnosis


def spread_over_strata(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """Chooses `count` cases. Each stratum in turn gives one, in an order by a hash of seed and
    id."""
    by_stratum: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: hashlib.sha256(f"{seed}:pilot:{case.id}".encode()).digest()):
        by_stratum[case.stratum].append(case)
    columns = [by_stratum[stratum] for stratum in sorted(by_stratum)]
    deepest = max(map(len, columns), default=0)
    return [column[row] for row in range(deepest) for column in columns if row < len(column)][:count]
