"""Builds the question for a teacher, gold answer included, and reads what a student may learn from
its reply.

The teacher sees the student's own prompt, so it writes in the same protocol. It gets the answer but
is asked to reason as if it did not know it; the verifier checks whether it did.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ehrmind import tasks
from ehrmind.prompts.chat import PromptVariant, messages
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, neutral, wrap
from ehrmind.types import Case, Message

_TASK = (
    "You write worked answers from which another model will learn. Below stands what that model is asked, and then the "
    "right answer, which it is not told."
)
_HOW = (
    "Write the reply that the other model should give, in the form that its question asks for. Reason from the record "
    "to the answer as someone who does not know it yet: say what in the record decides, with its values, then what "
    "follows from it, and come to the answer last. Never say or hint that an answer was given, known or expected."
)
_CONFIDENCE = (
    "After the answer, on a line of its own, write `Confidence: N`, N from 0 to 100: how sure you are that the record "
    "leads to this answer."
)
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
    """A teacher's reply as the judge sees it.

    `response` starts at the last thought, because a teacher may think for itself first, and leaves
    out the line of confidence. `confidence` is 0 to 1, or None if there is no such line.
    """

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
    """Returns the thought of a well-formed response."""
    return response.partition(THINK_OPEN)[2].partition(THINK_CLOSE)[0].strip()


def lesson(response: str) -> str:
    """Turns a well-formed response into one that a student may learn: nothing in its thought looks
    like a tag or a template token."""
    answer = response.rpartition(THINK_CLOSE)[2].strip()
    return wrap(neutral(thinking_of(response)), answer.removeprefix(ANSWER_OPEN).removesuffix(ANSWER_CLOSE))
