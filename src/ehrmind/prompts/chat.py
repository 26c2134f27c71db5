"""Builds the chat messages of a case, and the gold response that a warm-up learns from.

A prompt is one user message without a system turn, because some chat templates have none. The
templates are the tokenizer's own. The instruction is short because a tiny model reads it in every
prompt. A `PromptVariant` says how a question is asked beyond that: open book, with worked examples,
with a tool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ehrmind import tasks
from ehrmind.prompts.protocol import TOOL_CLOSE, TOOL_OPEN, neutral, wrap
from ehrmind.types import Case, Message

_ASK_THINKING = (
    "Answer the question about the record. Reason first, then answer with JSON, in exactly this form and nothing after "
    "it:"
)
_ASK_ANSWER = "Answer the question about the record with JSON, in exactly this form and nothing else:"
_OFFER_TOOL = (
    "Before you answer you may end your turn with a call, and the next turn brings the result. Calculators: "
    f'{TOOL_OPEN}{{"calculator": "body-mass-index", "inputs": {{"weight": "70 kg", "height": "170 cm"}}}}{TOOL_CLOSE}, '
    f'arithmetic: {TOOL_OPEN}{{"expression": "(12 + 3) / 2"}}{TOOL_CLOSE}'
)


@dataclass(frozen=True, slots=True)
class PromptVariant:
    """How a question is asked.

    `hints` are the task's (`tasks.*.hints`); a hint that a case lacks is left out. `shots` are
    worked examples by stratum: earlier questions with their answers.
    """

    think: bool = True
    hints: tuple[str, ...] = ()
    tool: bool = False
    shots: Mapping[str, tuple[tuple[Case, str], ...]] = field(default_factory=dict)


def messages(case: Case, think: bool = True, *, variant: PromptVariant | None = None) -> list[Message]:
    """Builds the prompt of a case: worked examples, then instruction, record, hints and question.

    The instruction includes a valid example of the answer's form.
    """
    variant = variant or PromptVariant(think)
    shots = variant.shots.get(case.stratum, ())
    turns = [message for shot, answer in shots for message in (_question(shot, variant), Message("assistant", answer))]
    return [*turns, _question(case, variant)]


def asks_for_thinking(turns: Sequence[Message]) -> bool:
    """True if the question that `messages` wrote asks to think first. Any other text counts as
    asking."""
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
    """Writes a perfect answer: the source's rationale as the thought and the truth as JSON.

    Without a rationale the thought is minimal.
    """
    answer = tasks.of(case).gold_answer(case)
    if not think:
        return wrap(None, answer)
    thought = (case.rationale or "").strip() or f"The answer is {json.loads(answer)['answer']}."
    return wrap(neutral(thought), answer)
