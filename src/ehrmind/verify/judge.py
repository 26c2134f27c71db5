"""Judges a text against a case. Any text gets a verdict, in time linear in its length; nothing in
it is executed.

Rewards (weights in `verify.reward`, by default the paper's):

- right: `correct` + `correct_format`
- well-formed and wrong: `wrong`
- malformed: `malformed`
- cut at the token limit and not well-formed: `truncated`, whatever else is wrong

A text that was already complete and well-formed when it hit the limit is judged like any other,
because nothing of its answer is missing.
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
    """Returns the verdict on a whole response (with the prompt's opening restored).

    Raises InputError only for a case of an unknown family or without a gold answer.
    """
    task = tasks.of(case)
    if not case.is_answered:
        raise InputError(
            f"The case {case.place} has no gold answer: it can be predicted (`ehrmind predict`), and neither learned "
            f"from nor scored."
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
    """Reads the answer of a new case without looking at a gold answer.

    Returns (answer, None), or (None, reason) if the text gives no answer of the form asked for.
    Never raises on a text.
    """
    given, unit, reason = parse(text, think)
    answer = None
    if reason is None:
        answer, reason = tasks.of(case).read(case, given, unit)
    if reason is None:
        return answer, None
    return None, reasons.TRUNCATED if finish_reason == "length" and reason not in reasons.WELL_FORMED else reason


def _shown(answer: Any) -> Any:
    """Makes a malformed answer fit for the records: short, finite, storable as UTF-8."""
    if type(answer) is str:
        return answer[:200].encode("utf-8", "replace").decode()
    if type(answer) is float:
        return answer if math.isfinite(answer) else None
    if type(answer) is list:
        return [item if type(item) is int else _shown(item) for item in answer[:8] if type(item) is not list]
    return answer if type(answer) in (bool, int) else None
