"""Case -> chat messages, and the gold response that a warm-up learns from.

One user message and no system turn, because some chat templates have none; the templates themselves are the
tokenizer's. The instruction is short on purpose: a tiny model reads it in every prompt. How a question is asked beyond
that (open book, with worked examples, with a tool) is an `Asking`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ehrmind import tasks
from ehrmind.prompts.protocol import TOOL_CLOSE, TOOL_OPEN, neutral, wrap
from ehrmind.types import Case, Message

_ASK_THINKING = "Answer the question about the record. Reason first, then answer with JSON, in exactly this form and nothing after it:"
_ASK_ANSWER = "Answer the question about the record with JSON, in exactly this form and nothing else:"
_OFFER_TOOL = (
    "Before you answer you may end your turn with a call, and the next turn brings the result. Calculators: "
    f'{TOOL_OPEN}{{"calculator": "body-mass-index", "inputs": {{"weight": "70 kg", "height": "170 cm"}}}}{TOOL_CLOSE}, '
    f'arithmetic: {TOOL_OPEN}{{"expression": "(12 + 3) / 2"}}{TOOL_CLOSE}'
)


@dataclass(frozen=True, slots=True)
class PromptVariant:
    """How a question is asked. `aids` are the task's (`tasks.*.aids`); an aid that a case has not got is left out. `shots` are worked
    examples by stratum: earlier questions with their answers."""

    think: bool = True
    hints: tuple[str, ...] = ()
    tool: bool = False
    shots: Mapping[str, tuple[tuple[Case, str], ...]] = field(default_factory=dict)


def messages(case: Case, think: bool = True, *, variant: PromptVariant | None = None) -> list[Message]:
    """The prompt of a case: instruction with a valid example of the answer's form, record, aids, question; worked examples before it."""
    variant = variant or PromptVariant(think)
    shots = variant.shots.get(case.stratum, ())
    turns = [message for shot, answer in shots for message in (_question(shot, variant), Message("assistant", answer))]
    return [*turns, _question(case, variant)]


def asks_for_thinking(turns: Sequence[Message]) -> bool:
    """Tells whether the question that `messages` wrote asks to think first. Any other text counts
    as asking."""
    return not any(turn.role == "user" and turn.content.startswith(_ASK_ANSWER) for turn in turns)


def _question(case: Case, variant: PromptVariant) -> Message:
    task = tasks.of(case)
    form = wrap("your reasoning" if variant.think else None, neutral(task.answer_example(case)))
    known = task.hints(case) if variant.hints else {}
    given = "".join(f"\n\n{neutral(known[hint])}" for hint in variant.hints if hint in known)
    offer = f"{_OFFER_TOOL}\n\n" if variant.tool else ""
    question = f"{neutral(task.record(case))}{given}\n\nQuestion: {neutral(task.question(case))}"
    return Message("user", f"{_ASK_THINKING if variant.think else _ASK_ANSWER}\n{form}\n\n{offer}{question}")


def gold_response(case: Case, think: bool = True) -> str:
    """What a perfect answer looks like: the source's rationale as the thought (a minimal one where it has none), the truth as JSON."""
    answer = tasks.of(case).gold_answer(case)
    if not think:
        return wrap(None, answer)
    thought = (case.rationale or "").strip() or f"The answer is {json.loads(answer)['answer']}."
    return wrap(neutral(thought), answer)
