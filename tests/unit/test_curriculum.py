"""stages/rlvr/curriculum: the order of training questions, by turns or by pass rate, and families
in stated shares.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.stages.rlvr.curriculum import Curriculum, left_out_of_mix
from ehrmind.types import Case, Completion, Group, InputError, Prompt, Segment, Verdict
from tests.rollouts import rollout_row

Rates = dict[str, float]
BY_RATE = {"curriculum": "pass_rate"}


def recipe(**rlvr: Any) -> Recipe:
    synthetic = {"synthetic": {"n": 10}}
    return parse_recipe({"data": {"train": synthetic, "held_out": synthetic}, "model": {"tiny": {}}, "rlvr": rlvr})


def case(name: str, stratum: str, family: str = "medcalc") -> Case:
    return Case(name, family, "task", f"{family}/{stratum}", "train", name, {}, {})


def many(count: int, *strata: str, family: str = "medcalc") -> list[Case]:
    return [case(f"{family}-{stratum}-{number}", stratum, family) for number in range(count) for stratum in strata]


def group(asked: Case, right: int, members: int = 8) -> Group:
    verdicts = [Verdict(place < right, 0.0, {"format": 0.0, "outcome": 0.0}) for place in range(members)]
    nothing = Completion((Segment("assistant", (), ()),), "stop", "")
    return Group(asked, Prompt(()), [nothing] * members, verdicts)


def asked_in(questions: Curriculum, rates: Rates, steps: int, count: int = 12, begin: int = 0) -> list[list[str]]:
    """Ids of each step's questions, every one answered with its stratum's chance (of 8 answers,
    exactly)."""
    found = []
    for step in range(begin, begin + steps):
        drawn = questions.draw(questions.shares(count), step)
        questions.hear([group(one, round(8 * rates[one.stratum])) for one in drawn], step)
        found.append([one.id for one in drawn])
    return found


def test_every_question_is_asked_once_an_epoch_each_epoch_in_its_own_order() -> None:
    cases = many(10, "a")
    questions = Curriculum(recipe(), cases)
    drawn = [one.id for step in range(15) for one in questions.draw(questions.shares(4), step)]
    epochs = [drawn[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(epoch) == sorted(one.id for one in cases) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_questions_that_are_neither_solved_nor_hopeless_are_asked_most_and_none_is_given_up() -> None:
    cases = many(100, "hopeless", "open", "solved")
    rates = {"medcalc/hopeless": 0.0, "medcalc/open": 0.5, "medcalc/solved": 1.0}
    steps = asked_in(Curriculum(recipe(**BY_RATE), cases), rates, 80, count=24)
    late = Counter(name.split("-")[1] for step in steps[20:] for name in step)
    assert 3 * max(late["hopeless"], late["solved"]) < late["open"]
    assert min(late["hopeless"], late["solved"]) > 0.05 * late.total()
    assert all(len(set(step)) == len(step) for step in steps)  # without replacement within a step
    assert len({name for step in steps for name in step if "open" in name}) == 100  # and others in the next
    uniform = Counter(
        name.split("-")[1] for step in asked_in(Curriculum(recipe(), cases), rates, 80, count=24) for name in step
    )
    assert uniform["open"] == pytest.approx(uniform["solved"], rel=0.1)


def test_a_stratum_that_changes_is_noticed_in_a_few_steps() -> None:
    questions = Curriculum(recipe(**BY_RATE), many(100, "a", "b"))
    asked_in(questions, {"medcalc/a": 0.0, "medcalc/b": 0.5}, 30)
    before = asked_in(questions, {"medcalc/a": 0.0, "medcalc/b": 0.5}, 10, begin=30)
    asked_in(questions, {"medcalc/a": 0.5, "medcalc/b": 1.0}, 25, begin=40)  # as if taught
    after = asked_in(questions, {"medcalc/a": 0.5, "medcalc/b": 1.0}, 10, begin=65)
    shares = [sum("-a-" in name for step in steps for name in step) / 120 for steps in (before, after)]
    assert shares[0] < 0.35 and shares[1] > 0.65


def test_a_pass_rate_is_the_questions_own_leaning_on_its_stratum_and_old_answers_fade() -> None:
    first, second = many(2, "a")
    questions = Curriculum(recipe(**BY_RATE, pass_rate_memory=0.5), [first, second])
    assert questions.pass_rate(first, 0) == 0.5  # nothing known
    questions.hear([group(first, 6)], 0)
    stratum = (6 + 1) / (8 + 2)
    assert questions.pass_rate(first, 0) == pytest.approx((6 + 4 * stratum) / (8 + 4))
    assert questions.pass_rate(second, 0) == pytest.approx(stratum)
    faded = (6 / 4 + 1) / (8 / 4 + 2)  # two steps later a quarter of it is left
    assert questions.pass_rate(first, 2) == pytest.approx((6 / 4 + 4 * faded) / (8 / 4 + 4))
    assert questions.weight(first, 2) == pytest.approx(
        questions.pass_rate(first, 2) * (1 - questions.pass_rate(first, 2)) + 0.05
    )
    questions.hear([group(first, 0)], 2)
    assert questions.state["questions"][first.id] == [6 / 4, 8 / 4 + 8, 2]


def test_the_pilot_is_where_the_rates_begin() -> None:
    cases = many(50, "hopeless", "open")
    rows = [
        rollout_row(case=one.id, correct="open" in one.id and member % 2 == 0)
        for one in cases[:40]
        for member in range(8)
    ]
    questions = Curriculum(recipe(**BY_RATE), cases, [*rows, rollout_row(case="of another split")])
    hopeless, unasked = questions.weight(cases[0], 0), questions.weight(cases[98], 0)
    assert "hopeless" in cases[98].id and hopeless < unasked < 0.1 < 0.25 < questions.weight(cases[1], 0)
    assert "of another split" not in questions.state["questions"]
    by_turns = Curriculum(recipe(), cases, rows)
    assert by_turns.state["questions"] == {}


def test_questions_that_replace_others_are_new_to_the_step() -> None:
    questions = Curriculum(recipe(**BY_RATE), many(8, "a"))
    first = questions.draw({"all": 4}, 0)
    assert not {one.id for one in first} & {one.id for one in questions.draw({"all": 4}, 0, besides=first)}
    assert len(questions.draw({"all": 20}, 1)) == 20  # more than there are


@pytest.mark.parametrize("settings", [{}, BY_RATE, {**BY_RATE, "mix": {"medcalc": 1.0, "trials": 3.0}}])
def test_a_state_that_went_through_json_asks_the_same_questions_on(settings: dict[str, Any]) -> None:
    cases = [*many(30, "a", "b"), *many(20, "c", family="trials")]
    rates = {"medcalc/a": 0.25, "medcalc/b": 1.0, "trials/c": 0.5}
    whole, stopped = Curriculum(recipe(**settings), cases), Curriculum(recipe(**settings), cases)
    expected = asked_in(whole, rates, 20)
    begun = asked_in(stopped, rates, 9)
    resumed = Curriculum(recipe(**settings), cases, [rollout_row(case=cases[0].id)])
    resumed.state = json.loads(json.dumps(stopped.state))
    assert begun + asked_in(resumed, rates, 11, begin=9) == expected
    assert json.dumps(resumed.state) == json.dumps(whole.state)


@pytest.mark.parametrize("count", [1, 4, 7, 32])
def test_every_family_has_its_share_of_every_step_to_one_question(count: int) -> None:
    cases = [
        *many(20, "a"),
        *many(3, "b", family="trials"),
        *many(20, "c", family="ehr"),
        *many(5, "d", family="table"),
    ]
    mix = {"medcalc": 0.5, "trials": 0.3, "ehr": 0.2}
    questions = Curriculum(recipe(mix=mix), cases)
    total: Counter[str] = Counter()
    for step in range(40):
        drawn = questions.draw(questions.shares(count), step)
        assert len(drawn) == count
        total.update(one.family for one in drawn)
        for family, share in mix.items():
            assert abs(total[family] - share * count * (step + 1)) <= 1
    assert "table" not in total and left_out_of_mix(cases, mix) == {"table": 5}
    assert questions.state["asked_by_stratum"] == {
        "medcalc/a": total["medcalc"],
        "trials/b": total["trials"],
        "ehr/c": total["ehr"],
    }


def test_shares_are_relative() -> None:
    cases = [*many(20, "a"), *many(20, "b", family="trials")]
    assert Curriculum(recipe(mix={"medcalc": 3, "trials": 1}), cases).shares(8) == {"medcalc": 6, "trials": 2}


def test_a_family_that_does_not_exist_is_refused_with_the_nearest_name_and_one_without_questions_too() -> None:
    with pytest.raises(
        InputError, match=r"rlvr: mix names the family 'medclac', which does not exist; did you mean 'medcalc'\?"
    ):
        recipe(mix={"medclac": 1.0})
    with pytest.raises(
        InputError,
        match=r"rlvr\.mix names the family 'ehr', of which train has no question; train has medcalc, trials\.",
    ):
        Curriculum(recipe(mix={"ehr": 0.5, "medcalc": 0.5}), [*many(1, "a"), *many(1, "b", family="trials")])
    with pytest.raises(InputError, match="greater than 0"):
        recipe(mix={"ehr": 0.0})


def test_no_question_at_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"raise prompts\.max_tokens"):
        Curriculum(recipe(), [])
