"""Case and text -> Verdict. Total: any text gets one, in time linear in its length, and nothing in it is executed.

What earns what (weights in `verify.reward`, the paper's by default): right is `correct` + `correct_format`;
well-formed and wrong is `wrong`; malformed is `malformed`. A text that was cut at the token limit and is not
well-formed is `truncated`, whatever else is wrong with it; one that happened to be complete and well-formed when
the limit came is judged like any other, because nothing of its answer is missing.
"""

from __future__ import annotations

import math
from typing import Any

from ehrmind import tasks
from ehrmind.parsing import reasons
from ehrmind.parsing.parse import parse
from ehrmind.types import Case, FinishReason, InputError, Verdict
from ehrmind.verify.reward import PAPER, RewardWeights


def judge(
    case: Case, text: str, *, finish_reason: FinishReason = "stop", think: bool = True, reward: RewardWeights = PAPER
) -> Verdict:
    """The verdict on a whole response (with the prompt's opening restored). Raises InputError only for a case of an unknown family, or
    one without a gold answer."""
    task = tasks.of(case)
    if not case.is_answered:
        raise InputError(
            f"The case {case.place} has no gold answer: it can be predicted (`ehrmind predict`), and neither learned from nor scored."
        )
    given, unit, reason = parse(text, think)
    answer = None
    if reason is None:
        answer, reason = task.check(case, given, unit)
        if answer is None:
            answer = _shown(given)
    if reason is None:
        parts = {"format": reward.correct_format, "outcome": reward.correct}
        return Verdict(True, reward.correct_format + reward.correct, parts, answer)
    if reason in reasons.WELL_FORMED:
        return Verdict(False, reward.wrong, {"format": 0.0, "outcome": reward.wrong}, answer, reason)
    if finish_reason == "length":
        return Verdict(
            False, reward.truncated, {"format": reward.truncated, "outcome": 0.0}, answer, reasons.TRUNCATED, False
        )
    return Verdict(False, reward.malformed, {"format": reward.malformed, "outcome": 0.0}, answer, reason, False)


def read(case: Case, text: str, *, finish_reason: FinishReason = "stop", think: bool = True) -> tuple[Any, str | None]:
    """(the answer that a whole response gives, None) or (None, the named reason why it gives none of the form asked for). Total, and no
    gold answer is looked at: this is how new cases are read."""
    given, unit, reason = parse(text, think)
    answer = None
    if reason is None:
        answer, reason = tasks.of(case).read(case, given, unit)
    if reason is None:
        return answer, None
    return None, reasons.TRUNCATED if finish_reason == "length" and reason not in reasons.WELL_FORMED else reason


def _shown(answer: Any) -> Any:
    """A malformed answer as the records may keep it: short, finite, storable as UTF-8."""
    if type(answer) is str:
        return answer[:200].encode("utf-8", "replace").decode()
    if type(answer) is float:
        return answer if math.isfinite(answer) else None
    if type(answer) is list:
        return [item if type(item) is int else _shown(item) for item in answer[:8] if type(item) is not list]
    return answer if type(answer) in (bool, int) else None
