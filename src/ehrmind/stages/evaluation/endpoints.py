"""Models behind endpoints as further arms: the same held-out cases, prompts, decodings and verdicts as for the arms of the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ehrmind.config import Recipe
from ehrmind.engines import Engine
from ehrmind.engines.endpoint import EndpointClient, key_of
from ehrmind.engines.served import EndpointEngine
from ehrmind.runs import Run
from ehrmind.stages.evaluation.evaluate import evaluate, stage_of
from ehrmind.types import Case

ROUNDS_A_BATCH = (
    8  # rollouts are written, and progress is shown, after so many questions on each of the endpoint's lanes
)


def evaluate_endpoint(
    run: Run, recipe: Recipe, name: str, decoding: str, held_out: Sequence[Case], where: str = "held_out"
) -> dict[str, Any]:
    """As `evaluate`, and what it took: tokens, cost, and how many questions stayed unanswered, which count as malformed. Raises InputError
    where the recipe refuses such gaps."""
    settings, stage = recipe.endpoints[name], stage_of(name, decoding, where)
    client = EndpointClient(settings, f"endpoints.{name}", run.answers("endpoints", stage))
    engine = EndpointEngine(client, refuses_gaps=settings.unanswered == "refuse")
    adapted = recipe.model_copy(
        update={
            "prompts": recipe.prompts.model_copy(update={"tool": False}),  # it is asked one turn
            "evaluate": recipe.evaluate.model_copy(
                update={"probabilities": "samples"}
            ),  # it hands out none of its tokens
            "sampler_rows": min(recipe.sampler_rows, ROUNDS_A_BATCH * settings.concurrency),
            "shards": 1,
        }
    )
    facts = evaluate(
        run, adapted, cast(Engine, engine), name, decoding, held_out, where
    )  # of an engine it needs the sampling half only
    unanswered = run.read_rollouts(stage).filter(finish_reason="error").height
    return {**facts, "unanswered": unanswered, **client.facts()}


def check_endpoints(recipe: Recipe, stages: Sequence[str]) -> None:
    """Before anything starts: that what will be asked can be. Raises InputError."""
    if "warmup" in stages and recipe.teacher is not None:
        key_of(recipe.teacher, "teacher")
    for name, settings in recipe.endpoints.items() if "evaluate" in stages else ():
        key_of(settings, f"endpoints.{name}")


def spent(run: Run, name: str, decoding: str) -> dict[str, Any]:
    """For results.json, of scoring the held-out cases: model, answers, tokens, cost, unanswered."""
    facts = run.done(stage_of(name, decoding)) or {}
    return {
        key: facts[key]
        for key in ("model", "answers", "prompt_tokens", "completion_tokens", "cost", "unanswered")
        if key in facts
    }
