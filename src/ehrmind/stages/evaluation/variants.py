"""Comparison arms that train nothing but ask a model in another way, such as `base_open_book`.

few_shot      worked examples of the same stratum before the question, from train
no_thinking   the answer at once
open_book     the formula, the criteria one by one, or the deciding events with the question
tool          calculators and arithmetic may be called
majority      the commonest of n sampled answers (self-consistency, arXiv 2203.11171); of a tie
              the first sampled
best          the sampled answer whose tokens the model finds likeliest on average; no gold answer
              is used
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ehrmind import tasks
from ehrmind.config import VOTING, Recipe
from ehrmind.prompts.chat import PromptVariant, gold_response
from ehrmind.runs.records import RolloutRow
from ehrmind.stages.rollout import variant_of
from ehrmind.types import Case
from ehrmind.verify.judge import judge

VOTES = "votes"  # takes the place of a decoding


def scorings_of(variant_name: str, scorings: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns the (split, decoding) pairs that an arm is scored under. A variant is scored on the
    held-out cases only, a voting one once."""
    decodings = [decoding for where, decoding in scorings if where == "held_out" and decoding in ("greedy", "sampled")]
    if not variant_name:
        return list(scorings)
    return [("held_out", decoding) for decoding in (decodings[:1] if variant_name in VOTING else decodings)]


def variant_for(recipe: Recipe, variant_name: str, train: Sequence[Case] = ()) -> PromptVariant:
    """Returns how the questions of an arm are asked."""
    plain = variant_of(recipe)
    if variant_name == "few_shot":
        return replace(plain, shots=_shots(recipe, train))
    if variant_name == "no_thinking":
        return replace(plain, think=False)
    if variant_name == "open_book":
        book = [hint for hint in tasks.hint_causes() if hint not in ("entities", *plain.hints)]
        return replace(plain, hints=(*plain.hints, *book))
    return replace(plain, tool=True) if variant_name == "tool" else plain


def thinks(recipe: Recipe, arm: str) -> bool:
    return recipe.prompts.think and not arm.endswith("_no_thinking")


def _shots(recipe: Recipe, train: Sequence[Case]) -> dict[str, tuple[tuple[Case, str], ...]]:
    """Returns, by stratum, the first `evaluate.shots` cases, ordered by hash, whose worked answer
    the verifier accepts."""
    found: dict[str, list[tuple[Case, str]]] = defaultdict(list)
    for case in sorted(train, key=lambda case: hashlib.sha256(f"{recipe.seed}:shot:{case.id}".encode()).digest()):
        if len(found[case.stratum]) < recipe.evaluate.shots and (case.rationale or not recipe.prompts.think):
            answer = gold_response(case, recipe.prompts.think)
            if judge(case, answer, think=recipe.prompts.think).correct:
                found[case.stratum].append((case, answer))
    return {stratum: tuple(shots) for stratum, shots in found.items()}


def voted(rows: Sequence[RolloutRow], variant_name: str, cases: Mapping[str, Case], think: bool) -> list[RolloutRow]:
    """Chooses one row per case. It counts the tokens of all the case's samples."""
    by_case: dict[str, list[RolloutRow]] = defaultdict(list)
    for row in rows:
        by_case[row.case].append(row)
    choose = _commonest if variant_name == "majority" else _likeliest
    return [
        replace(choose(samples, cases[name], think), member=0, tokens=sum(row.tokens for row in samples))
        for name, samples in by_case.items()
    ]


def _commonest(samples: Sequence[RolloutRow], case: Case, think: bool) -> RolloutRow:
    """Chooses the commonest answer. A malformed answer casts no vote; if all are malformed, the
    first is chosen."""
    answers = [_same(judge(case, row.text, think=think).answer) if row.well_formed else None for row in samples]
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return samples[0]
    return samples[answers.index(votes.most_common(1)[0][0])]


def _same(answer: Any) -> Any:
    """Returns a hashable answer: 6 and 6.0 are equal, weeks and days are a pair."""
    return tuple(answer) if isinstance(answer, list) else answer


def _likeliest(samples: Sequence[RolloutRow], case: Case, think: bool) -> RolloutRow:
    del case, think
    return max(samples, key=lambda row: (row.well_formed, row.logprob / max(1, row.tokens)))
