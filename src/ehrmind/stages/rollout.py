"""Case -> prompt -> completions -> verdicts: the steps that every stage shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ehrmind import tasks
from ehrmind.config import Decoding, Recipe
from ehrmind.engines import Sampler
from ehrmind.engines.tools import sample_with_tool
from ehrmind.engines.uniforms import question_key
from ehrmind.prompts import messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN
from ehrmind.runs.records import RolloutRow, rollout_rows
from ehrmind.stages.context import StageContext
from ehrmind.stages.progress import progress
from ehrmind.stages.prompt_limit import how_to_fit, prompt_limit
from ehrmind.stages.tool import calculator_tool
from ehrmind.types import Case, Completion, Group, InputError, Prompt, Segment, Verdict

PROMPT_TOO_LONG = "prompt too long"


@dataclass(frozen=True)
class Request:
    """Cases to ask, and how. `prompts` are by case id. Random numbers are drawn from `purpose`."""

    cases: Sequence[Case]
    prompts: Mapping[str, Prompt]
    purpose: str
    group_size: int
    decoding: Decoding
    variant: PromptVariant


def variant_of(recipe: Recipe) -> PromptVariant:
    """The recipe's prompt variant."""
    return PromptVariant(recipe.prompts.think, tuple(recipe.prompts.hints), recipe.prompts.tool)


def render_prompts(
    engine: Sampler, recipe: Recipe, cases: Sequence[Case], decoding: Decoding, variant: PromptVariant | None = None
) -> dict[str, Prompt]:
    """Renders prompts by case id, in the recipe's variant unless another is given. A prompt over
    the limit is refused; it is left out if `prompts.too_long` says so."""
    limit = prompt_limit(recipe.prompts, decoding, engine.context)
    variant = variant or variant_of(recipe)
    prompts = {case.id: _fitted(engine, case, variant, limit) for case in cases}
    too_long = [case for case in cases if len(prompts[case.id].token_ids) > limit]
    if too_long and recipe.prompts.too_long == "refuse":
        lengths = [len(prompts[case.id].token_ids) for case in too_long]
        remedy = how_to_fit(recipe.prompts, decoding, engine.context, max(lengths))
        raise InputError(
            f"{len(too_long)} of {len(cases)} prompts are longer than {limit} tokens, such as that of"
            f" {too_long[0].place} ({lengths[0]}; the longest has {max(lengths)}); {remedy}, or set"
            " prompts.too_long=leave_out."
        )
    return {name: prompt for name, prompt in prompts.items() if len(prompt.token_ids) <= limit}


def _fitted(engine: Sampler, case: Case, variant: PromptVariant, limit: int) -> Prompt:
    """Renders a prompt with as many worked examples as fit."""
    shots = variant.shots.get(case.stratum, ())
    for count in range(len(shots), 0, -1):
        prompt = engine.prompt(messages(case, variant=replace(variant, shots={case.stratum: shots[:count]})))
        if len(prompt.token_ids) <= limit:
            return prompt
    return engine.prompt(messages(case, variant=replace(variant, shots={})))


def sample_and_judge(context: StageContext, engine: Sampler, request: Request, step: int = 0) -> list[Group]:
    """Returns a judged group for each case. A case without a prompt was too long: its answers are
    empty and malformed."""
    reward, variant, size = context.recipe.reward, request.variant, request.group_size
    asked = [case for case in request.cases if case.id in request.prompts]
    prompts = [request.prompts[case.id] for case in asked]
    keys = [question_key(context.recipe.seed, request.purpose, step, case.id) for case in asked]
    if variant.tool:
        answers = sample_with_tool(engine, prompts, keys, size, request.decoding, calculator_tool)
    else:
        answers = engine.sample(prompts, keys, size, request.decoding)
    by_case = dict(zip((case.id for case in asked), answers, strict=True))
    groups = []
    for case in request.cases:
        if case.id in by_case:
            completions = by_case[case.id]
            verdicts = [
                context.judge(case, c.text, finish_reason=c.finish_reason, think=variant.think, reward=reward)
                for c in completions
            ]
            groups.append(Group(case, request.prompts[case.id], completions, verdicts))
        else:
            nothing = Completion((Segment("assistant", (), ()),), "error", "")
            parts = {"format": reward.malformed, "outcome": 0.0}
            verdict = Verdict(False, reward.malformed, parts, None, PROMPT_TOO_LONG, False)
            groups.append(Group(case, Prompt(()), [nothing] * size, [verdict] * size))
    return groups


def answer_all(
    context: StageContext, engine: Sampler, request: Request, stage: str, arm: str, *, likelihoods: bool = False
) -> list[RolloutRow]:
    """Returns a frozen model's answers to all cases as rollout rows. `likelihoods` adds the
    probability of every label.

    Each batch is written, its number as the step, before the next starts. An interrupted stage
    resumes after its last whole batch.
    """
    run, recipe, size = context.run, context.recipe, request.group_size
    at_once = max(1, recipe.sampler_rows * recipe.shards // size)  # fills the rows of every shard
    written = run.rollout_steps(stage)
    rows = run.rollout_rows(stage) if written else []
    with progress(stage, len(request.cases), len(rows) // size) as ticker:
        for step, start in enumerate(range(0, len(request.cases), at_once)):
            if step in written:
                continue
            batch = request.cases[start : start + at_once]
            groups = sample_and_judge(context, engine, replace(request, cases=batch))
            fresh = rollout_rows(stage, arm, step, groups)
            if likelihoods:
                shares = answer_probabilities(engine, groups)
                fresh = [replace(row, probabilities=of) for row, of in zip(fresh, shares, strict=True)]
            run.write_rollouts(stage, step, fresh)
            rows += fresh
            ticker.advance(len(batch), outcome_metrics(rows))
    return rows


def answer_probabilities(engine: Sampler, groups: Sequence[Group]) -> list[list[float] | None]:
    """Returns for each answer how likely the model finds every label at the place of its answer,
    after its own reasoning; they sum to 1. None if answers are not labels, or if there is no answer
    block."""
    asked: list[tuple[Prompt, str, tuple[str, ...]]] = []
    places: list[int | None] = []
    for group in groups:
        options = tuple(f"{option}{ANSWER_CLOSE}" for option in tasks.of(group.case).options(group.case))
        for completion in group.completions:
            begun, opened, _ = completion.text.rpartition(ANSWER_OPEN)
            places.append(len(asked) if options and opened else None)
            if options and opened:
                # a call of the tool, and its reply
                earlier = (token for part in completion.segments[:-1] for token in part.token_ids)
                asked.append(
                    (replace(group.prompt, token_ids=(*group.prompt.token_ids, *earlier)), begun + opened, options)
                )
    found = engine.label_logprobs(asked) if asked else []
    return [None if place is None else _softmax(found[place]) for place in places]


def _softmax(logprobs: Sequence[float]) -> list[float]:
    highest = max(logprobs)
    weights = [math.exp(value - highest) for value in logprobs]
    return [weight / sum(weights) for weight in weights]


def outcome_metrics(rows: Sequence[RolloutRow]) -> dict[str, float]:
    """Means over all answers: reward, accuracy, format_rate, truncated, length (tokens)."""
    n = max(1, len(rows))
    return {
        "reward": sum(row.reward for row in rows) / n,
        "accuracy": sum(row.correct for row in rows) / n,
        "format_rate": sum(row.well_formed for row in rows) / n,
        "truncated": sum(row.finish_reason == "length" for row in rows) / n,
        "length": sum(row.tokens for row in rows) / n,
    }
