"""Selection on tuning: which weights are kept, and when more steps are of no use."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ehrmind.engines import Sampler
from ehrmind.stages.context import StageContext
from ehrmind.stages.rollout import Request, render_prompts, sample_and_judge, variant_of


def tuning_accuracy(context: StageContext, engine: Sampler) -> float:
    """The share of tuning cases answered right. Answers are greedy, so the only noise is which
    cases tuning holds."""
    recipe, tuning = context.recipe, context.tuning
    greedy = recipe.decoding.model_copy(update={"temperature": 0.0})
    prompts = render_prompts(engine, recipe, tuning, greedy)
    groups = sample_and_judge(context, engine, Request(tuning, prompts, "tuning", 1, greedy, variant_of(recipe)))
    return sum(verdict.correct for group in groups for verdict in group.verdicts) / max(1, len(groups))


def out_of_patience(checks: Sequence[float], patience: int | None) -> bool:
    """Tells whether the last `patience` checks brought no improvement. Each check is taken as the
    mean with the `patience` − 1 before it.

    A single check is noisy, and the best of several is too good by chance. Take a run that rises by
    half its noise per check: comparing single checks with the best ends more than half of such
    runs; comparing means ends one in seven (patience 3).
    """
    if patience is None:
        return False
    means = [sum(checks[end - patience : end]) / patience for end in range(patience, len(checks) + 1)]
    return len(means) > patience and max(means[-patience:]) <= max(means[:-patience])


def standard_error(accuracy: float, cases: int) -> float:
    """The standard error of one check, from the choice of the tuning cases."""
    return math.sqrt(max(accuracy * (1 - accuracy), 0.0) / max(1, cases))
