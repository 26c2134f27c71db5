"""The synthetic MEDS data set: valid, a function of its seed, correlated as medicine is, its labels
true of its events.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ehrmind.config import EhrFiles
from ehrmind.data.ehr import read_ehr
from ehrmind.data.meds import open_meds
from ehrmind.data.synthetic.cohort import HIGH_CREATININE, LOW_HEMOGLOBIN, SUBJECTS_A_SHARD, TASKS, write_cohort
from ehrmind.verify.audit import check_cases

N = SUBJECTS_A_SHARD + 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "meds"
    counts = write_cohort(folder, N, seed=3)
    events = pl.scan_parquet(folder / "data" / "*.parquet").select(pl.len()).collect().item()
    assert counts["events"] == events and 300 * N < events < 500 * N
    return folder


def events_of(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "data" / "*.parquet")


def test_it_is_a_valid_data_set_and_all_tasks_are_proven(folder: Path) -> None:
    assert sum(1 for _ in open_meds(folder).timelines()) == 2
    for task in TASKS:
        cases, counts = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / task))
        assert check_cases(cases[:100]).ok
        assert (
            all(labels["yes"] > 0 and labels["no"] > 0 for labels in counts.by_split.values())
            and len(counts.by_split) == 3
        )


def test_a_subject_does_not_depend_on_how_many_follow(folder: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path / "more", N + SUBJECTS_A_SHARD, seed=3)
    ours, theirs = events_of(folder), events_of(tmp_path / "more")
    whole = pl.col("subject_id") <= SUBJECTS_A_SHARD
    assert ours.filter(whole).equals(theirs.filter(whole))
    write_cohort(tmp_path / "other", 5, seed=4)
    assert not events_of(tmp_path / "other").equals(ours.filter(pl.col("subject_id") <= 5))


@pytest.mark.parametrize(
    ("task", "code", "is_so"),
    [
        ("next_creatinine_high", "LOINC/2160-0", pl.col("numeric_value") > HIGH_CREATININE + 1e-6),
        ("next_hemoglobin_low", "LOINC/718-7", pl.col("numeric_value") < LOW_HEMOGLOBIN - 1e-6),
    ],
)
def test_the_labels_of_a_test_are_true_of_its_next_result(folder: Path, task: str, code: str, is_so: pl.Expr) -> None:
    results = events_of(folder).filter(pl.col("code") == code).select("subject_id", "time", "numeric_value")
    labels = pl.read_parquet(folder / "labels" / task / "labels.parquet").sort("prediction_time")
    joined = labels.join_asof(
        results.sort("time"), left_on="prediction_time", right_on="time", by="subject_id", strategy="forward"
    )
    assert (joined["boolean_value"] == joined.select(is_so).to_series()).all()
    assert ((joined["time"] - joined["prediction_time"]).dt.total_seconds() == 60).all()


def test_the_readmission_labels_are_true_of_the_next_stay(folder: Path) -> None:
    stays = events_of(folder).filter(pl.col("code") == "Visit/IP").select("subject_id", "time", "end").sort("time")
    labels = pl.read_parquet(folder / "labels" / "readmission_30d" / "labels.parquet").sort("prediction_time")
    ended = labels.join_asof(
        stays.sort("end"), left_on="prediction_time", right_on="end", by="subject_id", strategy="backward"
    )
    following = ended.join_asof(
        stays, left_on="prediction_time", right_on="time", by="subject_id", strategy="forward", suffix="_next"
    )
    within = ((following["time_next"] - following["end"]).dt.total_seconds() <= 30 * 86_400).fill_null(False)
    assert (following["boolean_value"] == within).all()


def test_diseases_move_their_tests_and_bring_their_drugs(folder: Path) -> None:
    events = events_of(folder)
    diabetic = events.filter(pl.col("code") == "SNOMED/44054006")["subject_id"].unique()
    mean = events.group_by("code", pl.col("subject_id").is_in(diabetic.implode()).alias("sick")).agg(
        pl.col("numeric_value").mean()
    )
    by = {(code, sick): value for code, sick, value in mean.iter_rows()}
    assert by["LOINC/4548-4", True] > by["LOINC/4548-4", False] + 0.5
    takers = events.filter(pl.col("code") == "RxNorm/6809")["subject_id"].unique()
    assert takers.is_in(diabetic.implode()).all()
    age = events.filter(pl.col("code") == "MEDS_BIRTH")
    older = age.filter(pl.col("subject_id").is_in(diabetic.implode()))["time"].mean()
    assert older < age["time"].mean()  # type: ignore[operator]
