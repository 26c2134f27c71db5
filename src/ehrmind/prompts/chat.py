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
class Asking:
    """How a question is asked. `aids` are the task's (`tasks.*.aids`); an aid that a case has not got is left out. `shots` are worked
    examples by stratum: earlier questions with their answers."""

    think: bool = True
    aids: tuple[str, ...] = ()
    tool: bool = False
    shots: Mapping[str, tuple[tuple[Case, str], ...]] = field(default_factory=dict)


def messages(case: Case, think: bool = True, *, asking: Asking | None = None) -> list[Message]:
    """The prompt of a case: instruction with a valid example of the answer's form, record, aids, question; worked examples before it."""
    asking = asking or Asking(think)
    shots = asking.shots.get(case.stratum, ())
    turns = [message for shot, answer in shots for message in (_question(shot, asking), Message("assistant", answer))]
    return [*turns, _question(case, asking)]


def asks_for_thinking(turns: Sequence[Message]) -> bool:
    """Tells whether the question that `messages` wrote asks to think first. Any other text counts
    as asking."""
    return not any(turn.role == "user" and turn.content.startswith(_ASK_ANSWER) for turn in turns)


def _question(case: Case, asking: Asking) -> Message:
    task = tasks.of(case)
    form = wrap("your reasoning" if asking.think else None, neutral(task.answer_example(case)))
    known = task.aids(case) if asking.aids else {}
    given = "".join(f"\n\n{neutral(known[aid])}" for aid in asking.aids if aid in known)
    offer = f"{_OFFER_TOOL}\n\n" if asking.tool else ""
    question = f"{neutral(task.record(case))}{given}\n\nQuestion: {neutral(task.question(case))}"
    return Message("user", f"{_ASK_THINKING if asking.think else _ASK_ANSWER}\n{form}\n\n{offer}{question}")


def gold_response(case: Case, think: bool = True) -> str:
    """What a perfect answer looks like: the source's rationale as the thought (a minimal one where it has none), the truth as JSON."""
    answer = tasks.of(case).gold_answer(case)
    if not think:
        return wrap(None, answer)
    thought = (case.rationale or "").strip() or f"The answer is {json.loads(answer)['answer']}."
    return wrap(neutral(thought), answer)
