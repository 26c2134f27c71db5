"""Gradient boosting on counts: it learns what counts can tell, sees nothing of the future, and
appears with the arms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ehrmind.config import EhrFiles, parse_recipe
from ehrmind.data.ehr import read_ehr
from ehrmind.data.synthetic.cohort import write_cohort
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report import write_report
from ehrmind.stages.evaluation.boosting import boosted_counts
from ehrmind.stages.seeds import run_seeds
from ehrmind.types import Case
from tests.meds_data import write_meds


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Case]]:
    folder = tmp_path_factory.mktemp("cohort") / "meds"
    write_cohort(folder, 400, seed=1, events_per_subject=200)
    cases, _ = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "next_creatinine_high"))
    return {split: [case for case in cases if case.split == split] for split in ("train", "held_out")}


def auroc(train: Sequence[Case], held_out: Sequence[Case]) -> float:
    from sklearn.metrics import roc_auc_score

    found = boosted_counts(train, held_out, seed=0)
    risks = [1 - (found[case.id].probabilities or (1.0,))[0] for case in held_out]
    return float(roc_auc_score([case.truth["value"] > 0 for case in held_out], risks))


def test_counts_of_codes_tell_who_has_kidney_disease(cohort: dict[str, list[Case]]) -> None:
    assert auroc(cohort["train"], cohort["held_out"]) > 0.75


def test_the_same_seed_gives_the_same_figures(cohort: dict[str, list[Case]]) -> None:
    first, again = (boosted_counts(cohort["train"][:500], cohort["held_out"][:100], seed=3) for _ in range(2))
    assert first == again


def test_a_label_that_only_the_future_tells_is_not_learnt(tmp_path: Path) -> None:
    """Every subject has the same codes before the prediction time; what comes after is another code
    for the positive ones."""
    import polars as pl

    folder = write_meds(tmp_path, 60)
    positive = pl.read_parquet(folder / "labels" / "high_potassium" / "labels.parquet").filter("boolean_value")[
        "subject_id"
    ]
    for shard in (folder / "data").rglob("*.parquet"):
        events = pl.read_parquet(shard)
        later = (pl.col("code") == "RxNorm/161") & pl.col("subject_id").is_in(positive.implode())
        events.with_columns(pl.when(later).then(pl.lit("RxNorm/2")).otherwise("code").alias("code")).write_parquet(
            shard
        )
    cases, _ = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))
    train, held_out = ([case for case in cases if case.split == split] for split in ("train", "held_out"))
    assert auroc(train, held_out) < 0.9


def test_one_label_in_training_gives_no_model(cohort: dict[str, list[Case]]) -> None:
    assert (
        boosted_counts([case for case in cohort["train"] if not case.truth["value"]], cohort["held_out"], seed=0) == {}
    )


@pytest.mark.slow
def test_it_stands_beside_the_arms_in_results_and_page_of_every_seed_and_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ehrmind.measures.RESAMPLES", 20)  # intervals are not looked at here
    folder = write_meds(tmp_path / "meds", 60)

    def plan(prompt: str, key: int, member: int, skill: int) -> str:
        return f'<think>so</think>\n<answer>{{"answer": "{"yes" if "5.6 mmol/L" in prompt else "no"}"}}</answer>'

    ScriptedEngine(plan).save(tmp_path / "base")
    source = {"ehr": {"meds": str(folder), "labels": str(folder / "labels" / "high_potassium")}}
    small = {"pilot": {"questions": 4, "samples": 2}, "arms": ["base"], "evaluate": {"decodings": ["greedy"]}}
    chosen = parse_recipe({"data": {"source": source}, "model": {"name": "base"}, "seeds": 2, **small})
    done = run_seeds(
        chosen,
        tmp_path / "run",
        open_engine=lambda _, where: ScriptedEngine.load(where, plan),
        locate=lambda _: tmp_path / "base",
    )
    for part, times in ((done.seeds()[0], 1), (done, 2)):
        results = json.loads((part.path / "results.json").read_text())
        assert results["arms"]["base"]["measures"]["ehr/high_potassium"]["risk"]["auroc"] == 1.0
        assert results["arms"]["base"]["process"]["conclusion"] is None
        assert results["baselines"]["gradient_boosting"]["ehr/high_potassium"]["n"] == 12 * times
        assert results["baselines"]["majority_label"]["ehr/high_potassium"]["risk"]["auroc"] == 0.5
        found = results["baseline_accuracy"]
        assert set(found) == {"majority_label", "gradient_boosting"} and found["majority_label"]["n"] == 12 * times
        assert found["majority_label"]["differences"]["base"]["difference"] > 0
        (page,) = write_report(part.path)
        assert all(
            word in page.read_text() for word in ("Gradient boosting on counts", "Majority label of train", "AUROC")
        )
