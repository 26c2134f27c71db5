"""Predictions of coded histories: written for every arm, decoding and the baseline, and
meds-evaluation's own command agrees with us.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import parse_recipe
from ehrmind.data.labels import label_truth
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.runs import Run
from ehrmind.runs.purge import purge
from ehrmind.stages.evaluation.label_predictions import write_predictions
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.tasks.ehr import measures
from ehrmind.types import Case
from tests.meds_data import START, write_meds

COLUMNS = {
    "subject_id": pl.Int64,
    "prediction_time": pl.Datetime("us"),
    "boolean_value": pl.Boolean,
    "predicted_boolean_value": pl.Boolean,
    "predicted_boolean_probability": pl.Float32,
}


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Intervals are not looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ehrmind.measures.RESAMPLES", 20)
        yield


def meds_evaluation(predictions: Path, out: Path) -> dict[str, float]:
    """Returns what its own command makes of a file, in a process of its own, every case weighted
    alike."""
    pytest.importorskip("meds_evaluation")
    out.mkdir(exist_ok=True)
    command = [
        Path(sys.executable).parent / "meds-evaluation-cli",
        f"predictions_path={predictions}",
        f"output_file={out}/found.json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads((out / "found.json").read_text())["samples_equally_weighted"]
    return found


def agrees(risk: dict[str, Any], theirs: dict[str, float]) -> None:
    """Their probabilities have single precision, which a Brier score feels and a ranking does
    not."""
    assert risk["auroc"] == pytest.approx(theirs["roc_auc_score"], abs=1e-9)
    assert risk["auprc"] == pytest.approx(theirs["average_precision_score"], abs=1e-9)
    assert risk["f1"] == pytest.approx(theirs["f1_score"], abs=1e-9)
    assert risk["brier"] == pytest.approx(theirs["brier_score"], abs=1e-6)


def cases(n: int, labels: tuple[str, ...], task: str = "relapse") -> list[Case]:
    draw = random.Random(3)
    return [
        Case(
            id=f"{task}-{place}",
            family="ehr",
            task=task,
            stratum=f"ehr/x/{task}",
            split="held_out",
            group=f"x-{place // 3}",
            fields={},
            truth=label_truth(draw.randrange(len(labels)), labels),
            provenance={
                "subject": place // 3,
                "as_of": (START + timedelta(days=place, microseconds=place)).isoformat(),
            },
        )
        for place in range(n)
    ]


@pytest.mark.parametrize("labels", [("no", "yes"), ("normal", "mild", "moderate", "severe")])
def test_meds_evaluations_own_command_finds_the_measures_of_results(tmp_path: Path, labels: tuple[str, ...]) -> None:
    """Answers with probabilities, without, and malformed ones."""
    draw = random.Random(7)
    asked = cases(300, labels)
    answers: list[int | None] = [draw.randrange(len(labels)) if draw.random() < 0.8 else None for _ in asked]
    shares: list[list[float] | None] = []
    for case in asked:
        weights = [draw.random() + (case.truth["value"] == label) / 2 for label in range(len(labels))]
        shares.append([weight / sum(weights) for weight in weights] if draw.random() < 0.7 else None)
    Run(tmp_path).manifest.create()
    write_predictions(Run(tmp_path), "base-greedy", asked, answers, shares)
    file = Run(tmp_path).predictions("base-greedy", "relapse")
    written = pl.read_parquet(file)
    assert dict(written.schema) == COLUMNS and written.height == 300
    assert written["prediction_time"].to_list() == [datetime.fromisoformat(case.provenance["as_of"]) for case in asked]
    assert written["boolean_value"].to_list() == [case.truth["value"] > 0 for case in asked]
    unknown = [place for place in range(300) if answers[place] is None and shares[place] is None]
    assert unknown and set(written["predicted_boolean_probability"].gather(unknown)) == {0.5}
    agrees(measures(asked, answers, shares)["risk"], meds_evaluation(file, tmp_path / "theirs"))


def test_a_risk_just_below_one_half_is_no_half_in_single_precision(tmp_path: Path) -> None:
    Run(tmp_path).manifest.create()
    below = 0.5 - 2**-40
    write_predictions(
        Run(tmp_path), "base-greedy", cases(3, ("no", "yes")), [0, 1, 1], [[1 - below, below], [0.5, 0.5], [0.0, 1.0]]
    )
    written = pl.read_parquet(Run(tmp_path).predictions("base-greedy", "relapse"))
    assert (
        (written["predicted_boolean_probability"] >= 0.5).to_list()
        == written["predicted_boolean_value"].to_list()
        == [False, True, True]
    )


def test_every_task_has_its_file_and_other_families_have_none(tmp_path: Path) -> None:
    Run(tmp_path).manifest.create()
    odd = cases(4, ("no", "yes"), "a/b")
    other = Case("m", "medcalc", "bmi", "medcalc/physical/bmi", "held_out", "g", {}, {"kind": "decimal", "value": 1.0})
    write_predictions(
        Run(tmp_path), "base-greedy", [*odd, other, *cases(6, ("no", "yes"), "a-b")], [1] * 11, [None] * 11
    )
    files = sorted((tmp_path / "protected" / "predictions").iterdir())
    assert sorted(pl.read_parquet(file).height for file in files) == [4, 6]
    assert {Run(tmp_path).predictions("base-greedy", task) for task in ("a/b", "a-b")} == set(files)


def plan(prompt: str, key: int, member: int, skill: int) -> str:
    """Yes where the potassium was high, but for some; nothing to be read of others."""
    if "0 years old" in prompt:
        return "who knows"
    return (
        '<think>so</think>\n<answer>{"answer":'
        f' "{"yes" if "5.6 mmol/L" in prompt and "5 years old" not in prompt else "no"}"}}</answer>'
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two arms under two decodings, where meds-evaluation is not installed; the same task elsewhere
    too."""
    folder = tmp_path_factory.mktemp("predictions")
    source = {
        "ehr": {
            "meds": str(write_meds(folder / "meds", 150)),
            "labels": str(folder / "meds" / "labels" / "high_potassium"),
        }
    }
    data = {"source": source, "held_out": {"limit": 25}, "transfer": {"again": source}}
    small = {"pilot": {"questions": 4, "samples": 2}, "warmup": {"epochs": 1}, "arms": ["base", "sft"]}
    ScriptedEngine(plan).save(folder / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "meds_evaluation", None)
        recipe = parse_recipe({"data": data, "model": {"name": "base"}, **small})
        return run_pipeline(
            recipe,
            folder / "run",
            open_engine=lambda _, where: ScriptedEngine.load(where, plan),
            locate=lambda _: folder / "base",
        )


