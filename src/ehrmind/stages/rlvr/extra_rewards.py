"""Extra rewards: functions of the user's own that the recipe names under `reward.extra`.

They are added to the reward after judging and before the advantages, in RLVR's steps only.
`verify.judge`, the checks on tuning and the evaluation never see them.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import NamedTuple, cast

from ehrmind.config import ExtraReward
from ehrmind.types import Case, Completion, Group, InputError, Verdict
from ehrmind.world import current

RewardFunction = Callable[[Case, Completion, Verdict], object]  # a float, which is checked


class Loaded(NamedTuple):
    weight: float
    function: RewardFunction


def load_rewards(extra: Mapping[str, ExtraReward]) -> dict[str, Loaded]:
    """Imports the functions by name, in alphabetical order. Raises InputError for one that cannot
    be imported or called.
    """
    return {name: Loaded(extra[name].weight, _imported(name, extra[name].function)) for name in sorted(extra)}


def _imported(name: str, place: str) -> RewardFunction:
    module, _, attribute = place.partition(":")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # it is the user's module: anything may happen in it
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise InputError(
                f"reward.extra.{name} names the module {module}, which is not installed here; install it, or put the"
                " folder that holds it into PYTHONPATH, on every machine that trains."
            ) from None
        raise InputError(
            f"reward.extra.{name}: importing the module {module} fails with {type(error).__name__}; `python -c 'import"
            f" {module}'` shows where."
        ) from error
    function = getattr(found, attribute, None)
    if not callable(function):
        what = "has no" if function is None else "holds something that cannot be called as"
        raise InputError(f"reward.extra.{name}: the module {module} {what} {attribute}; define it as a function there.")
    return cast(RewardFunction, function)


def with_extra_rewards(groups: Sequence[Group], rewards: Mapping[str, Loaded]) -> list[Group]:
    """Groups whose verdicts have a part for each extra reward, summed into the reward.

    The first worker computes the parts for all, so that a function that does not always return the
    same cannot drive workers apart.
    """
    if not rewards:
        return list(groups)
    parts = iter(
        current().from_first(lambda: [_parts(rewards, *answer) for group in groups for answer in _answers(group)])
    )
    return [
        replace(group, verdicts=[_with_parts(verdict, next(parts)) for verdict in group.verdicts]) for group in groups
    ]


def _answers(group: Group) -> list[tuple[Case, Completion, Verdict]]:
    return [(group.case, *answer) for answer in zip(group.completions, group.verdicts, strict=True)]


def _parts(rewards: Mapping[str, Loaded], case: Case, completion: Completion, verdict: Verdict) -> dict[str, float]:
    """Raises InputError for a function that fails or returns no finite number; record text is not
    quoted.
    """
    parts: dict[str, float] = {}
    for name, (weight, function) in rewards.items():
        try:
            value = function(case, completion, verdict)
        except Exception as error:
            raise InputError(
                f"reward.extra.{name} failed with {type(error).__name__} on an answer to {case.place};"
                " EHRMIND_TRACEBACK=1 shows where."
            ) from error
        if not isinstance(value, Real) or not math.isfinite(part := weight * float(value)):
            raise InputError(
                f"reward.extra.{name} returned no finite number for an answer to {case.place} ({type(value).__name__});"
                " return a float."
            )
        parts[name] = part
    return parts


def _with_parts(verdict: Verdict, parts: Mapping[str, float]) -> Verdict:
    return replace(verdict, reward=verdict.reward + sum(parts.values()), parts={**verdict.parts, **parts})


def extra_metrics(groups: Sequence[Group], rewards: Mapping[str, Loaded]) -> dict[str, float]:
    """The mean part of each extra reward, the mean of their sum, and the distance between the
    largest and the smallest sum.
    """
    if not rewards:
        return {}
    parts = [[verdict.parts[name] for name in rewards] for group in groups for verdict in group.verdicts]
    sums = [sum(of_answer) for of_answer in parts]
    means = {
        f"reward_{name}": sum(values) / len(parts)
        for name, values in zip(rewards, zip(*parts, strict=True), strict=True)
    }
    return {**means, "extra_reward": sum(sums) / len(sums), "extra_reward_range": max(sums) - min(sums)}
