"""Hints that a question may carry: entities, formula, criteria, events, and a table's own
columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ehrmind import tasks
from ehrmind.calculators import CALCULATORS
from ehrmind.config.data import TableFile
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.data.table import read_table_cases
from ehrmind.prompts.chat import PromptVariant, gold_response, messages
from ehrmind.prompts.protocol import TOOL_OPEN
from ehrmind.types import Case


@pytest.mark.parametrize("task", ["curb-65", "ckd-epi-gfr", "estimated-due-date"])
def test_the_entities_of_a_synthetic_case_are_those_its_note_was_written_around(task: str) -> None:
    (case,) = synthetic_cases(1, 5, "train", [task])
    hint = tasks.of(case).hints(case)["entities"]
    for item in CALCULATORS[task].inputs:
        assert (item.label in hint) == (item.name in case.provenance["inputs"])


def test_the_entities_of_a_benchmark_row_are_read_from_its_dictionary() -> None:
    (case,) = synthetic_cases(1, 5, "train", ["body-mass-index"])
    row = dataclasses.replace(
        case, provenance={"entities": "{'weight': [81.5, 'kg'], 'height': [170, 'cm'], 'mood': 'good'}"}
    )
    hint = tasks.of(row).hints(row)["entities"]
    assert "weight 81.5 kg" in hint and "height 170 cm" in hint and "mood" not in hint


def test_a_row_that_says_nothing_of_its_entities_has_the_formula_only() -> None:
    (case,) = synthetic_cases(1, 5, "train", ["body-mass-index"])
    assert set(tasks.of(case).hints(dataclasses.replace(case, provenance={}))) == {"formula"}


def test_an_open_book_stands_between_record_and_question_and_only_where_asked() -> None:
    (case,) = synthetic_cases(1, 5, "train", ["maintenance-fluids"])
    formula = CALCULATORS["maintenance-fluids"].formula
    (plain,), (open_book,) = messages(case), messages(case, variant=PromptVariant(hints=("formula", "unheard of")))
    assert formula not in plain.content
    assert case.fields["note"] in open_book.content.partition(formula)[0]
    assert case.fields["question"] in open_book.content.partition(formula)[2]


def test_criteria_are_listed_one_by_one() -> None:
    (case,) = synthetic_trials(1, seed=3, split="train")
    hint = tasks.of(case).hints(case)["criteria"]
    criteria = [
        line for name in ("inclusion", "exclusion", "criteria") for line in case.fields[name].split("\n") if line
    ]
    assert criteria and all(f": {criterion}" in hint for criterion in criteria)


def test_deciding_events_are_the_historys_lines_about_what_is_asked() -> None:
    history = "2020-01-01 creatinine 1.2 mg/dL\n2020-01-02 sodium 140 mmol/L\n2020-02-01 creatinine 1.9 mg/dL"
    case = Case(
        "c",
        "ehr",
        "next_creatinine_high",
        "ehr/lab/next_creatinine_high",
        "train",
        "p",
        {"history": history},
        {"labels": ["no", "yes"]},
    )
    hint = tasks.of(case).hints(case)["events"]
    assert "1.2" in hint and "1.9" in hint and "sodium" not in hint
    assert tasks.of(case).hints(dataclasses.replace(case, task="my_own")) == {}


def test_a_tables_own_columns_can_be_aids(tmp_path: Path) -> None:
    path = tmp_path / "sums.csv"
    path.write_text("question,answer,hint\nTwo and two?,4,Count your fingers.\nThree and three?,6,\n")
    cases, _ = read_table_cases(TableFile(path=path, kind="integer", hints={"formula": "hint"}))
    assert [tasks.of(case).hints(case) for case in cases] == [{"formula": "Count your fingers."}, {}]


def test_worked_examples_are_earlier_turns() -> None:
    first, second = synthetic_cases(2, 5, "train", ["maintenance-fluids"])
    turns = messages(second, variant=PromptVariant(shots={first.stratum: ((first, gold_response(first)),)}))
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert first.fields["note"] in turns[0].content and second.fields["note"] in turns[2].content


def test_a_tool_is_offered_only_where_there_is_one() -> None:
    (case,) = synthetic_cases(1, 5, "train", ["maintenance-fluids"])
    assert TOOL_OPEN not in messages(case)[0].content
    assert TOOL_OPEN in messages(case, variant=PromptVariant(tool=True))[0].content
