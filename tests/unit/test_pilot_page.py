"""report: the page of a pilot."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_reader import Page
from run_folder import CANARY, finished_run

from ehrmind.report import write_report
from ehrmind.runs import Run
from ehrmind.runs.records import Diagnosis, ExpectedGain, ExpectedGains, Plan, WarmUpPlan
from tests.stored import drop


@pytest.fixture
def piloted(tmp_path: Path) -> Run:
    """A run of which nothing but a pilot was asked."""
    run = finished_run(tmp_path / "run", cases=14)
    drop(run.path / "results.json")
    run.write_json("provenance.json", run.read_json("provenance.json") | {"stages": ["pilot"]})
    expected = ExpectedGains(rlvr={"medcalc/risk/lacking": ExpectedGain(gain=0.25, low=0.1, high=0.4)})
    warm_up = WarmUpPlan(
        strata="missing",
        traces="calculators",
        traces_per_stratum={"medcalc/risk/lacking": 12},
        rehearsal=0.0,
        rehearse="none",
    )
    plan = Plan(
        warm_up=warm_up, arms=("sft_rlvr",), without_worked_answers=(), because=("Much is missing.",), expected=expected
    )
    run.write_record("plan.json", plan)
    return run


def test_the_page_says_what_the_base_model_can_do_what_to_train_and_how(piloted: Run) -> None:
    (path,) = write_report(piloted.path)
    page = Page(path.read_text(encoding="utf-8"))
    found = piloted.read_record("pilot.json", Diagnosis)
    assert found is not None
    assert f"{found.overall.questions} training questions right" in page.text  # type: ignore[union-attr]
    assert "Much is missing." in page.text and "a warm-up on 12 worked answers (calculators) in 1 strata" in page.text
    assert "ehrmind run RUN/recipe.yaml --out RUN --resume" in page.text
    assert len(page.table("The base model on training questions")) == 1 + len(found.by_stratum) + 1


def test_a_pilot_without_a_plan_says_of_which_kinds_its_strata_are(piloted: Run) -> None:
    piloted.remove("plan.json")
    found = piloted.read_record("pilot.json", Diagnosis)
    assert found is not None
    said = f"{len(found.strata('misapplied'))} misapplied, {len(found.strata('missing'))} missing."
    assert said in Page(write_report(piloted.path)[0].read_text(encoding="utf-8")).text


def test_failures_are_counted_by_their_reason(piloted: Run) -> None:
    header, *rows = Page(write_report(piloted.path)[0].read_text(encoding="utf-8")).table("Why sampled answers failed")
    answers = piloted.read_rollouts("pilot")
    assert header == ["Reason", "Answers", "Share of all"]
    assert sum(int(row[1]) for row in rows) == (~answers["correct"]).sum() > 0
    assert {row[0] for row in rows} == {reason or "wrong" for reason in answers.filter(~answers["correct"])["reason"]}


def test_record_text_is_on_the_page_with_text_alone(piloted: Run) -> None:
    page, with_text = write_report(piloted.path, with_text=True)
    assert CANARY not in page.read_text(encoding="utf-8") and CANARY in with_text.read_text(encoding="utf-8")
    assert with_text.parent.name == "protected"


def test_a_purged_pilot_keeps_its_figures(piloted: Run) -> None:
    piloted.remove("protected/rollouts")
    page = Page(write_report(piloted.path)[0].read_text(encoding="utf-8"))
    assert "Why sampled answers failed" not in "".join(page.tables) and "What the base model can do" in page.text
