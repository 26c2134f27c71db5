"""report: the sentences on top of the page, and their order."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from run_folder import finished_run

from ehrmind.report.reading import Figures, read_run
from ehrmind.report.summary import summary
from ehrmind.runs.records import Results

LABELS = {
    "n": 40, "accuracy": 0.75, "labels": ["no", "yes"], "confusion": [[30, 0, 0], [10, 0, 0]], "balanced_accuracy": 0.5, "macro_f1": 0.4, "kappa": 0.0,
    "balanced": {"macro_f1": 0.3, "kappa": 0.0},
}  # fmt: skip
RISK = {
    "n": 40,
    "positive": 10,
    "subjects": 40,
    "auprc": 0.5,
    "brier": 0.2,
    "f1": 0.5,
    "balanced_accuracy": 0.5,
    "calibration": [],
}


def pair(difference: float, low: float, high: float) -> dict[str, Any]:
    return {"difference": difference, "ci95": [low, high], "p": 0.01, "interval": "newcombe"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return read_run(finished_run(tmp_path_factory.mktemp("summary") / "run", cases=14))


def said(finished: Figures, **changes: Any) -> list[str]:
    tree = finished.results.to_dict() | changes
    return summary(dataclasses.replace(finished, results=Results.from_dict(tree, "results.json")))


def elsewhere(finished: Figures, **pairs: dict[str, Any]) -> dict[str, Any]:
    arms = finished.results.to_dict()["arms"]
    return {name: {"arms": arms, "pairs": {"sft_rlvr-base": of_set}} for name, of_set in pairs.items()}


def test_the_headline_compares_with_base_and_with_the_arm_before(finished: Figures) -> None:
    first = said(finished)[0]
    assert first.startswith("SFT + RLVR answers ") and first.index("; Base ") < first.index("; SFT only ")
    assert first.count("a difference of ") == 2


def test_a_loss_on_a_transfer_set_is_named_and_one_by_chance_is_not(finished: Figures) -> None:
    sets = elsewhere(finished, readmission=pair(-0.2, -0.3, -0.1), trials=pair(-0.05, -0.12, 0.02))
    second = said(finished, transfer=sets)[1]
    assert second == "SFT + RLVR is worse than Base on readmission by −20.0 points (−30.0 to −10.0, p = 0.010)."


def test_no_loss_is_said_with_the_number_of_sets_and_no_question_elsewhere_as_what_it_is(finished: Figures) -> None:
    sets = elsewhere(finished, trials=pair(-0.05, -0.12, 0.02))
    assert said(finished, transfer=sets)[1] == "On none of 2 sets of cases is SFT + RLVR worse than Base beyond chance."
    assert "so nothing is known of losses elsewhere" in said(finished)[1]


def test_risks_are_led_by_the_auroc_of_arms_and_baselines(finished: Figures) -> None:
    arms = finished.results.to_dict()["arms"]
    measured = {"sft_rlvr": RISK | {"auroc": 0.7, "ci95": {"auroc": [0.6, 0.8]}}, "base": RISK | {"auroc": 0.5}}
    for arm, risk in measured.items():
        arms[arm] = arms[arm] | {"measures": {"ehr/readmission": LABELS | {"risk": risk}}}
    boosting = {"gradient_boosting": {"ehr/readmission": LABELS | {"risk": RISK | {"auroc": 0.75}}}}
    assert said(finished, arms=arms, baselines=boosting)[0] == (
        "AUROC on ehr/readmission: SFT + RLVR 0.700 (0.600 to 0.800) of 40 held-out cases, 10 with the outcome; Base "
        "0.500; Gradient boosting on counts 0.750."
    )


def test_accuracy_never_stands_without_the_majoritys(finished: Figures) -> None:
    majority = {
        "n": 14, "correct": 10, "accuracy": 0.714, "ci95": [0.45, 0.88], "groups": 14, "interval": "wilson", "unanswered": 0,
        "by_stratum": {}, "differences": {},
    }  # fmt: skip
    first = said(finished, baseline_accuracy={"majority_label": majority})[0]
    assert first.endswith("; always the commonest label 71.4\u00a0%.")
