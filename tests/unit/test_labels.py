"""An answer that is one of a few labels: the word, the number, or both where they agree."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import TableFile
from ehrmind.data import load_cases, save_cases
from ehrmind.data.table import read_table_cases
from ehrmind.data.unanswered import ehr_to_ask
from ehrmind.labels import labels_of, problem_of, refuse_labels
from ehrmind.parsing import reasons
from ehrmind.parsing.compare import read_label
from ehrmind.predict.rows import shown
from ehrmind.process_audit.conclusion import label_words
from ehrmind.prompts.protocol import wrap
from ehrmind.tasks.labelled import listed
from ehrmind.types import Case, InputError
from ehrmind.verify.audit import check_cases
from ehrmind.verify.benchmark import benchmark_score
from ehrmind.verify.judge import judge, read
from ehrmind.verify.reward import PAPER
from ehrmind.verify.trainer_rewards import Question, compute_score
from tests.new_rows import times_file

TRIALS = labels_of(("not relevant", "excluded", "eligible"))
YES_NO = labels_of(("no", "yes"))


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("eligible", 2), (" Eligible. ", 2), (2, 2), (2.0, 2), ("2", 2), ("2 (eligible)", 2), ("eligible (2)", 2), ("2: eligible", 2),
        ("2 - Eligible", 2), ("not_relevant", 0), ("Not-Relevant", 0), ("irrelevant", 0), ("0 (not relevant)", 0), ("NOT  RELEVANT", 0),
        ("not eligible", 1), ("ineligible", 1), ("1, excluded", 1),
    ],
)  # fmt: skip
def test_a_label_is_read_as_a_person_would(answer: Any, value: int) -> None:
    assert read_label(answer, TRIALS) == (value, "", None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("eligible or excluded", reasons.GUESSES), (["eligible"], reasons.GUESSES), ("0 (eligible)", reasons.GUESSES),
        ("1: eligible", reasons.GUESSES),         ("not relevant, excluded", reasons.GUESSES),
        (3, reasons.NOT_A_LABEL), (-1, reasons.NOT_A_LABEL), (1.5, reasons.NOT_A_LABEL),
        ("perhaps", reasons.NOT_A_LABEL), (None, reasons.NOT_A_LABEL), (True, reasons.NOT_A_LABEL), ({}, reasons.NOT_A_LABEL),
        ("", reasons.NOT_A_LABEL), ("3", reasons.NOT_A_LABEL), ("very eligible", reasons.NOT_A_LABEL), ("²", reasons.NOT_A_LABEL),
        ("eligible" * 40, reasons.NOT_A_LABEL), (float("nan"), reasons.NOT_A_LABEL), ("2 + 0", reasons.NOT_A_LABEL),
    ],
)  # fmt: skip
def test_what_is_no_one_label_is_named(answer: Any, reason: str) -> None:
    assert read_label(answer, TRIALS).reason == reason


@pytest.mark.parametrize(
    ("answer", "value"), [(True, 1), (False, 0), ("Yes", 1), ("no", 0), (1, 1), ("0", 0), ("1 (yes)", 1)]
)
def test_yes_and_no_may_be_true_and_false(answer: Any, value: int) -> None:
    assert read_label(answer, YES_NO).value == value


def reading(answer: Any, *names: str) -> int | None:
    found: int | None = read_label(answer, labels_of(names)).value
    return found


def test_a_number_that_spells_a_label_is_that_label_and_no_place() -> None:
    grades = ("1", "2", "3")
    for answer in (2, 2.0, "2", "02", "2.0", "2e0", "+2", "2.", " 2 ", '"2"', "\uff12", "\u0662"):
        assert reading(answer, *grades) == 1, answer
    for answer in (0, 4, -2, 2.5, "0", "2 (3)", "2: 1", "1, 2", "\u00b2", "2 or 3", True, "1_2", 10**30, "9" * 300):
        assert reading(answer, *grades) is None, answer
    assert [reading(answer, "4", "3", "2", "1") for answer in (4, 1)] == [0, 3] and reading(1, "0", "1") == 1
    assert reading("\u22121", "-1", "1") == 0 and reading(0.5, "0.5", "5") == 0 and reading(".5", "0.5", "5") == 0


@pytest.mark.parametrize(
    "names",
    [
        *[
            ("low", "2"),
            ("3", "4", "IV"),
            ("Stage 1", "Stage 2"),
            ("2 or more", "fewer"),
            ("> 5", "other"),
            ("\u00bd", "whole"),
            ("I", "II"),
        ],
        *[
            ("one", "two or more"),
            ("grade IIIa", "grade IIIb"),
            ("second", "first"),
            ("1,000", "2,000"),
            ("\u2160", "\u2161"),
            ("CO\u2082", "O"),
        ],
    ],
)
def test_a_bare_number_is_no_place_among_labels_that_say_numbers(names: tuple[str, ...]) -> None:
    assert not any(
        reading(said, *names) is not None for said in (0, 1, "0", "1", 1.0, f"0 ({names[0]})", f"{names[1]}: 1")
    )
    assert [reading(name, *names) for name in names] == [*range(len(names))]


def test_signs_and_negations_keep_labels_apart() -> None:
    assert [reading(said, "A+", "A-") for said in ("a+", "A\u2212", "A", "A -")] == [0, 1, None, None]
    assert [reading(said, "A", "A-") for said in ("A_", "A-_", "A", "A\u2013")] == [
        0,
        1,
        0,
        1,
    ], "an underscore makes no sign a joint"
    assert [reading(said, "\u2264 5", "5", "> 5") for said in ("<=5", "\u22645", 5, ">5", "> 5", "<5")] == [
        0,
        0,
        1,
        2,
        2,
        None,
    ]
    assert [
        reading(said, "eligible", "not eligible")
        for said in ("not eligible", "Not-Eligible.", "eligible", "not not eligible")
    ] == [
        1,
        1,
        0,
        None,
    ]
    assert (
        reading("irrelevant", "not relevant", "irrelevant") == 1
        and reading("not relevant", "not relevant", "irrelevant") == 0
    )
    assert reading("not eligible", "excluded", "ineligible") is None, "either of the two"
    assert (
        reading("not eligible", "excluded", "not eligible", "eligible") == 1
        and reading("ineligible", "Excluded.", "eligible") == 0
    )


@pytest.mark.parametrize(
    "names",
    [
        ("T1-T2", "T1 T2"),
        ("a", "A"),
        ("1", "01"),
        ("2", "2.0"),
        ("pos.", "pos"),
        ("Crohn's", "crohn\u2019s"),
        ("x", '"x"'),
    ],
)
def test_labels_that_meet_are_refused_by_name(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refused:
        refuse_labels(names)
    assert all(f"'{name}'" in str(refused.value) for name in names)
    with pytest.raises(InputError, match=r"^cases, row 3: labels 1 and 2 are one") as refused:
        refuse_labels(names, "cases, row 3")
    assert names[1] not in str(refused.value).removeprefix("cases, row 3: labels 1 and 2")[:3] and "'" + names[
        0
    ] not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("..", "says nothing"), ("x" * 201, "201 characters"), ("</answer>", "like a tag"), ("", "nothing")],
)
def test_a_label_that_no_answer_can_give_is_refused(name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        refuse_labels(("fine", name))
    assert problem_of(("fine", "< 5", "x" * 200, "T4 <-> T3", "<unknown")) is None


def test_a_recipe_a_task_to_be_asked_and_a_file_of_cases_refuse_labels_that_meet(tmp_path: Path) -> None:
    said = {"path": "q.csv", "kind": "label"}
    with pytest.raises(ValueError, match="labels 'T1-T2' and 'T1 T2' are one"):
        TableFile.model_validate({**said, "labels": ["T1-T2", "T1 T2"]})
    with pytest.raises(ValueError, match="decimal point"):
        TableFile.model_validate({**said, "labels": [0.5, 1.5]})
    with pytest.raises(InputError, match="labels 'low' and 'Low' are one"):
        ehr_to_ask(*times_file(tmp_path), answers=["low", "Low"])
    unfit = [
        (["x y", "x-y"], 0, "row 1, column 'truth': labels 1 and 2 are one"),
        (["x"], 1, "no place among 1 labels"),
        (["x"], True, "no place"),
    ]
    for labels, value, problem in [*unfit, ([1, 2], 0, "no list of labels"), ([], 0, "no list"), ("x", 0, "no list")]:
        truth = {"kind": "label", "value": value, "labels": labels}
        save_cases(
            [Case("c", "table", "t", "table/t/label", "train", "g", {"question": "q?", "record": ""}, truth)],
            tmp_path / "c.parquet",
        )
        with pytest.raises(InputError, match=problem) as refused:
            load_cases(tmp_path / "c.parquet")
        assert "x y" not in str(refused.value)


def test_a_question_lists_its_labels_so_that_they_can_be_told_apart() -> None:
    assert (
        listed(["no", "yes"]) == "no, yes"
        and listed(["a, b", "c"]) == '"a, b", "c"'
        and listed(["pos.", "neg."]) == '"pos.", "neg."'
    )


def test_an_audit_finds_the_words_of_labels_in_a_thought_and_no_numbers() -> None:
    truth = {"kind": "label", "value": 0, "labels": ["A+", "follow-up", "2", "not_relevant"]}
    case = Case("c", "table", "t", "table/t/label", "train", "g", {"question": "q?", "record": ""}, truth)
    said = "2 days later: Follow up, A+ (not A-), NOT RELEVANT, \u017f."
    assert [(said[start:end], number) for start, end, number in label_words(case, said)] == [
        ("Follow up", 1), ("A+", 0), ("NOT RELEVANT", 3),
    ]  # fmt: skip
    assert label_words(replace(case, truth={**truth, "labels": ["1", "2"]}), said) == []


def test_a_thousand_labels_and_the_longest_answer_are_judged_at_once() -> None:
    names = tuple(f"label {letter * 150} {number}" for number in range(500) for letter in "ab")
    labels, began = labels_of(names), time.process_time()
    for answer in (
        "label " * 66,
        names[-1],
        f"{names[0]} or {names[3]}",
        "(" * 400,
        "- " * 200,
        "1:" * 200,
        "9" * 400,
        "'" * 400,
    ):
        assert read_label(answer, labels).value == (len(names) - 1 if answer == names[-1] else None)
    assert time.process_time() - began < 1


def test_a_label_is_shown_and_rewarded_in_its_own_spelling_however_it_is_answered() -> None:
    truth = {"kind": "label", "value": 1, "labels": ["Follow-up", "2", "A+"]}
    case = Case("c", "table", "t", "table/t/label", "train", "g", {"question": "q?", "record": ""}, truth)
    for said, label, right in (("FOLLOW UP.", "Follow-up", 0.0), (2, "2", 1.0), ("a+", "A+", 0.0), (1, None, 0.0)):
        text = wrap("So.", json.dumps({"answer": said}))
        answer, reason = read(case, text)
        assert (None if reason else shown(case, answer)) == label
        question = Question(case, think=True, reward=PAPER, opening="", max_new_tokens=99).to_json()
        assert compute_score("t", text, question)["acc"] == right
    report = check_cases([replace(case, id=f"c{value}", truth={**truth, "value": value}) for value in range(3)])
    assert report.ok and report.by_corruption["place of a label that says a number"].total == 5, (
        "1 of them spells the label 2"
    )


@pytest.mark.parametrize("numbers", [["1", "2", "3"], ["0", "1"], ["3", "2", "1"]])
def test_labels_of_a_file_that_are_numbers_are_answered_by_their_numbers(numbers: list[str], tmp_path: Path) -> None:
    path = tmp_path / "asa.csv"
    path.write_text("question,answer\n" + "".join(f"{number}?,{number}.0\n" for number in numbers))
    for case in read_table_cases(TableFile(path=path, kind="label", labels=numbers))[0]:
        right = [said for said in numbers if judge(case, wrap(None, f'{{"answer": {said}}}'), think=False).correct]
        assert right == [case.fields["question"].rstrip("?")]
        assert benchmark_score(case, wrap(None, f'{{"answer": {right[0]}}}'))
