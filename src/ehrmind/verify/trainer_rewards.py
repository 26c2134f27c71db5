"""Our verdict as a reward for other trainers: verl's `compute_score`, and a reward function for
TRL.

`ehrmind export verl` and `ehrmind export trl` write a Question next to every prompt. Both functions
here read it and hand the answer to `judge`, so no rule of the verifier is written twice. Every
scoring process imports this module, so it needs no torch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ehrmind.prompts.protocol import THINK_CLOSE, THINK_OPEN
from ehrmind.types import Case, FinishReason, InputError, Verdict
from ehrmind.verify.judge import judge
from ehrmind.verify.reward import RewardWeights


@dataclass(frozen=True, slots=True)
class Question:
    """A whole case, and how to judge its answers.

    `think`: whether a thought is asked for. `reward`: what an outcome earns. `opening`: what the
    chat template opens an answer with (`Prompt.opening`). `max_new_tokens`: the limit at which an
    answer is cut.
    """

    case: Case
    think: bool
    reward: RewardWeights
    opening: str
    max_new_tokens: int

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote. Raises InputError for anything else."""
        try:
            tree = json.loads(text)
            return cls(**{**tree, "case": Case(**tree["case"]), "reward": RewardWeights(**tree["reward"])})
        except (TypeError, ValueError, KeyError, RecursionError):
            raise InputError(
                "This row does not say how its answers are judged; export the data again with `ehrmind export verl` or "
                "`export trl`."
            ) from None

    def judge(self, text: str, finish_reason: FinishReason = "stop") -> Verdict:
        """Returns the verdict on the text that a model wrote after the prompt."""
        whole = self.opening + text
        return judge(self.case, whole, finish_reason=finish_reason, think=self.think, reward=self.reward)


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any] | None = None, **_: Any
) -> dict[str, float]:
    """Reward function for verl:
    `reward.custom_reward_function.path=pkg://ehrmind.verify.trainer_rewards`.

    `acc` is 1 if the answer is right. Validation reports it, and
    `algorithm.filter_groups.metric=acc` compares it. verl does not say whether an answer was cut,
    so a cut answer earns what a malformed one does.
    """
    verdict = Question.from_json(ground_truth).judge(solution_str)
    return {"score": verdict.reward, "acc": float(verdict.correct), "well_formed": float(verdict.well_formed)}


def ehrmind_reward(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    *,
    ehrmind: Sequence[str],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **_: Any,
) -> list[float]:
    """Reward function for TRL: `reward_funcs=ehrmind_reward`, or `--reward_funcs
    ehrmind.verify.trainer_rewards.ehrmind_reward`.

    Returns one reward per completion. `ehrmind` is the data set's column of Questions.
    `completion_ids` comes from TRL and shows which answers were cut.
    """
    ids = completion_ids if completion_ids is not None else [()] * len(completions)
    return [
        _judged(Question.from_json(text), completion, len(tokens)).reward
        for text, completion, tokens in zip(ehrmind, completions, ids, strict=True)
    ]


def _judged(question: Question, completion: Any, tokens: int) -> Verdict:
    cut: FinishReason = "length" if tokens >= question.max_new_tokens else "stop"
    if isinstance(completion, str):
        return question.judge(completion, cut)
    message = completion[-1]
    thought = message.get("reasoning_content") or message.get("thinking")
    if thought is None:
        return question.judge(message["content"], cut)
    whole = (
        # the tokenizer has taken the thought out of its tags
        f"{THINK_OPEN}{thought}{THINK_CLOSE}\n{message['content']}"
    )
    return dataclasses.replace(question, opening="").judge(whole, cut)
