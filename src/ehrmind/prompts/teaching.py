"""Case -> what a teacher is asked, gold answer included; and its reply -> what a student may learn from.

The teacher sees the student's own prompt, so that what it writes keeps the same protocol. Told the answer, it is asked to reason as if it
were not; whether it did is for the verifier to say.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ehrmind import tasks
from ehrmind.prompts.chat import PromptVariant, messages
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, neutral, wrap
from ehrmind.types import Case, Message

_TASK = (
    "You write worked answers from which another model will learn. Below stands what that model is asked, and then the right answer, which "
    "it is not told."
)
_HOW = (
    "Write the reply that the other model should give, in the form that its question asks for. Reason from the record to the answer as "
    "someone who does not know it yet: say what in the record decides, with its values, then what follows from it, and come to the answer "
    "last. Never say or hint that an answer was given, known or expected."
)
_CONFIDENCE = "After the answer, on a line of its own, write `Confidence: N`, N from 0 to 100: how sure you are that the record leads to this answer."
_SURE = re.compile(r"\s*\W{0,3}confidence\W{1,5}(\d{1,3}(?:\.\d{1,3})?)\s{0,3}%?\W{0,3}\s*", re.IGNORECASE)


def teaching_messages(case: Case, variant: PromptVariant, *, confidence: bool) -> list[Message]:
    asked = "\n\n".join(turn.content for turn in messages(case, variant=variant))
    answer = f"The right answer:\n{neutral(tasks.of(case).gold_answer(case))}"
    return [
        Message(
            "user", "\n\n".join([_TASK, "The question:", asked, answer, _HOW, *([_CONFIDENCE] if confidence else [])])
        )
    ]


class Reply(NamedTuple):
    """`response` is what the judge sees: from the last thought on, for a teacher may think for itself first, and without the line of
    confidence, which is 0 to 1, or None where there is no such line."""

    response: str
    confidence: float | None


def read_reply(text: str) -> Reply:
    response = text[max(text.rfind(THINK_OPEN), 0) :].strip()
    head, close, tail = response.rpartition(ANSWER_CLOSE)
    sure = _SURE.fullmatch(tail) if close and len(tail) < 100 else None
    if sure is None:
        return Reply(response, None)
    value = float(sure[1])
    value = value if "." in sure[1] and value <= 1 else value / 100
    return Reply(head + close, value if value <= 1 else None)


def thinking_of(response: str) -> str:
    """The thought of a well-formed response."""
    return response.partition(THINK_OPEN)[2].partition(THINK_CLOSE)[0].strip()


def lesson(response: str) -> str:
    """A well-formed response as a student may learn it: nothing in its thought looks like a tag or a token of a chat template."""
    answer = response.rpartition(THINK_CLOSE)[2].strip()
    return wrap(neutral(thinking_of(response)), answer.removeprefix(ANSWER_OPEN).removesuffix(ANSWER_CLOSE))
