"""Right answers through tokenizers and chat templates that have the traits of today's families, and
back to the judge.
"""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehrmind.prompts import gold_response, messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.stages.round_trip import refuse_lost
from ehrmind.types import Case, Prompt
from ehrmind.verify.judge import judge
from ehrmind.verify.reward import PAPER
from tests.chat_templates import FAMILIES, cases, chat

DAY = date(2024, 7, 26)
BEST = PAPER.correct + PAPER.correct_format


def with_shots(case: Case, count: int, *, think: bool, tool: bool = False) -> PromptVariant:
    others = [other for other in cases() if other.family == case.family and other.id != case.id][:count]
    return PromptVariant(
        think=think, tool=tool, shots={case.stratum: tuple((other, gold_response(other, think)) for other in others)}
    )


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.sampled_from(range(len(cases()))),
    st.booleans(),
    st.integers(0, 2),
    st.booleans(),
)
def test_a_right_answer_keeps_its_marks_and_ends_with_a_stop_token(
    family: str, place: int, think: bool, shots: int, tool: bool
) -> None:
    own, case = chat(family, DAY), cases()[place]
    variant = with_shots(case, shots, think=think, tool=tool)
    prompt = own.prompt(messages(case, variant=variant))
    if tool:
        turn = own.tool_turn("41.5 kg/m²", thinks=prompt.thinks)
        assert "41.5 kg/m²" in own.tokenizer.decode(list(turn.token_ids))
        prompt = Prompt((*prompt.token_ids, *turn.token_ids), turn.opening, turn.thinks)
    gold = gold_response(case, think)
    tokens = own.response_tokens(gold, prompt)
    verdict = judge(case, prompt.opening + own.decode(tokens), think=think)
    assert verdict.correct and verdict.reward == pytest.approx(BEST), verdict.reason
    assert [token for token in tokens if token in own.stop_ids] == [tokens[-1]]


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("think", [True, False])
def test_worked_examples_keep_their_thoughts_and_nothing_stands_twice(family: str, think: bool) -> None:
    own, case = chat(family, DAY), cases()[0]
    variant = with_shots(case, 2, think=think)
    text = own.tokenizer.decode(
        list(own.prompt(messages(case, variant=variant)).token_ids), clean_up_tokenization_spaces=False
    )
    rest = text
    for turn in messages(case, variant=variant):
        before, _, rest = rest.partition(turn.content)
        assert rest and "<answer>" not in before  # every turn's words stand there as given, in their order
    empty = len(re.findall(r"<think>\s*(?:</think>|\Z)", text))  # the template's own
    thoughts = text.count("<think>") - text.count("<think>your reasoning") - empty
    assert thoughts == (2 if think else 0) and empty <= (1 if think else 3)
    assert text.count(own.tokenizer.bos_token or "\0") <= 1
    refuse_lost(own, family, [variant], cases())
