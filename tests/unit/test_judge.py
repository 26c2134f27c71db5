"""Verdicts: what is right, wrong, malformed and truncated, and what each earns."""

from __future__ import annotations

import json

import pytest
from medcalc_cases import age, date, decimal, integer

from ehrmind.parsing import reasons
from ehrmind.prompts import gold_response
from ehrmind.prompts.protocol import wrap
from ehrmind.types import Case, InputError, Verdict
from ehrmind.verify import judge
from ehrmind.verify.reward import RewardWeights

RIGHT = wrap("x", '{"answer": 25.2}')
WRONG = wrap("x", '{"answer": 99}')
MALFORMED = wrap("x", '{"answer": "25 to 26"}')


def test_the_default_rewards_are_the_papers() -> None:
    assert judge(decimal(), RIGHT) == Verdict(True, 1.1, {"format": 0.1, "outcome": 1.0}, 25.2, None, True)
    assert judge(decimal(), WRONG) == Verdict(
        False, 0.0, {"format": 0.0, "outcome": 0.0}, 99, reasons.OUT_OF_LIMITS, True
    )
    assert judge(decimal(), MALFORMED) == Verdict(
        False, -2.0, {"format": -2.0, "outcome": 0.0}, "25 to 26", reasons.RANGE, False
    )


def test_the_recipes_weights_are_the_parts_and_the_reward_is_their_sum() -> None:
    weights = RewardWeights(malformed=-0.5, truncated=-0.25, wrong=0.125, correct=3.0, correct_format=0.5)
    for text, finish, total in (
        (RIGHT, "stop", 3.5),
        (WRONG, "stop", 0.125),
        (MALFORMED, "stop", -0.5),
        ("<think>so", "length", -0.25),
    ):
        verdict = judge(decimal(), text, finish_reason=finish, reward=weights)
        assert verdict.reward == total == sum(verdict.parts.values())
        assert verdict.parts.keys() == {"format", "outcome"}


@pytest.mark.parametrize("text", ["", "<think>so the", "<think>x</think>", RIGHT[:-1], RIGHT + " And", MALFORMED])
def test_a_text_cut_at_the_token_limit_is_truncated_unless_it_is_well_formed(text: str) -> None:
    verdict = judge(decimal(), text, finish_reason="length")
    assert (verdict.correct, verdict.well_formed, verdict.reason) == (False, False, reasons.TRUNCATED)


def test_a_complete_answer_at_the_token_limit_is_judged_like_any_other() -> None:
    assert judge(decimal(), RIGHT, finish_reason="length") == judge(decimal(), RIGHT)
    assert judge(decimal(), WRONG, finish_reason="length") == judge(decimal(), WRONG)


def test_well_formed_and_wrong_is_not_malformed() -> None:
    for case, answer, reason in (
        (decimal(), '"25.2 mg/dL"', reasons.WRONG_UNIT),
        (integer(), "3.4", reasons.NOT_AN_INTEGER),
        (integer(), "4", reasons.OUT_OF_LIMITS),
        (date(), '"01/10/2007"', reasons.WRONG_VALUE),
        (age(), '"14 weeks, 2 days"', reasons.WRONG_VALUE),
    ):
        verdict = judge(case, wrap("x", f'{{"answer": {answer}}}'))
        assert (verdict.correct, verdict.well_formed, verdict.reward, verdict.reason) == (False, True, 0.0, reason)


def test_thinking_off_asks_for_the_answer_block_alone() -> None:
    answer = '<answer>{"answer": 25.2}</answer>'
    assert judge(decimal(), answer, think=False).correct
    assert judge(decimal(), answer).reason == reasons.NO_THINKING


def test_a_zero_is_exact_and_may_carry_a_sign() -> None:
    case = decimal(0.0, calculator=46)
    assert judge(case, wrap("x", '{"answer": -0.0}')).correct
    assert judge(case, wrap("x", '{"answer": "0 %"}')).correct
    assert not judge(case, wrap("x", '{"answer": 0.001}')).correct


def test_limits_are_inside() -> None:
    case = decimal(-2.5, calculator=67)
    for value in (case.truth["low"], case.truth["high"]):
        assert judge(case, wrap("x", json.dumps({"answer": value}))).correct


def test_a_verdict_survives_storage_whatever_the_model_wrote() -> None:
    for answer in ('"\\ud800"', "1e999", "[[1], 1e999]", '{"a": 1}', "true", '"' + "9" * 1900 + '"', "9" * 1900):
        verdict = judge(decimal(), wrap("x", f'{{"answer": {answer}}}'))
        stored = verdict.to_json()
        stored.encode("utf-8")
        assert "Infinity" not in stored
        assert Verdict.from_json(stored) == verdict


def test_a_case_of_an_unknown_family_is_refused_with_those_that_are_known() -> None:
    case = decimal()
    stray = Case(
        **{name: getattr(case, name) for name in ("id", "task", "stratum", "split", "group", "fields", "truth")},
        family="poetry",
    )
    with pytest.raises(InputError, match="of a family that is not known here; known are ehr"):
        judge(stray, gold_response(case))
