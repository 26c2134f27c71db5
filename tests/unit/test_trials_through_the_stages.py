"""Patient-trial matching through all stages with a scripted engine: results, measures, run files,
page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report import write_report
from ehrmind.runs import Run
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import InputError


def plan(prompt: str, key: int, member: int, skill: int) -> str:
    """Before training, everyone is eligible; after it, the condition is looked up, and criteria are
    not."""
    condition = prompt.rpartition("Conditions: ")[2].partition("\n")[0]
    label = "eligible" if skill < 3 or f"{condition} yes" in prompt else "not relevant"
    return f'<think>{condition}</think>\n<answer>{{"answer": "{label}"}}</answer>'


def recipe() -> Recipe:
    data: dict[str, Any] = {
        split: {"synthetic": {"family": "trials", "n": n, "seed": seed, "difficulty": "easy"}}
        for seed, (split, n) in enumerate((("train", 60), ("tuning", 10), ("held_out", 60)))
    }
    drugs = {"synthetic": {"family": "trials", "n": 30, "seed": 7, "tasks": ["drugs"], "difficulty": "easy"}}
    calculations = {"synthetic": {"n": 12, "seed": 8, "tasks": ["maintenance-fluids"], "difficulty": "easy"}}
    data["transfer"] = {"drugs": drugs, "calculations": calculations}
    small = {
        "pilot": {"questions": 10, "samples": 2},
        "warmup": {"epochs": 1},
        "rlvr": {"steps": 2, "questions_per_step": 4, "samples": 2},
    }
    return parse_recipe({"data": data, "model": {"name": "base"}, "evaluate": {"trec_runs": True}, **small})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trials")
    ScriptedEngine(plan).save(folder / "base")
    return run_pipeline(
        recipe(),
        folder / "run",
        open_engine=lambda _, where: ScriptedEngine.load(where, plan),
        locate=lambda _: folder / "base",
    )


def test_results_have_the_measures_of_labels_and_the_ranking(done: Run) -> None:
    arms = json.loads((done.path / "results.json").read_text())["arms"]
    base, better = (arms[arm]["measures"]["trials/eligibility"] for arm in ("base", "sft_rlvr"))
    assert base["balanced_accuracy"] == pytest.approx(1 / 3) and base["kappa"] == pytest.approx(0)
    assert better["balanced_accuracy"] == pytest.approx(2 / 3) and better["accuracy"] == arms["sft_rlvr"]["accuracy"]
    assert better["ranking"]["ndcg@10"] > base["ranking"]["ndcg@10"]


def test_baselines_have_the_measures_of_the_arms_and_are_asked_elsewhere_too(done: Run) -> None:
    results = json.loads((done.path / "results.json").read_text())
    found = {name: of["trials/eligibility"] for name, of in results["baselines"].items()}
    assert set(found) == {"majority_label", "bag_of_words"} == set(results["baseline_accuracy"])
    assert found["majority_label"]["kappa"] == 0 and found["majority_label"]["balanced_accuracy"] == pytest.approx(
        1 / 3
    )
    assert found["bag_of_words"]["accuracy"] == results["baseline_accuracy"]["bag_of_words"]["accuracy"]
    assert 0 < found["bag_of_words"]["ranking"]["ndcg@10"] <= 1
    assert results["transfer"]["drugs"]["baseline_accuracy"]["bag_of_words"]["n"] == 30
    assert "baseline_accuracy" not in results["transfer"]["calculations"]


def test_arms_are_scored_elsewhere_and_apart(done: Run) -> None:
    results = json.loads((done.path / "results.json").read_text())
    assert {name: place["arms"]["base"]["n"] for name, place in results["transfer"].items()} == {
        "drugs": 30,
        "calculations": 12,
    }
    assert results["transfer"]["calculations"]["arms"]["sft_rlvr"]["correct"] == 0
    better = results["transfer"]["drugs"]["arms"]
    assert (
        better["sft_rlvr"]["accuracy"] > better["base"]["accuracy"]
        and better["base"]["n"] != results["arms"]["base"]["n"]
    )
    assert "sft_rlvr-base" in results["transfer"]["drugs"]["pairs"]
    assert len(results["held_out_scorings"]) == 4 * (2 + 2)


def test_a_patient_who_is_elsewhere_too_is_a_leak(tmp_path: Path) -> None:
    ScriptedEngine(plan).save(tmp_path / "base")
    tree = recipe().model_dump(mode="json")
    tree["data"]["transfer"]["drugs"] = tree["data"]["train"]
    with pytest.raises(InputError, match="Leak: 12 group"):
        run_pipeline(
            parse_recipe(tree),
            tmp_path / "run",
            open_engine=lambda _, where: ScriptedEngine.load(where, plan),
            locate=lambda _: tmp_path / "base",
        )


def test_every_answer_has_the_probabilities_of_its_labels(done: Run) -> None:
    rows = done.read_rollouts("evaluate-base-greedy")
    assert rows["probabilities"].dtype == pl.List(pl.Float64)
    assert all(abs(sum(row) - 1) < 1e-9 and len(row) == 3 for row in rows["probabilities"])
    assert done.read_rollouts("pilot")["probabilities"].is_null().all()  # the pilot asks for none


def test_run_files_rank_every_patients_trials(done: Run) -> None:
    lines = (done.path / "trec_runs" / "sft_rlvr-greedy.txt").read_text().splitlines()
    assert (
        len(lines) == 60
        and {line.split()[1] for line in lines} == {"Q0"}
        and {line.split()[3] for line in lines} == {"1", "2", "3", "4", "5"}
    )


def test_the_page_shows_measures_and_confusion(done: Run) -> None:
    (page,) = write_report(done.path)
    html = page.read_text()
    for text in (
        "Transfer",
        "calculations",
        "Measures of labels",
        "Balanced accuracy",
        "nDCG@10",
        "Which label was answered as which",
        "not relevant",
    ):
        assert text in html
