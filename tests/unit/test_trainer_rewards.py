"""verify.trainer_rewards: what verl and TRL pay for an answer is our judge's verdict, and nothing
else.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.prompts import gold_response
from ehrmind.types import InputError
from ehrmind.verify import judge
from ehrmind.verify.reward import RewardWeights
from ehrmind.verify.trainer_rewards import Question, compute_score, ehrmind_reward
from tests.small_models import cases

OWN = RewardWeights(malformed=-3.0, truncated=-0.5, wrong=-0.25, correct=2.0, correct_format=0.5)
CASES = cases(7)
WRONG = '<think>So.</think>\n<answer>{"answer": -12345}</answer>'


def asked(place: int = 0, **changes: Any) -> Question:
    return dataclasses.replace(Question(CASES[place], True, OWN, "", 8), **changes)


def paid(question: Question, text: str) -> float:
    return compute_score("ehrmind/medcalc", text, question.to_json(), {"index": 0})["score"]


def test_a_question_comes_back_whole_from_its_json() -> None:
    for place in range(len(CASES)):
        assert Question.from_json(asked(place, opening="<think>\n").to_json()) == asked(place, opening="<think>\n")


def test_right_wrong_and_malformed_answers_earn_what_the_recipe_says_in_both_trainers() -> None:
    for place, case in enumerate(CASES):
        earned = {gold_response(case): 2.5, WRONG: -0.25, "I do not know.": -3.0, "": -3.0}
        for text, reward in earned.items():
            assert paid(asked(place), text) == reward
            assert ehrmind_reward([""], [text], ehrmind=[asked(place).to_json()]) == [reward]
            turn = [{"role": "assistant", "content": text}]
            assert ehrmind_reward([[]], [turn], ehrmind=[asked(place).to_json()], id=["x"], trainer_state=None) == [
                reward
            ]


@given(st.text(max_size=300))
def test_any_text_at_all_is_paid_as_the_judge_says(text: str) -> None:
    question = asked(opening="<think>\n")
    verdict = judge(question.case, "<think>\n" + text, reward=OWN)
    found = compute_score("", text, question.to_json())
    assert found == {"score": verdict.reward, "acc": float(verdict.correct), "well_formed": float(verdict.well_formed)}


def test_validation_counts_right_answers_and_not_rewards() -> None:
    found = [compute_score("", text, asked().to_json()) for text in (gold_response(CASES[0]), WRONG, "")]
    assert [(score["acc"], score["well_formed"]) for score in found] == [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]


def test_an_answer_behind_a_template_that_opens_the_thought_is_read_with_its_opening() -> None:
    written = gold_response(CASES[0]).removeprefix("<think>")
    assert paid(asked(opening="<think>\n"), written) == 2.5
    assert paid(asked(), written) == -3.0


def test_trl_tells_which_answers_were_cut_and_those_earn_what_a_cut_one_does() -> None:
    gold, rows = gold_response(CASES[0]), [asked().to_json()] * 3
    found = ehrmind_reward(
        [""] * 3, [gold[:-3], gold[:-3], gold], ehrmind=rows, completion_ids=[[1] * 8, [1] * 7, [1] * 8]
    )
    assert found == [-0.5, -3.0, 2.5]  # cut; ended early; cut when everything was said


@pytest.mark.parametrize("key", ["reasoning_content", "thinking"])
def test_a_thought_that_the_tokenizer_took_apart_is_put_together_again(key: str) -> None:
    _, _, answer = gold_response(CASES[0]).partition("</think>")
    turn = [{"role": "assistant", key: "Two and two\nis four.", "content": answer}]
    for opening in ("", "<think>\n"):
        assert ehrmind_reward([[]], [turn], ehrmind=[asked(opening=opening).to_json()]) == [2.5]


def test_thinking_that_was_not_asked_for_may_be_missing() -> None:
    assert paid(asked(think=False), gold_response(CASES[0], think=False)) == 2.5
    assert paid(asked(), gold_response(CASES[0], think=False)) == -3.0


@pytest.mark.parametrize(
    "text", ["", "42", "null", "[]", "{}", json.dumps({"case": {}, "reward": {}}), '{"case": ' * 100_000]
)
def test_a_row_that_we_did_not_write_is_refused_and_scores_nothing(text: str) -> None:
    with pytest.raises(InputError, match="does not say how its answers are judged; export the data again"):
        compute_score("other", "an answer", text)


def test_as_many_rewards_come_back_as_answers_went_in() -> None:
    with pytest.raises(ValueError, match="zip"):
        ehrmind_reward([""], ["a", "b"], ehrmind=[asked().to_json()])
