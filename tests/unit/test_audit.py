"""The proof without a model: gold passes, corruptions do not, and the proof itself can fail."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from medcalc_cases import ONE_OF_EACH_KIND, decimal, integer, synthetic

from ehrmind.types import Case, Verdict
from ehrmind.verify import audit
from ehrmind.verify.audit import check_cases

CASES = [
    *ONE_OF_EACH_KIND,
    integer(-1, name="second"),
    decimal(0.0, calculator=46),
    decimal(-2.5, calculator=67),
    decimal(29.0, name="next"),
]

REQUIRED = {
    "wrong value",
    "another case's answer",
    "integer off by 0.4",
    "wrong unit",
    "expression",
    "list of guesses",
    "range",
    "no value",
    "duplicated block",
    "missing tag",
    "text after",
    "text before",
    "empty thinking",
    "no thinking",
    "hostile text",
    "nested tags",
    "megabyte of noise",
    "deep nesting",
    "truncated",
    "not JSON",
    "trailing comma",
    "missing key",
    "unexpected key",
    "duplicated key",
    "not finite",
}


@pytest.mark.parametrize("think", [True, False])
def test_gold_earns_full_marks_and_no_corruption_does(think: bool) -> None:
    report = check_cases(CASES, think)
    assert report.ok
    assert (report.gold.passed, report.gold.total) == (len(CASES), len(CASES))
    assert report.corrupted.passed == 0
    assert report.corrupted.total > 60 * len(CASES)
    assert report.failures == []


def test_every_required_corruption_is_made() -> None:
    assert check_cases(CASES).by_corruption.keys() >= REQUIRED


def test_the_report_adds_up_by_stratum_and_by_corruption_and_is_json() -> None:
    report = check_cases(CASES)
    assert set(report.by_stratum) == {case.stratum for case in CASES}
    assert sum(rows["gold"].total for rows in report.by_stratum.values()) == report.gold.total
    assert sum(rows["corrupted"].total for rows in report.by_stratum.values()) == report.corrupted.total
    assert sum(tally.total for tally in report.by_corruption.values()) == report.corrupted.total
    tree = json.loads(json.dumps(report.to_dict()))
    assert (tree["ok"], tree["gold"]) == (True, {"total": len(CASES), "passed": len(CASES)})


def test_a_truth_outside_its_own_limits_fails_and_is_named_by_id_without_its_text() -> None:
    broken = synthetic(
        {"kind": "decimal", "value": 9.0, "low": 1.0, "high": 2.0, "unit": "mL/min", "calculator": 2},
        name="broken-7",
        note="canary",
    )
    report = check_cases([*CASES, broken])
    assert not report.ok
    assert report.gold_failures_by_reason == {"out of limits": 1}
    assert [failure["case"] for failure in report.failures if failure["what"] == "gold"] == ["broken-7"]
    assert "canary" not in json.dumps(report.to_dict())


def test_a_verifier_that_lets_a_corruption_pass_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = audit.judge

    def forgiving(case: Case, text: str, **options: Any) -> Verdict:
        return honest(case, text.replace("I hope this helps.", ""), **options)

    monkeypatch.setattr(audit, "judge", forgiving)
    report = check_cases(CASES)
    assert not report.ok
    assert report.by_corruption["text after"].passed == len(CASES)
    assert {failure["what"] for failure in report.failures} == {"text after"}


def test_nothing_checked_is_not_proven() -> None:
    assert not check_cases([]).ok


def test_another_cases_answer_that_is_right_here_too_is_no_corruption() -> None:
    twin = dataclasses.replace(integer(3), id="twin")
    assert "another case's answer" not in check_cases([integer(3), twin]).by_corruption
    near = decimal(25.3, name="near")
    assert "another case's answer" not in check_cases([decimal(25.2), near]).by_corruption
    assert check_cases([decimal(25.2), decimal(50.0, name="far")]).by_corruption["another case's answer"].total == 1
