"""The benchmark's own lenient rules, reproduced without executing anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from medcalc_cases import age, date, decimal, integer

from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.prompts.protocol import wrap
from ehrmind.types import Case, InputError
from ehrmind.verify.benchmark import benchmark_score

FORMS: list[tuple[Case, Any, bool]] = [
    (decimal(25.2), 25.2, True),
    (decimal(25.2), "25.2", True),
    (decimal(25.2), 23.95, True),
    (decimal(25.2), 23.0, False),
    (decimal(25.2), "25.2 mL/min", False),
    (decimal(1234.5), "1,234.5", False),
    (decimal(25.2), "12.6 * 2", False),
    (decimal(25.2), True, False),
    (decimal(25.2), [25.2], False),
    (decimal(25.2), None, False),
    (integer(3), 3.4, True),
    (integer(3), 3.6, False),
    (integer(3), "3 points", False),
    (date(), "01/09/2007", True),
    (date(), "1/9/2007", True),
    (date(), "2007-01-09", False),
    (date(), "02/30/2007", False),
    (age(), "('14 weeks', '1 days')", True),
    (age(), [14, 1], True),
    (age(), "14 weeks, 2 days", False),
    (age(), "14 weeks", False),
]


@pytest.mark.parametrize(("case", "answer", "right"), FORMS)
def test_the_benchmarks_rules_are_kept(case: Case, answer: Any, right: bool) -> None:
    assert benchmark_score(case, wrap("x", json.dumps({"answer": answer}))) is right


def test_the_last_answer_block_counts_whatever_stands_around_it() -> None:
    right = '<answer>{"answer": 25.2, "confidence": 1}</answer>'
    assert benchmark_score(decimal(), f"So <answer>1</answer> or {right}. Yes.")
    assert not benchmark_score(decimal(), f'{right}<answer>{{"answer": 1}}</answer>')
    assert not benchmark_score(decimal(), '<answer>{"answer": 25.2,}</answer>')


def test_nothing_a_model_wrote_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch() or 25.2"
    for case in (decimal(), integer(), date(), age()):
        benchmark_score(case, wrap("x", json.dumps({"answer": code})))
        benchmark_score(case, wrap("x", code))
    assert not mark.exists()


def test_a_truth_without_a_rule_is_refused_by_name() -> None:
    case = decimal()
    other = type(case).from_json(case.to_json().replace('"kind": "decimal"', '"kind": "essay"'))
    with pytest.raises(InputError, match="of a kind for which the benchmark has no rule"):
        benchmark_score(other, "")


def test_a_label_is_right_by_its_word_or_its_number_whatever_stands_around_the_block() -> None:
    case = next(case for case in synthetic_trials(50, 0, "held_out") if case.truth["value"] == 2)
    for answer, right in (
        ('"eligible"', True),
        ("2", True),
        ('"ELIGIBLE"', True),
        ('"excluded"', False),
        ("[2]", False),
    ):
        assert benchmark_score(case, f'So: <answer>{{"answer": {answer}}}</answer> I hope.') is right
    assert not benchmark_score(case, "eligible")
