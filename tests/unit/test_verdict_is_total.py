"""Any text gives a Verdict: no exception, finite reward, bounded time."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from medcalc_cases import ONE_OF_EACH_KIND, decimal, integer

from ehrmind.parsing import reasons
from ehrmind.prompts import gold_response
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, wrap
from ehrmind.types import Case
from ehrmind.verify import judge
from ehrmind.verify.benchmark import benchmark_score
from ehrmind.verify.reward import PAPER

REASONS = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates and control characters included
TAGS = st.sampled_from(
    [THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE, '{"answer":', '"unit"', "}", "25.2", '"14 weeks', "<", "\n"]
)
NUMBERISH = st.text("0123456789.,-+eE/*() ×−±tokmgdLlI%[]{}\"'\u00b2\ud800", max_size=130)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["weeks", "days", "answer"]) | ANY_TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)
CASES = st.sampled_from(ONE_OF_EACH_KIND)


def assert_total(case: Case, text: str) -> None:
    for finish_reason in ("stop", "length"):
        for think in (True, False):
            verdict = judge(case, text, finish_reason=finish_reason, think=think)
            assert math.isfinite(verdict.reward)
            assert verdict.reward in (
                PAPER.malformed,
                PAPER.truncated,
                PAPER.wrong,
                PAPER.correct + PAPER.correct_format,
            )
            assert verdict.reward == sum(verdict.parts.values())
            assert verdict.correct == (verdict.reason is None)
            assert verdict.reason is None or verdict.reason in REASONS
            verdict.to_json().encode("utf-8")
    assert benchmark_score(case, text) in (True, False)


@given(CASES, ANY_TEXT | st.binary(max_size=300).map(lambda junk: junk.decode("latin-1")))
def test_any_text_gets_a_verdict(case: Case, text: str) -> None:
    assert_total(case, text)


@given(CASES, st.lists(TAGS | ANY_TEXT, max_size=12).map("".join))
def test_any_heap_of_tags_gets_a_verdict(case: Case, text: str) -> None:
    assert_total(case, text)


@given(CASES, JSON, JSON | st.none())
def test_any_json_in_the_answer_gets_a_verdict(case: Case, answer: object, unit: object) -> None:
    assert_total(case, wrap("x", json.dumps({"answer": answer})))
    assert_total(case, wrap("x", json.dumps({"answer": answer, "unit": unit})))


@given(CASES, NUMBERISH)
def test_any_heap_of_digits_and_signs_gets_a_verdict(case: Case, answer: str) -> None:
    assert_total(case, wrap("x", json.dumps({"answer": answer})))


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: abs(value) < 1e300))
def test_the_right_value_is_right_and_a_value_outside_the_limits_is_not(value: float) -> None:
    case = decimal(value)
    assert judge(case, wrap("x", json.dumps({"answer": value}))).correct
    assert judge(case, wrap("x", json.dumps({"answer": str(value)}))).correct
    beyond = case.truth["high"] + max(1e-3, abs(case.truth["high"]) * 1e-3)
    assert not judge(case, wrap("x", json.dumps({"answer": beyond}))).correct


@given(st.integers(-20, 400), st.floats(-0.99, 0.99).filter(lambda off: abs(off) > 1e-9))
def test_a_score_is_exact(value: int, off: float) -> None:
    assert judge(integer(value), wrap("x", json.dumps({"answer": float(value)}))).correct
    verdict = judge(integer(value), wrap("x", json.dumps({"answer": value + off})))
    assert verdict.reason == reasons.NOT_AN_INTEGER


THOUGHT, GOOD = "<think>x</think>", wrap("x", '{"answer": 25.2}')
MEGABYTE = 1_000_000
STRANGE = {
    "one letter": "a" * MEGABYTE,
    "zeros": "\0" * MEGABYTE,
    "lone surrogates": "\ud800" * MEGABYTE,
    "signs of less": "<" * MEGABYTE,
    "white space behind": GOOD + " " * MEGABYTE,
    "white space before": " " * MEGABYTE + GOOD,
    "a blank thought": f"<think>{' ' * MEGABYTE}</think><answer>{{}}</answer>",
    "a thought of underscores": f"<think>{'_' * MEGABYTE}</think><answer>{{}}</answer>",
    "a long answer": f"{THOUGHT}<answer>{'{' * MEGABYTE}</answer>",
    "an unclosed answer": f"{THOUGHT}<answer>{'{' * MEGABYTE}",
    "100,000 thoughts": "<think>" * 100_000,
    "100,000 closed blocks": "<think></think>" * 100_000 + "<answer></answer>" * 100_000,
    "100,000 closing tags": "</answer>" * 100_000 + "<answer>",
    "deep nesting": f'{THOUGHT}<answer>{{"answer": {"[" * 500_000}</answer>',
    "nesting at the limit": f'{THOUGHT}<answer>{{"answer": {"[" * 990 + "]" * 990}}}</answer>',
    "nested objects": THOUGHT + ANSWER_OPEN + '{"answer":' * 190 + "1" + "}" * 190 + ANSWER_CLOSE,
    "a 5,000-digit integer": f'{THOUGHT}<answer>{{"answer": {"9" * 5000}}}</answer>',
    "a 1,900-digit integer": f'{THOUGHT}<answer>{{"answer": {"9" * 1900}}}</answer>',
    "a 1,900-digit exponent": f'{THOUGHT}<answer>{{"answer": 1e{"9" * 1900}}}</answer>',
    "a text of digits": f'{THOUGHT}<answer>{{"answer": "{"9" * 119}x"}}</answer>',
    "a text of commas": f'{THOUGHT}<answer>{{"answer": "{"1," * 59}"}}</answer>',
    "a text of ranges": f'{THOUGHT}<answer>{{"answer": "a{"1" * 100} to "}}</answer>',
    "a unit of spaces": f'{THOUGHT}<answer>{{"answer": 25.2, "unit": "mL/min{" " * 1900}x"}}</answer>',
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_text_gets_its_verdict_in_bounded_time(name: str) -> None:
    for case in ONE_OF_EACH_KIND:
        start = time.perf_counter()
        verdict = judge(case, STRANGE[name])
        assert time.perf_counter() - start < 1.0
        assert math.isfinite(verdict.reward)
        start = time.perf_counter()
        benchmark_score(case, STRANGE[name])
        assert time.perf_counter() - start < 1.0


def test_typical_answers_are_judged_at_twenty_thousand_a_second_or_more() -> None:
    """Measured: some 100,000 a second on an idle core. The best of ten short rounds counts, since
    the machine may be busy."""
    case = decimal(rationale="The formula is the formula, and 2.1 < 3.\n" * 20)
    texts = [
        gold_response(case),
        wrap("so " * 200, '{"answer": "25.2 mL/min"}'),
        wrap("so " * 200, '{"answer": 99.1}'),
        "so " * 200,
    ]
    rates = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(250):
            for text in texts:
                judge(case, text)
        rates.append(1000 / (time.perf_counter() - start))
    assert max(rates) > 20_000
