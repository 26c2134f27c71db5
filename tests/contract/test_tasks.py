"""Rules that hold for every task family, whatever it asks."""

from __future__ import annotations

import json

import pytest
from medcalc_cases import ONE_OF_EACH_KIND

from ehrmind.data.labels import label_truth
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.prompts import gold_response, messages
from ehrmind.tasks import TASKS, Task
from ehrmind.types import Case
from ehrmind.verify import judge
from ehrmind.verify.audit import check_cases

ELIGIBLE = next(case for case in synthetic_trials(50, 0, "held_out") if case.truth["value"] == 2)
GRADED = Case(
    id="ehr-1",
    family="ehr",
    task="lab_anemia",
    stratum="ehr/made-up/lab_anemia",
    split="held_out",
    group="subject-1",
    fields={"history": "61 years old\ntoday: hemoglobin 9.1 g/dL"},
    truth=label_truth(2, ("normal", "mild", "moderate", "severe")),
)
OWN = {
    kind: Case(
        id=f"table-{kind}",
        family="table",
        task="mine",
        stratum=f"table/mine/{kind}",
        split="held_out",
        group="row",
        fields={"question": "What is it?", "record": "A note."},
        truth=truth,
    )
    for kind, truth in (
        ("label", label_truth(2, ("low", "middle", "high"))),
        ("number", {"kind": "decimal", "value": 5.5, "low": 5.0, "high": 6.0, "unit": "mg"}),
    )
}
EXAMPLES: dict[str, tuple[Case, ...]] = {
    "medcalc": ONE_OF_EACH_KIND,
    "trials": (ELIGIBLE,),
    "ehr": (GRADED,),
    "table": tuple(OWN.values()),
}
EACH_CASE = pytest.mark.parametrize(
    "case", [case for cases in EXAMPLES.values() for case in cases], ids=lambda case: case.stratum
)


def test_every_family_is_held_to_this_contract() -> None:
    assert EXAMPLES.keys() == TASKS.keys()


@EACH_CASE
def test_gold_and_example_are_json_with_an_answer(case: Case) -> None:
    task = TASKS[case.family]
    for text in (task.gold_answer(case), task.answer_example(case)):
        assert json.loads(text).keys() == {"answer"}


@EACH_CASE
def test_the_check_takes_the_gold_answer_and_no_corruption_of_it(case: Case) -> None:
    task = TASKS[case.family]
    assert task.check(case, json.loads(task.gold_answer(case))["answer"], None)[1] is None
    corruptions = list(task.corruptions(case))
    assert {name for name, _ in corruptions} & {"wrong value", "swapped label"}
    for _, text in corruptions:
        assert not judge(case, f"<answer>{text}</answer>", think=False).correct


@EACH_CASE
def test_a_check_says_why_and_never_raises(case: Case) -> None:
    task = TASKS[case.family]
    for answer in (
        None,
        True,
        0,
        -1.5,
        1e308,
        "",
        "x",
        [],
        [[]],
        {},
        {"answer": 1},
        float("inf"),
        float("nan"),
        10**40,
    ):
        for unit in (None, "", "kg", 5, [], {}):
            assert isinstance(task.check(case, answer, unit)[1], str)


@EACH_CASE
def test_hints_have_names_that_recipes_may_choose(case: Case) -> None:
    assert set(TASKS[case.family].hints(case)) <= set(TASKS[case.family].hint_causes)


def test_a_task_without_functions_of_its_own_is_a_labelled_task() -> None:
    case, task = OWN["label"], Task()
    assert task.question(case) == "What is it? Answer with one of: low, middle, high."
    assert (task.record(case), task.gold_answer(case)) == ("A note.", '{"answer": "high"}')
    assert task.check(case, "high", None) == (2, None) and task.options(case) == TASKS["table"].options(case)


@EACH_CASE
def test_a_case_holds_the_same_truth_as_itself(case: Case) -> None:
    assert TASKS[case.family].same_truth(case, case)


@EACH_CASE
def test_a_prompt_holds_record_and_question(case: Case) -> None:
    task = TASKS[case.family]
    (message,) = messages(case)
    assert task.record(case) in message.content
    assert task.question(case) in message.content


@EACH_CASE
def test_a_stored_case_is_judged_alike(case: Case) -> None:
    stored = Case.from_json(case.to_json())
    assert judge(stored, gold_response(stored)) == judge(case, gold_response(case))
    assert check_cases([stored]).ok
