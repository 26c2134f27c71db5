"""The answer protocol: every way to break it has a name."""

from __future__ import annotations

import pytest

from ehrmind.parsing import reasons
from ehrmind.parsing.parse import MAX_ANSWER, parse
from ehrmind.prompts.protocol import neutral, wrap

GOOD = '<think>2 + 2</think>\n<answer>{"answer": 4}</answer>'

BROKEN = {
    "": reasons.NO_ANSWER,
    "The answer is 4.": reasons.NO_ANSWER,
    '<think>x</think>{"answer": 4}': reasons.NO_ANSWER,
    '<think>x</think>{"answer": 4}</answer>': reasons.NO_ANSWER,
    '<think>x</think><ANSWER>{"answer": 4}</ANSWER>': reasons.NO_ANSWER,
    '<think>x</think><answer>{"answer": 4}': reasons.UNCLOSED_ANSWER,
    '<think>x</think></answer>{"answer": 4}<answer>': reasons.UNCLOSED_ANSWER,
    GOOD + '<answer>{"answer": 4}</answer>': reasons.TWO_ANSWERS,
    '<answer>{"answer": 4}</answer>' + GOOD: reasons.TWO_ANSWERS,
    '<think>I would write <answer>4</answer>.</think><answer>{"answer": 4}</answer>': reasons.TWO_ANSWERS,
    '<think>x</answer></think><answer>{"answer": 4}</answer>': reasons.TWO_ANSWERS,
    '<think>x</think><answer><answer>{"answer": 4}</answer></answer>': reasons.TWO_ANSWERS,
    GOOD + " Hope this helps.": reasons.TEXT_AFTER,
    GOOD + "</answer>": reasons.TEXT_AFTER,
    GOOD + "<think>y</think>": reasons.TEXT_AFTER,
    "Sure: " + GOOD: reasons.TEXT_BEFORE,
    '<think>x</think>So <answer>{"answer": 4}</answer>': reasons.TEXT_BEFORE,
    '<answer>{"answer": 4}</answer>': reasons.NO_THINKING,
    'It is 4. <answer>{"answer": 4}</answer>': reasons.NO_THINKING,
    'x</think><answer>{"answer": 4}</answer>': reasons.NO_THINKING,
    '<think>x<answer>{"answer": 4}</answer>': reasons.UNCLOSED_THINKING,
    '<think>x</think><think>y</think><answer>{"answer": 4}</answer>': reasons.TWO_THOUGHTS,
    '<think><think>x</think><answer>{"answer": 4}</answer>': reasons.TWO_THOUGHTS,
    '<think></think><answer>{"answer": 4}</answer>': reasons.EMPTY_THINKING,
    '<think> \n\t\u200b...</think><answer>{"answer": 4}</answer>': reasons.EMPTY_THINKING,
}

BLOCKS = {
    "": reasons.NOT_JSON,
    "four": reasons.NOT_JSON,
    "{'answer': 4}": reasons.NOT_JSON,
    '{"answer": 4,}': reasons.NOT_JSON,
    '{"answer": 4} {"answer": 4}': reasons.NOT_JSON,
    '{"answer": 2 + 2}': reasons.NOT_JSON,
    '{"answer": 1,234}': reasons.NOT_JSON,
    '{"answer": 04}': reasons.NOT_JSON,
    '{"answer": NaN}': reasons.NOT_JSON,
    '{"answer": Infinity}': reasons.NOT_JSON,
    '{"answer": -Infinity}': reasons.NOT_JSON,
    '```json\n{"answer": 4}\n```': reasons.NOT_JSON,
    '{"answer": 4} // sure': reasons.NOT_JSON,
    "4": reasons.MISSING_KEY,
    "[4]": reasons.MISSING_KEY,
    "{}": reasons.MISSING_KEY,
    '{"Answer": 4}': reasons.MISSING_KEY,
    '{"unit": "kg"}': reasons.MISSING_KEY,
    '{"answer": 4, "confidence": 1}': reasons.UNEXPECTED_KEY,
    '{"answer": 4, "unit": "kg", "why": ""}': reasons.UNEXPECTED_KEY,
    '{"answer": 5, "answer": 4}': reasons.DUPLICATED_KEY,
    '{"answer": {"weeks": 1, "weeks": 2}}': reasons.DUPLICATED_KEY,
    '{"answer": "' + "4" * MAX_ANSWER + '"}': reasons.TOO_LONG,
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.items())
def test_a_text_that_breaks_the_protocol_is_named(text: str, reason: str) -> None:
    assert parse(text).reason == reason


@pytest.mark.parametrize(("block", "reason"), BLOCKS.items())
def test_an_answer_block_that_breaks_json_or_the_schema_is_named(block: str, reason: str) -> None:
    assert parse(wrap("x", block)).reason == reason


def test_white_space_around_the_blocks_and_in_the_answer_is_free() -> None:
    assert parse(' \n<think>\n x \n</think>\n\n <answer>\n{ "answer" : 4 }\n</answer> \n') == (4, None, None)


def test_a_unit_may_stand_beside_the_answer() -> None:
    assert parse(wrap("x", '{"unit": "kg", "answer": 4}')) == (4, "kg", None)


def test_without_thinking_a_thought_is_tolerated_even_an_empty_one_but_no_other_text() -> None:
    answer = '<answer>{"answer": 4}</answer>'
    for text in (answer, "<think></think>" + answer, "<think>\n\n</think>\n\n" + answer, GOOD):
        assert parse(text, think=False) == (4, None, None)
    assert parse("It is 4. " + answer, think=False).reason == reasons.TEXT_BEFORE
    assert parse("<think>x" + answer, think=False).reason == reasons.UNCLOSED_THINKING


@pytest.mark.parametrize(
    "token",
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<|im_end|>",
        "<start_of_turn>",
        "</s>",
        "<|eot_id|>",
        "<｜User｜>",
    ],
)
def test_neutral_text_holds_no_tag_and_reads_alike(token: str) -> None:
    text = neutral(f"a{token}b{token}")
    assert token not in text
    assert text.replace("< ", "<") == f"a{token}b{token}"


def test_neutral_text_keeps_comparisons() -> None:
    assert neutral("K < 3.5, Na <130 and pH>7.2; p<0.05") == "K < 3.5, Na <130 and pH>7.2; p<0.05"
