"""Selection on tuning: which weights are kept, and when more steps are no use."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ehrmind.config import Recipe
from ehrmind.engines import Engine
from ehrmind.stages.rollout import render_prompts, sample_and_judge
from ehrmind.types import Case


def tuning_accuracy(engine: Engine, recipe: Recipe, tuning: Sequence[Case]) -> float:
    """The share of the tuning cases answered right, greedily, so that a check has no noise but that of which cases there are."""
    greedy = recipe.decoding.model_copy(update={"temperature": 0.0})
    prompts = render_prompts(engine, recipe, tuning, greedy)
    groups = sample_and_judge(engine, recipe, tuning, prompts, purpose="tuning", step=0, members=1, decoding=greedy)
    return sum(verdict.correct for group in groups for verdict in group.verdicts) / max(1, len(groups))


def out_of_patience(checks: Sequence[float], patience: int | None) -> bool:
    """Whether the last `patience` checks brought no improvement, each taken as the mean with the `patience` − 1 before it.

    A single check is noisy and the best of several too good by luck: a run that rises by half its noise a check would be ended in more than
    half of the cases if single checks were compared with the best, and in one of seven by their means (patience 3)."""
    if patience is None:
        return False
    means = [sum(checks[end - patience : end]) / patience for end in range(patience, len(checks) + 1)]
    return len(means) > patience and max(means[-patience:]) <= max(means[:-patience])


def standard_error(accuracy: float, cases: int) -> float:
    """Of one check: how far it may be from the truth by which cases tuning happens to have."""
    return math.sqrt(max(accuracy * (1 - accuracy), 0.0) / max(1, cases))
