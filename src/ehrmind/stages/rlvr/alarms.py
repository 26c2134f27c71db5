"""Alarms of RLVR: what tends to be wrong when a curve looks like this. Pure functions of the
metrics so far.

A rule compares the mean of the last few steps with two earlier means of as many steps: the first of
the run, and those ten steps back. So it sees slow drifts and late ones. A change counts if it is
large and stands out of the noise from step to step. The noise comes from the differences of
neighbouring steps, which a trend hardly affects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

THRESHOLDS: Mapping[str, float] = {
    "window": 5,  # steps a mean is taken over: at 32 questions a step about 2 points of accuracy are then noise
    "back": 10,  # steps back to the later reference: a change that takes longer is seen against the first steps
    "noise_steps": 40,  # noise is that of the newest differences: it changes as a model learns
    "clear": 3.0,  # standard errors; two or more clear changes at once are needed where this is used
    "certain": 4.5,  # standard errors, where one change alone decides
    "not_rising": 1.0,  # standard errors that the share right may have risen and still be called flat
    "least_reward_gain": 0.02,  # of the distance between the best and the worst reward: less is no gain worth hacking
    "accuracy_lost": (
        0.2
    ),  # of the share right among the well-formed; less happens when hard questions become well-formed too
    "form_gain": 0.1,  # of the share well-formed, before it is said that form alone was learned
    "form_steps": 15,  # form is learned first in healthy runs; by then accuracy has begun to follow
    "earned_by_right": (
        0.05
    ),  # of the reward's gain; in the paper's reward, form alone at one answer in ten right makes it 0.05
    "entropy_left": 0.1,  # of the first entropy; learning alone left 0.3 and more of it in the demos
    "solved": 0.9,  # above this accuracy answers are alike because they are right
    "length_factor": (
        2.0
    ),  # twice or half the first length, unless accuracy came with it: longer thinking that helps is wanted
    "truncated_gain": 0.2,  # one answer in five more meets the token limit
    "jump": 6.0,  # standard errors off the line through the steps before
    "jump_size": 0.15,  # of the distance between the best and the worst reward
    "jump_steps": 8,  # through which that line goes
    "no_signal": 0.95,  # of the groups; the steps are then spent on one group in twenty
    "gap_factor": 5.0,  # times the first gap between sampler and learner
    "gap": 0.02,  # in nats a token; below it half-precision alone moves the gap
}


@dataclass(frozen=True)
class Curves:
    """The metrics of one stage so far, in step order, and their scale by the recipe."""

    rows: Sequence[Mapping[str, float]]
    groups: int
    spread: float  # between the best and the worst reward; for extra rewards, as far apart as they were in a step
    right: float  # what a right answer earns above a wrong one that is well-formed

    def of(self, name: str) -> list[float]:
        """Returns one number per step, NaN if there is none; empty if the metric does not exist."""
        values = [row.get(name, math.nan) for row in self.rows]
        return [] if all(math.isnan(value) for value in values) else values

    def reward_of_verdicts(self) -> list[float]:
        """The reward without the recipe's extra rewards."""
        return [row.get("reward", math.nan) - row.get("extra_reward", 0.0) for row in self.rows]

    def right_of_well_formed(self) -> list[float]:
        return [
            right / formed if formed > 0 else math.nan
            for right, formed in zip(self.of("accuracy"), self.of("format_rate"), strict=True)
        ]


class Move(NamedTuple):
    """A change from an earlier level to that of the last steps, with the standard error of the
    difference."""

    before: float
    after: float
    error: float

    @property
    def rise(self) -> float:
        return self.after - self.before

    @property
    def z(self) -> float:
        return self.rise / self.error


Rule = Callable[[Curves], str | None]


def alarms(curves: Curves) -> dict[str, str]:
    """Returns the alarms that the newest step raises, each with a sentence for the user."""
    return {name: said for name, rule in ALARMS.items() if (said := rule(curves)) is not None}


def reward_hack(curves: Curves) -> str | None:
    """The reward rises, the share right does not, and among the well-formed it falls."""
    moves = (_moves(series) for series in (curves.of("reward"), curves.of("accuracy"), curves.right_of_well_formed()))
    for reward, accuracy, among in zip(*moves, strict=False):
        gained = reward.z > THRESHOLDS["clear"] and reward.rise > THRESHOLDS["least_reward_gain"] * curves.spread
        lost = among.z < -THRESHOLDS["clear"] and among.after < (1 - THRESHOLDS["accuracy_lost"]) * among.before
        if gained and lost and accuracy.z < THRESHOLDS["not_rising"]:
            return (
                f"the reward rose from {reward.before:.2f} to {reward.after:.2f} while of the well-formed answers fewer"
                f" are right ({among.before:.0%}, then {among.after:.0%}): something earns without being right"
            )
    return None


def form_only(curves: Curves) -> str | None:
    """The reward and the share well-formed rise, and after many steps almost none of the gain is
    earned by being right."""
    if len(curves.rows) < THRESHOLDS["form_steps"]:
        return None
    series = (curves.reward_of_verdicts(), curves.of("format_rate"), curves.of("accuracy"))
    moves = (_moves(values)[:1] for values in series)
    for reward, formed, accuracy in zip(*moves, strict=False):
        gained = min(reward.z, formed.z) > THRESHOLDS["clear"] and formed.rise > THRESHOLDS["form_gain"]
        earned = curves.right * (accuracy.rise + 2 * accuracy.error)
        if gained and earned < THRESHOLDS["earned_by_right"] * reward.rise:
            return (
                f"the reward rose from {reward.before:.2f} to {reward.after:.2f} with the share well-formed"
                f" ({formed.before:.0%}, then {formed.after:.0%}), and next to nothing of that was earned by being"
                f" right ({accuracy.before:.0%}, then {accuracy.after:.0%}): so far only form was learned"
            )
    return None


