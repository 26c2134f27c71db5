"""Baselines that use no language model: what they answer, and which cases they are made for.
test_evaluation_page has their place in results, page and terminal.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehrmind.data.synthetic import synthetic_cases
from ehrmind.prompts.protocol import wrap
from ehrmind.stages.evaluation.bag_of_words import bag_of_words
from ehrmind.stages.evaluation.guesses import (
    commonest_answer,
    commonest_label,
    commonest_label_oracle,
    majority_label,
)
from ehrmind.types import Case
from ehrmind.verify import judge


def asked(truth: dict[str, Any], number: int = 0, stratum: str = "table/lab/x", record: str = "") -> Case:
    fields = {"question": "Which?", "record": record}
    return Case(f"case-{number}", "table", "x", stratum, "train", f"group-{number}", fields, truth)


def decimal(value: float, margin: float, number: int = 0) -> Case:
    return asked({"kind": "decimal", "value": value, "low": value - margin, "high": value + margin}, number)


def right(cases: Sequence[Case], answer: str) -> int:
    return sum(judge(case, wrap(None, answer), think=False).correct for case in cases)


values = st.integers(-20, 20).map(lambda value: value / 4)
cases_of_one_stratum = st.lists(st.tuples(values, st.sampled_from((0.0, 0.25, 1.0, 2.5))), min_size=1, max_size=12).map(
    lambda drawn: [decimal(value, margin, number) for number, (value, margin) in enumerate(drawn)]
)


@settings(max_examples=60, deadline=None)
@given(cases_of_one_stratum, st.lists(values, max_size=20))
def test_no_gold_answer_is_right_more_often_and_to_the_oracle_no_number_is(
    cases: list[Case], others: list[float]
) -> None:
    golds = [json.dumps({"answer": case.truth["value"]}) for case in cases]
    assert right(cases, commonest_answer(cases)) == max(right(cases, gold) for gold in golds)
    best = right(cases, commonest_answer(cases, any_number=True))
    assert best >= max(right(cases, answer) for answer in (*golds, *(json.dumps({"answer": x}) for x in others)))


def test_limits_that_overlap_count_and_a_tie_goes_to_the_more_frequent_then_the_smaller_value() -> None:
    assert commonest_answer([decimal(1, 0.1), decimal(1, 0.1), decimal(5, 1), decimal(5.5, 1), decimal(6, 1)]) == (
        '{"answer": 5}'
    )
    assert commonest_answer([decimal(3, 0), decimal(2, 0), decimal(2, 0), decimal(3, 0), decimal(9, 0)]) == (
        '{"answer": 2}'
    )
    days = [asked({"kind": "date", "value": f"2020-01-0{day}"}, day) for day in (3, 1, 2)]
    assert commonest_answer([*days, days[2]]) == '{"answer": "01/02/2020"}' and commonest_answer(days) == (
        '{"answer": "01/01/2020"}'
    )


def test_every_kind_of_value_is_right_by_the_judge_where_train_is_the_case_itself() -> None:
    cases = synthetic_cases(55, 0, "train")
    found = commonest_label_oracle(cases, cases)
    assert {case.truth["kind"] for case in cases} >= {"decimal", "integer", "date", "weeks_days"}
    alone = [case for case in cases if sum(other.stratum == case.stratum for other in cases) == 1]
    assert len(alone) > 20 and right_of(alone, found) == len(alone)


def right_of(cases: Sequence[Case], found: Any) -> int:
    return sum(right([case], found[case.id].answer) for case in cases if found[case.id].answer is not None)


def test_a_stratum_that_train_lacks_gets_no_answer_and_another_family_no_guess() -> None:
    train = [decimal(1, 0, 1)]
    other = dataclasses.replace(decimal(1, 0, 2), stratum="table/lab/y")
    foreign = synthetic_cases(1, 0, "held_out")[0]
    found = commonest_label(train, [decimal(1, 0, 3), other, foreign])
    assert {name: guess.answer for name, guess in found.items()} == {"case-3": '{"answer": 1}', "case-2": None}
    assert set(commonest_label_oracle(train, [other, foreign])) == {"case-2"}


def label(value: int, number: int, record: str = "", labels: Sequence[str] = ("no", "yes")) -> Case:
    return asked({"kind": "label", "value": value, "labels": list(labels)}, number, record=record)


def test_the_majority_label_is_of_train_alone_and_of_the_same_labels() -> None:
    train = [label(1, 1), label(1, 2), label(0, 3)]
    found = majority_label(train, [label(0, 4), label(0, 5), label(0, 6, labels=("low", "high"))])
    assert {name: guess.answer for name, guess in found.items()} == dict.fromkeys(
        ("case-4", "case-5"), '{"answer": "yes"}'
    )
    assert found["case-4"].probabilities == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert majority_label(train[1:], [label(1, 4)])["case-4"].answer == '{"answer": "no"}'  # a tie: the first


def test_words_tell_labels_apart_and_a_task_with_one_label_or_no_word_has_no_model() -> None:
    train = [label(n % 2, n, "fever and cough" if n % 2 else "itch and rash") for n in range(20)]
    held_out = [label(1, 30, "a cough"), label(0, 31, "a rash")]
    found = bag_of_words(train, held_out)
    assert [found[case.id].answer for case in held_out] == ['{"answer": "yes"}', '{"answer": "no"}']
    assert sum(found["case-30"].probabilities or ()) == pytest.approx(1)
    assert bag_of_words(train, held_out) == found
    assert bag_of_words(train[::2], held_out) == {} == bag_of_words([], held_out)