def test_a_run_leaves_the_predictions_of_every_arm_and_decoding_and_of_the_baseline(done: Run) -> None:
    scored = {f"{arm}-{how}" for arm in ("base", "sft") for how in ("greedy", "sampled")} | {"gradient_boosting"}
    scored |= {f"transfer-again-{arm}-greedy" for arm in ("base", "sft")}
    assert {file.name for file in done.path.rglob("predictions/*")} == {
        f"{name}-high_potassium.parquet" for name in scored
    }
    assert all(file.is_relative_to(done.protected) for file in done.path.rglob("predictions"))
    held_out = pl.read_parquet(done.predictions("base-greedy", "high_potassium"))
    assert held_out["subject_id"].to_list() == [case.provenance["subject"] for case in done.load_cases()["held_out"]]
    assert (
        pl.read_parquet(done.predictions("transfer-again-base-greedy", "high_potassium")).height == 30 > held_out.height
    )


@pytest.mark.slow
def test_meds_evaluation_and_the_runs_results_agree(done: Run, tmp_path: Path) -> None:
    results = json.loads((done.path / "results.json").read_text())
    arms, boosted = results["arms"], results["baselines"]["gradient_boosting"]
    ours = {"base-greedy": arms["base"]["measures"], "gradient_boosting": boosted}
    ours["transfer-again-base-greedy"] = results["transfer"]["again"]["arms"]["base"]["measures"]
    assert 0.5 < arms["base"]["measures"]["ehr/high_potassium"]["risk"]["auroc"] < 1
    for scored, found in ours.items():
        agrees(
            found["ehr/high_potassium"]["risk"],
            meds_evaluation(done.predictions(scored, "high_potassium"), tmp_path / scored),
        )


def test_purging_removes_them(done: Run, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(done.path, tmp_path / "copy"))
    purge(copy)
    assert not list(copy.rglob("predictions"))
