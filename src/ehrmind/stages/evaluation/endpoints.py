"""Models behind endpoints as further arms: the same held-out cases, prompts, decodings and verdicts
as the recipe's own arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ehrmind.config import Recipe
from ehrmind.engines.endpoint import EndpointClient, key_of
from ehrmind.engines.served import EndpointEngine
from ehrmind.runs import Run
from ehrmind.runs.records import HELD_OUT, EndpointCost, ScoringFacts, ScoringMark, StageKey
from ehrmind.stages.context import StageContext
from ehrmind.stages.evaluation.evaluate import evaluate

ROUNDS_A_BATCH = 8  # questions on each of the endpoint's lanes before rollouts are written and progress is shown


def evaluate_endpoint(context: StageContext, name: str, decoding: str, where: str = HELD_OUT) -> ScoringFacts:
    """Scores an endpoint as `evaluate` does. The facts also have tokens, cost, and how many
    questions stayed unanswered; those count as malformed. Raises InputError where the recipe
    refuses such gaps."""
    run, recipe = context.run, context.recipe
    settings, stage = recipe.endpoints[name], str(StageKey.scoring(name, decoding, where))
    client = EndpointClient(settings, f"endpoints.{name}", run.answers("endpoints", stage))
    engine = EndpointEngine(client, refuses_gaps=settings.unanswered == "refuse")
    adapted = recipe.model_copy(
        update={
            "prompts": recipe.prompts.model_copy(update={"tool": False}),  # an endpoint is asked one turn
            "evaluate": recipe.evaluate.model_copy(
                update={"probabilities": "samples"}
            ),  # it gives no log-probabilities
            "sampler_rows": min(recipe.sampler_rows, ROUNDS_A_BATCH * settings.concurrency),
            "shards": 1,
        }
    )
    facts = evaluate(replace(context, recipe=adapted), engine, name, decoding, where)
    unanswered = sum(row.finish_reason == "error" for row in run.rollout_rows(stage))
    return facts.model_copy(update={"unanswered": unanswered, **client.facts()})


def check_endpoints(recipe: Recipe, stages: Sequence[str]) -> None:
    """Checks before anything starts that every endpoint can be asked. Raises InputError."""
    if "warmup" in stages and recipe.teacher is not None:
        key_of(recipe.teacher, "teacher")
    for name, settings in recipe.endpoints.items() if "evaluate" in stages else ():
        key_of(settings, f"endpoints.{name}")


def spent(run: Run, name: str, decoding: str) -> EndpointCost:
    """Returns what scoring the held-out cases took."""
    facts = run.mark(str(StageKey.scoring(name, decoding)), ScoringMark)
    return EndpointCost() if facts is None else EndpointCost(**facts.model_dump(include=set(EndpointCost.model_fields)))
