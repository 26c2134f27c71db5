"""The recipe's `reward`: what an outcome earns, and extra rewards of your own. This module imports
none of the functions it names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from ehrmind.config.section import Section
from ehrmind.verify.reward import RewardWeights

_FUNCTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_VERDICTS_OWN = ("format", "outcome")


class ExtraReward(Section):
    """A function of your own, `(case, completion, verdict) -> float`. A text in place of this
    section is the function, with weight 1.
    """

    function: str = Field(description="`module:function`, importable on every machine that trains; never a path")
    weight: float = Field(default=1.0, description="times the function's value is the reward's part")

    @model_validator(mode="before")
    @classmethod
    def a_text_is_the_function(cls, tree: Any) -> Any:
        return {"function": tree} if isinstance(tree, str) else tree

    @field_validator("function")
    @classmethod
    def it_can_be_imported_by_name(cls, function: str) -> str:
        if not _FUNCTION.fullmatch(function):
            raise ValueError("write module:function, such as my_package.rewards:brevity; files are not named by path")
        return function


def _free(name: str) -> str:
    if name in _VERDICTS_OWN or not _NAME.fullmatch(name):
        raise ValueError(
            "an extra reward needs a name of small letters, digits and _ that begins with a letter, and is neither"
            " format nor outcome"
        )
    return name


@dataclass(frozen=True, slots=True)
class Reward(RewardWeights):
    """Weights of outcomes, and extra rewards. The default weights are those of the paper (arXiv
    2505.24105): −2 / 0 / 1 + 0.1.
    """

    extra: Annotated[
        Mapping[Annotated[str, AfterValidator(_free)], ExtraReward],
        Field(
            description=(
                "rewards of your own by name, such as `{brevity: my_package.rewards:brevity}`. It names code that is"
                " run. They are added in RLVR's steps; evaluation never sees them"
            ),
            json_schema_extra={"default": {}},
        ),
    ] = field(default_factory=dict)

    @property
    def weights(self) -> RewardWeights:
        """The weights without the extra rewards."""
        return RewardWeights(**{part.name: getattr(self, part.name) for part in fields(RewardWeights)})
