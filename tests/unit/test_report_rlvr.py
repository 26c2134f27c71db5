"""report: the alarms of a run, why a stage ended early, and which questions were asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from page_reader import Page
from run_folder import finished_run

from ehrmind.report import write_report
from ehrmind.runs import Run
from tests.stored import store

STRATA = {"medcalc/risk/curb-65": 40, "medcalc/dosage/morphine-equivalents": 60}


def changed(path: Path, **parts: Any) -> None:
    store(path, json.dumps({**json.loads(path.read_text()), **parts}))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return finished_run(tmp_path / "run", cases=14)


def page(run: Run) -> Page:
    return Page(write_report(run.path)[0].read_text(encoding="utf-8"))


def test_alarms_stand_in_a_box_above_the_figures_and_a_quiet_run_has_none(run: Run) -> None:
    assert "alarms" not in page(run).ids
    raised = {"stage": "rlvr-rlvr", "arm": "rlvr", "step": 13, "alarm": "reward_hack", "said": "the reward rose <b>"}
    changed(run.path / "results.json", alarms=[raised])
    changed(run.path / "stages" / "rlvr-rlvr.json", stopped="alarm reward_hack", step=14)
    shown = page(run)
    assert shown.ids.index("alarms") < shown.ids.index("arms")
    assert "RLVR only, step 14, reward hack: the reward rose <b>." in shown.text and "b" not in shown.tags
    assert "RLVR only was stopped after 14 steps: alarm reward_hack." in shown.text


def test_questions_asked_are_shown_by_stratum_where_the_recipe_chose_them(run: Run) -> None:
    changed(
        run.path / "stages" / "rlvr-rlvr.json",
        asked_by_stratum={"medcalc/risk/curb-65": 90},
        in_train_by_stratum=STRATA,
    )
    assert not [caption for caption in page(run).tables if "Questions asked" in caption]  # in turn: as train has them
    recipe = yaml.safe_load((run.path / "recipe.yaml").read_text())
    recipe["rlvr"]["curriculum"] = "pass_rate"
    store(run.path / "recipe.yaml", yaml.safe_dump(recipe))
    shown = page(run)
    header, *rows = shown.table("Questions asked in RLVR, drawn by their pass rate")
    assert header == ["Stratum", "In train", "pass@1 in the pilot", "RLVR only"]
    assert rows[1][0] == "medcalc/risk/curb-65" and rows[1][1] == "40" and rows[1][3] == "90 100.0\u00a0%"
    assert rows[0][1] == "60" and rows[0][3] == "0 0.0\u00a0%"
    assert "share of the questions asked (filled)" in shown.text  # the plot
