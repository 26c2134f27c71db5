"""Case -> chat messages, and the gold response that a warm-up learns from.

One user message and no system turn, because some chat templates have none; the templates themselves are the
tokenizer's. The instruction is short on purpose: a tiny model reads it in every prompt.
"""

from __future__ import annotations

import json

from ehrmind import tasks
from ehrmind.prompts.protocol import neutral, wrap
from ehrmind.types import Case, Message

_ASK_THINKING = "Answer the question about the record. Reason first, then answer with JSON, in exactly this form and nothing after it:"
_ASK_ANSWER = "Answer the question about the record with JSON, in exactly this form and nothing else:"


def messages(case: Case, think: bool = True) -> list[Message]:
    """The prompt of a case: instruction with a valid example of the answer's form, record, question."""
    task = tasks.of(case)
    form = wrap("your reasoning" if think else None, task.answer_example(case))
    question = f"{neutral(task.record(case))}\n\nQuestion: {neutral(task.question(case))}"
    return [Message("user", f"{_ASK_THINKING if think else _ASK_ANSWER}\n{form}\n\n{question}")]


def gold_response(case: Case, think: bool = True) -> str:
    """What a perfect answer looks like: the source's rationale as the thought (a minimal one where it has none), the truth as JSON."""
    answer = tasks.of(case).gold_answer(case)
    if not think:
        return wrap(None, answer)
    thought = (case.rationale or "").strip() or f"The answer is {json.loads(answer)['answer']}."
    return wrap(neutral(thought), answer)
