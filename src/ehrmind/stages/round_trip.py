"""Round trip of right answers: a check before anything is asked that they survive the model's
tokenizer and chat template.

If an answer loses marks on the way back to the judge, the model would be scored by, and would learn
from, a text that it did not write. The check opens no weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ehrmind.config import Recipe, split_arm
from ehrmind.prompts import gold_response, messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.stages.evaluation.variants import variant_for
from ehrmind.types import Case, InputError, Prompt
from ehrmind.verify.judge import judge

if TYPE_CHECKING:
    from ehrmind.engines.local.chat.conversation import Chat

ENOUGH = 12  # cases, each of another stratum as far as they go
REPLY = "41.5 kg/m²"  # of a tool


def refuse_lost_answers(folder: Path, recipe: Recipe, train: Sequence[Case]) -> None:
    """Tries every prompt variant of the recipe's arms. Raises InputError."""
    from ehrmind.engines.local.saving.hf_export import chat_of

    chat = chat_of(folder, recipe.model.template, recipe.model.date)
    ways = dict.fromkeys(split_arm(arm)[1] for arm in ("base", *recipe.arms))
    refuse_lost(chat, folder.name, [variant_for(recipe, way, train) for way in ways], train)


def refuse_lost(chat: Chat, name: str, variants: Sequence[PromptVariant], cases: Sequence[Case]) -> None:
    for variant in variants:
        for case in _some(cases):
            gold = gold_response(case, variant.think)
            if judge(case, gold, think=variant.think).correct:
                _refuse(chat, name, variant, case, gold)


def _some(cases: Sequence[Case]) -> list[Case]:
    first: dict[str, Case] = {}
    for case in cases:
        if case.is_answered:
            first.setdefault(case.stratum, case)
    return list(first.values())[:ENOUGH]


def _refuse(chat: Chat, name: str, variant: PromptVariant, case: Case, gold: str) -> None:
    for prompt in _prompts(chat, variant, case):
        written = chat.response_tokens(gold, prompt)
        ends = [token for token in written if token in chat.stop_ids]
        said = prompt.opening + chat.decode(written)
        verdict = judge(case, said, think=variant.think)
        if verdict.correct and ends == [written[-1]]:
            continue
        if len(ends) > 1:
            token = str(chat.tokenizer.convert_ids_to_tokens(ends[0]))
            raise InputError(
                f"{name} ends an answer at the token {token!r}, which stands inside right answers; take its id"
                f" {ends[0]} out of eos_token_id in config.json and generation_config.json, or name another eos_token."
            )
        how = "without a thought" if not variant.think else "with its thought"
        raise InputError(
            f"The tokenizer or chat template of {name} does not keep a right answer {how} ({verdict.reason}), such as"
            f" that of {case.place}; use a tokenizer that gives back JSON and tags as they are written, and a template"
            " that adds nothing to them."
        )


def _prompts(chat: Chat, variant: PromptVariant, case: Case) -> Iterator[Prompt]:
    """Renders the question's prompt and, if a tool may be called, the prompt after its reply."""
    for shots in {bool(variant.shots): variant, False: replace(variant, shots={})}.values():
        prompt = chat.prompt(messages(case, variant=shots))
        yield prompt
        if variant.tool:
            turn = chat.tool_turn(REPLY, thinks=prompt.thinks)
            yield Prompt((*prompt.token_ids, *turn.token_ids), turn.opening, turn.thinks)
