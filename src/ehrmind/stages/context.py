"""The context of a stage: what every stage takes, except the engine, which each stage opens
itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ehrmind import verify
from ehrmind.config import Recipe
from ehrmind.runs import Run
from ehrmind.types import Case, FinishReason, Verdict
from ehrmind.verify.reward import PAPER, RewardWeights


class Judge(Protocol):
    """Scores one answer, as `verify.judge` does."""

    def __call__(
        self,
        case: Case,
        text: str,
        *,
        finish_reason: FinishReason = "stop",
        think: bool = True,
        reward: RewardWeights = PAPER,
    ) -> Verdict: ...


@dataclass(frozen=True)
class StageContext:
    """The run folder, the recipe, the cases by split (`train`, `tuning`, `held_out`,
    `transfer-NAME`), and the judge of sampled answers."""

    run: Run
    recipe: Recipe
    splits: Mapping[str, Sequence[Case]]
    judge: Judge = verify.judge

    @property
    def train(self) -> Sequence[Case]:
        return self.splits["train"]

    @property
    def tuning(self) -> Sequence[Case]:
        return self.splits["tuning"]

    @property
    def transfer(self) -> dict[str, Sequence[Case]]:
        """Transfer sets by name, without the prefix."""
        return transfer_sets(self.splits)


def transfer_sets(splits: Mapping[str, Sequence[Case]]) -> dict[str, Sequence[Case]]:
    """Returns the transfer sets among the splits by name, without their prefix."""
    prefix = "transfer-"
    return {name.removeprefix(prefix): cases for name, cases in splits.items() if name.startswith(prefix)}
