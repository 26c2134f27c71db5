"""Weights of the reward. A reward is the sum of two named parts, `format` and `outcome`."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """Weights of a verdict's parts; the defaults are the paper's (arXiv 2505.24105): −2 / 0 / 1 +
    0.1.

    `truncated` is the format part of an answer cut at the token limit. A recipe can set it so that
    a truncated answer is not punished as a malformed one.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    malformed: float = -2.0
    truncated: float = -2.0
    wrong: float = 0.0
    correct: float = 1.0
    correct_format: float = 0.1


PAPER = RewardWeights()
