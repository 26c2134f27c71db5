"""Labels recomputed from what a row says of its inputs, and worked answers written from the
calculators' steps.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ehrmind.config import parse_recipe
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.relabel import benchmark_answer, recomputed
from ehrmind.prompts import gold_response
from ehrmind.tasks import medcalc
from ehrmind.types import Case, InputError
from ehrmind.verify.judge import judge
from tests.medcalc_cases import ONE_OF_EACH_KIND, integer

GCS = (
    "{'Best eye response': 'eyes open spontaneously', 'Best verbal response': 'confused', 'Best motor response': 'obeys"
    " commands'}"
)


def row(name: str, value: int, entities: str | None) -> Case:
    """A row of the Glasgow Coma Score, which is 14 by these entities; the first release stores
    18."""
    return replace(integer(value, calculator=21, name=name), provenance={"entities": entities} if entities else {})


def test_a_wrong_label_is_changed_a_right_one_kept_and_one_that_cannot_be_computed_left_out() -> None:
    before = [
        row("right", 14, GCS),
        row("wrong", 18, GCS),
        row("bare", 18, None),
        row("unfit", 18, "{'Best eye response': 'green'}"),
    ]
    after, counts = recomputed(before)
    assert [(case.id, case.truth["value"]) for case in after] == [("right", 14), ("wrong", 14)]
    assert after[0] == before[0]
    assert "So the answer is 14 points." in (after[1].rationale or "")
    assert judge(after[1], gold_response(after[1])).correct
    assert counts == {
        "label kept": 1,
        "label changed": 1,
        "left out: it has no entities": 1,
        "left out: its entities cannot be computed": 1,
    }


def test_a_worked_answer_is_the_calculators_own_in_a_drawn_style() -> None:
    case = row("right", 14, GCS)
    told = [medcalc.worked(case, random.Random(seed)) for seed in range(40)]
    assert all(found is not None and judge(case, gold_response(found)).correct for found in told)
    assert len({found.rationale for found in told if found}) == 5


def test_a_worked_answer_that_contradicts_the_label_is_refused_by_the_verifier() -> None:
    case = row("wrong", 18, GCS)
    told = medcalc.worked(case, random.Random(0))
    assert told is not None
    assert not judge(case, gold_response(told)).correct


def test_there_is_no_worked_answer_without_inputs() -> None:
    assert medcalc.worked(row("bare", 18, None), random.Random(0)) is None


@pytest.mark.parametrize("case", ONE_OF_EACH_KIND)
def test_answers_are_written_as_the_benchmark_writes_them(case: Case) -> None:
    written = {"decimal": "25.2", "integer": "3", "date": "01/09/2007", "weeks_days": "('14 weeks', '1 days')"}
    assert benchmark_answer(case.truth) == written[case.truth["kind"]]


def test_labels_of_synthetic_cases_are_not_recomputed_twice() -> None:
    source = {"synthetic": {"n": 5}, "recompute": True}
    with pytest.raises(InputError, match="recompute is for medcalc files"):
        parse_recipe({"data": {"train": source, "held_out": {"synthetic": {"n": 5}}}, "model": {"tiny": {}}})


def test_real_labels_are_recomputed_and_every_row_is_counted(data_dir: Path) -> None:
    cases, _ = read_medcalc([data_dir / "medcalc-bench" / "test_v1.0_dev.csv.gz"], split="held_out")
    after, counts = recomputed(cases)
    assert sum(counts.values()) == len(cases) == 522
    assert counts["label changed"] > 80
    by_task = Counter(case.task for case in after)
    assert by_task["glasgow-coma-score"] < Counter(case.task for case in cases)["glasgow-coma-score"], (
        "not testable has no total"
    )
    assert all(judge(case, gold_response(case)).correct for case in after)
