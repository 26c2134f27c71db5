"""Case -> prompt -> completions -> verdicts: what every stage does with a question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ehrmind import tasks
from ehrmind.config import Decoding, Recipe
from ehrmind.engines import Engine
from ehrmind.engines.tools import sample_with_tool
from ehrmind.engines.uniforms import question_key
from ehrmind.prompts import messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN
from ehrmind.runs import Row, Run, rollout_rows
from ehrmind.stages.progress import progress
from ehrmind.stages.prompt_limit import how_to_fit, prompt_limit
from ehrmind.stages.tool import calculator_tool
from ehrmind.types import Case, Completion, Group, InputError, Prompt, Segment, Verdict
from ehrmind.verify.judge import judge

PROMPT_TOO_LONG = "prompt too long"


def variant_of(recipe: Recipe) -> PromptVariant:
    """How the recipe asks a question."""
    return PromptVariant(recipe.prompts.think, tuple(recipe.prompts.hints), recipe.prompts.tool)


def render_prompts(
    engine: Engine, recipe: Recipe, cases: Sequence[Case], decoding: Decoding, variant: PromptVariant | None = None
) -> dict[str, Prompt]:
    """Prompts by case id, asked as the recipe asks unless told otherwise. One over the limit is refused, or left out where the recipe
    says so: then it has no entry."""
    limit = prompt_limit(recipe.prompts, decoding, engine.context)
    variant = variant or variant_of(recipe)
    prompts = {case.id: _fitted(engine, case, variant, limit) for case in cases}
    too_long = [case for case in cases if len(prompts[case.id].token_ids) > limit]
    if too_long and recipe.prompts.too_long == "refuse":
        lengths = [len(prompts[case.id].token_ids) for case in too_long]
        remedy = how_to_fit(recipe.prompts, decoding, engine.context, max(lengths))
        raise InputError(
            f"{len(too_long)} of {len(cases)} prompts are longer than {limit} tokens, such as that of {too_long[0].place} ({lengths[0]}; "
            f"the longest has {max(lengths)}); {remedy}, or set prompts.too_long=leave_out."
        )
    return {name: prompt for name, prompt in prompts.items() if len(prompt.token_ids) <= limit}


def _fitted(engine: Engine, case: Case, variant: PromptVariant, limit: int) -> Prompt:
    """With as many of the worked examples as fit."""
    shots = variant.shots.get(case.stratum, ())
    for count in range(len(shots), 0, -1):
        prompt = engine.prompt(messages(case, variant=replace(variant, shots={case.stratum: shots[:count]})))
        if len(prompt.token_ids) <= limit:
            return prompt
    return engine.prompt(messages(case, variant=replace(variant, shots={})))


def sample_and_judge(
    engine: Engine,
    recipe: Recipe,
    cases: Sequence[Case],
    prompts: Mapping[str, Prompt],
    *,
    purpose: str,
    step: int,
    members: int,
    decoding: Decoding,
    variant: PromptVariant | None = None,
) -> list[Group]:
    """A judged group for each case. A case without a prompt was too long: it gets empty answers that are not well-formed."""
    variant = variant or variant_of(recipe)
    asked = [case for case in cases if case.id in prompts]
    keys = [question_key(recipe.seed, purpose, step, case.id) for case in asked]
    if variant.tool:
        answers = sample_with_tool(
            engine, [prompts[case.id] for case in asked], keys, members, decoding, calculator_tool
        )
    else:
        answers = engine.sample([prompts[case.id] for case in asked], keys, members, decoding)
    by_case = dict(zip((case.id for case in asked), answers, strict=True))
    groups = []
    for case in cases:
        if case.id in by_case:
            completions = by_case[case.id]
            verdicts = [
                judge(case, c.text, finish_reason=c.finish_reason, think=variant.think, reward=recipe.reward)
                for c in completions
            ]
            groups.append(Group(case, prompts[case.id], completions, verdicts))
        else:
            nothing = Completion((Segment("assistant", (), ()),), "error", "")
            reward = recipe.reward.malformed
            verdict = Verdict(False, reward, {"format": reward, "outcome": 0.0}, None, PROMPT_TOO_LONG, False)
            groups.append(Group(case, Prompt(()), [nothing] * members, [verdict] * members))
    return groups


def answer_all(
    run: Run,
    engine: Engine,
    recipe: Recipe,
    stage: str,
    arm: str,
    cases: Sequence[Case],
    prompts: Mapping[str, Prompt],
    *,
    purpose: str,
    members: int,
    decoding: Decoding,
    likelihoods: bool = False,
    variant: PromptVariant | None = None,
) -> list[Row]:
    """Answers of a frozen model to all cases as rollout rows. Every batch is written before the next one starts, its number as the
    step, so that an interrupted stage goes on where it was. `likelihoods` adds the probabilities of all labels,
    where answers are labels."""
    at_once = max(1, recipe.sampler_rows * recipe.shards // members)  # every shard has its rows full
    written = run.rollout_steps(stage)
    rows: list[Row] = run.read_rollouts(stage).to_dicts() if written else []
    with progress(stage, len(cases), len(rows) // members) as ticker:
        for step, start in enumerate(range(0, len(cases), at_once)):
            if step in written:
                continue
            batch = cases[start : start + at_once]
            groups = sample_and_judge(
                engine,
                recipe,
                batch,
                prompts,
                purpose=purpose,
                step=0,
                members=members,
                decoding=decoding,
                variant=variant,
            )
            fresh = rollout_rows(stage, arm, step, groups)
            if likelihoods:
                for row, shares in zip(fresh, answer_probabilities(engine, groups), strict=True):
                    row["probabilities"] = shares
            run.write_rollouts(stage, step, fresh)
            rows += fresh
            ticker.advance(len(batch), outcome_metrics(rows))
    return rows


def answer_probabilities(engine: Engine, groups: Sequence[Group]) -> list[list[float] | None]:
    """For each answer, how likely the model finds every label in the place where its answer stands, after its own reasoning; they sum to
    1. None where answers are not labels, and where there is no answer block to look into."""
    asked: list[tuple[Prompt, str, tuple[str, ...]]] = []
    places: list[int | None] = []
    for group in groups:
        options = tuple(f"{option}{ANSWER_CLOSE}" for option in tasks.of(group.case).options(group.case))
        for completion in group.completions:
            begun, opened, _ = completion.text.rpartition(ANSWER_OPEN)
            places.append(len(asked) if options and opened else None)
            if options and opened:
                earlier = (
                    token for part in completion.segments[:-1] for token in part.token_ids
                )  # a call of the tool, and its reply
                asked.append(
                    (replace(group.prompt, token_ids=(*group.prompt.token_ids, *earlier)), begun + opened, options)
                )
    found = engine.option_logprobs(asked) if asked else []
    return [None if place is None else _softmax(found[place]) for place in places]


def _softmax(logprobs: Sequence[float]) -> list[float]:
    highest = max(logprobs)
    weights = [math.exp(value - highest) for value in logprobs]
    return [weight / sum(weights) for weight in weights]


def outcome_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Means over all answers: reward, accuracy, format_rate, truncated, length (tokens)."""
    n = max(1, len(rows))
    return {
        "reward": sum(row["reward"] for row in rows) / n,
        "accuracy": sum(row["correct"] for row in rows) / n,
        "format_rate": sum(row["well_formed"] for row in rows) / n,
        "truncated": sum(row["finish_reason"] == "length" for row in rows) / n,
        "length": sum(row["tokens"] for row in rows) / n,
    }
