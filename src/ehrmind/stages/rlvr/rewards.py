"""From verdicts to what a step learns: class weights, advantages, and how many groups have a signal
at all.

A verdict is what an answer is worth by itself, in training as in evaluation. What depends on the
other cases of train, such as how rare a label is, comes in here, between judging and learning, and
no evaluation passes by.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import torch

from ehrmind import tasks
from ehrmind.config import Rlvr
from ehrmind.rl.advantages import advantages
from ehrmind.types import Case, Group, InputError

ClassWeights = Mapping[str, Mapping[str, float]]


def class_weights(train: Sequence[Case]) -> dict[str, dict[str, float]]:
    """{family/task: {label: N / (K · N_label)}} over train's cases whose answers are labels, K
    labels occurring: 0.5 · N / N_label for two, as the release of arXiv 2505.24105 weights
    EHRSHOT's. Raises InputError where no answer is a label."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in train:
        if tasks.of(case).options(case):
            counts[_task(case)][_label(case)] += 1
    if not counts:
        raise InputError(
            "rlvr.class_weights=balanced needs answers that are labels, and train has none; set it to none."
        )
    return {
        task: {label: sum(found.values()) / (len(found) * found[label]) for label in sorted(found)}
        for task, found in sorted(counts.items())
    }


def weight_of(case: Case, weights: ClassWeights) -> float:
    return weights.get(_task(case), {}).get(_label(case), 1.0) if weights else 1.0


def training_rewards(group: Group, weights: ClassWeights) -> list[float]:
    """The verdicts' rewards, their outcome part times the weight of the case's label."""
    weight = weight_of(group.case, weights)
    return [verdict.reward + (weight - 1.0) * verdict.parts["outcome"] for verdict in group.verdicts]


def with_advantages(groups: Sequence[Group], settings: Rlvr, weights: ClassWeights) -> list[Group]:
    return [_with_advantages(group, settings, weights) for group in groups]


def _with_advantages(group: Group, settings: Rlvr, weights: ClassWeights) -> Group:
    rewards_PG = torch.tensor([training_rewards(group, weights)])
    valid_PG = torch.tensor(
        [[not (settings.mask_truncated and c.finish_reason == "length") for c in group.completions]]
    )
    return dataclasses.replace(
        group, advantages=tuple(advantages(rewards_PG, settings.advantage, valid_PG)[0].tolist())
    )


def signal(groups: Sequence[Group], weights: ClassWeights) -> dict[str, float]:
    """How many groups teach nothing, and how many teach at most the format; with class weights the
    mean of what is learned from."""
    found: dict[str, float] = {
        "zero_advantage_groups": sum(not any(group.advantages) for group in groups),
        "all_equal_groups": sum(group.all_equal for group in groups),
    }
    if weights:
        rewards = [reward for group in groups for reward in training_rewards(group, weights)]
        found["weighted_reward"] = sum(rewards) / max(1, len(rewards))
    return found


def _task(case: Case) -> str:
    return f"{case.family}/{case.task}"


def _label(case: Case) -> str:
    return str(case.truth["labels"][case.truth["value"]]) if "labels" in case.truth else ""