def entropy_collapse(curves: Curves) -> str | None:
    """Answers hardly differ any more and are not right either: nothing is left to choose from."""
    accuracy = _recent(curves.of("accuracy"))
    for entropy in _moves(curves.of("entropy"))[:1]:
        fallen = entropy.after < THRESHOLDS["entropy_left"] * entropy.before and entropy.z < -THRESHOLDS["clear"]
        if fallen and not accuracy > THRESHOLDS["solved"]:
            return (
                f"entropy fell from {entropy.before:.3g} to {entropy.after:.3g} nats a token with {accuracy:.0%} right:"
                " answers hardly differ any more; raise rlvr.clip_high or rlvr.kl, or lower the learning rate"
            )
    return None


def length_drift(curves: Curves) -> str | None:
    """Answers grow or shrink, or meet the token limit, without being right more often."""
    for length, cut, accuracy in zip(
        *(_moves(curves.of(name))[:1] for name in ("length", "truncated", "accuracy")), strict=False
    ):
        factor = max(length.after, 1e-9) / max(length.before, 1e-9)
        drifted = max(factor, 1 / factor) > THRESHOLDS["length_factor"] and abs(length.z) > THRESHOLDS["certain"]
        limited = cut.rise > THRESHOLDS["truncated_gain"] and cut.z > THRESHOLDS["certain"]
        if (drifted or limited) and accuracy.z < THRESHOLDS["not_rising"]:
            return (
                f"answers went from {length.before:.0f} to {length.after:.0f} tokens and those cut at the limit from"
                f" {cut.before:.0%} to {cut.after:.0%}, without being right more often"
            )
    return None


def reward_jump(curves: Curves) -> str | None:
    """Two steps in a row are far off the line through those before."""
    rewards, steps = curves.of("reward"), int(THRESHOLDS["jump_steps"])
    if len(rewards) < steps + 2 or not all(map(math.isfinite, rewards)):
        return None
    before, (first, last) = rewards[-steps - 2 : -2], rewards[-2:]
    centre, mean = (steps - 1) / 2, sum(before) / steps
    squares = sum((place - centre) ** 2 for place in range(steps))
    slope = sum((place - centre) * value for place, value in enumerate(before)) / squares
    beyond = steps + 0.5 - centre  # the middle of the two steps
    foretold = mean + slope * beyond
    found = (first + last) / 2 - foretold
    error = _noise(rewards[:-2]) * math.sqrt(1 / 2 + 1 / steps + beyond**2 / squares)
    if abs(found) > max(THRESHOLDS["jump"] * error, THRESHOLDS["jump_size"] * curves.spread):
        return f"the reward jumped from about {foretold:.2f} to {(first + last) / 2:.2f} within two steps"
    return None


def no_signal(curves: Curves) -> str | None:
    """Hardly a group has an advantage, and not because the questions are solved."""
    share, right = _recent(curves.of("zero_advantage_groups")) / max(1, curves.groups), _recent(curves.of("accuracy"))
    if share > THRESHOLDS["no_signal"] and not right > THRESHOLDS["solved"]:
        return (
            f"in {share:.0%} of the groups all answers earn the same ({right:.0%} right), so that hardly anything is"
            " learned; rlvr.curriculum=pass_rate or rlvr.dynamic_sampling choose questions with a signal, a warm-up"
            " makes some"
        )
    return None


def train_inference_mismatch(curves: Curves) -> str | None:
    """The sampler and the learner drift apart in their log-probabilities."""
    for gap in _moves(curves.of("train_inference_mismatch"))[:1]:
        if gap.after > max(THRESHOLDS["gap_factor"] * gap.before, THRESHOLDS["gap"]):
            return (
                f"the sampler's log-probabilities are {gap.after:.3f} nats off the learner's, {gap.before:.3g} at first"
            )
    return None


ALARMS: Mapping[str, Rule] = {
    "reward_hack": reward_hack,
    "form_only": form_only,
    "entropy_collapse": entropy_collapse,
    "length_drift": length_drift,
    "reward_jump": reward_jump,
    "no_signal": no_signal,
    "train_inference_mismatch": train_inference_mismatch,
}


def _moves(values: Sequence[float]) -> list[Move]:
    """Changes since the first steps, and since some steps back; empty while there are too few."""
    window, back = int(THRESHOLDS["window"]), int(THRESHOLDS["back"])
    if len(values) < 2 * window:
        return []
    earlier = [values[:window], *([values[-window - back : -back]] if len(values) > window + back else [])]
    error = _noise(values) * math.sqrt(2 / window)
    return [Move(_mean(reference), _recent(values), error) for reference in earlier]


def _recent(values: Sequence[float]) -> float:
    """The mean of the last steps. While there are too few it is NaN, which no comparison finds
    large."""
    window = int(THRESHOLDS["window"])
    return _mean(values[-window:]) if len(values) >= window else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _noise(values: Sequence[float]) -> float:
    """Standard deviation of a step, from the differences of neighbours (von Neumann 1941)."""
    newest = values[-int(THRESHOLDS["noise_steps"]) - 1 :]
    differences = [later - sooner for sooner, later in pairwise(newest)]
    squares = _mean([difference**2 for difference in differences])
    return max(math.sqrt(squares / 2), 1e-6) if math.isfinite(squares) else math.nan
