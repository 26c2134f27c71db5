"""Rewards of outcomes. A verdict's reward is the sum of two named parts, `format` and `outcome`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """Weights of a verdict's parts. The defaults are those of the paper (arXiv 2505.24105): −2 / 0
    / 1 + 0.1.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    malformed: Annotated[
        float, Field(description="no thinking or answer block, no JSON, or no value of the kind that is asked for")
    ] = -2.0
    truncated: Annotated[
        float, Field(description="cut off at the token limit; a recipe may choose not to teach it as malformed")
    ] = -2.0
    wrong: Annotated[float, Field(description="well-formed and not right")] = 0.0
    correct: Annotated[float, Field(description="right")] = 1.0
    correct_format: Annotated[float, Field(description="added to a right answer for its form")] = 0.1


PAPER = RewardWeights()
