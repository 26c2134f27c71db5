"""Facts known without a time: sex, race and ethnicity and what the metadata declare; a death and a
diagnosis never.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.config import EhrFiles, History
from ehrmind.data.ehr import read_ehr
from ehrmind.data.meds import open_meds
from ehrmind.data.static_facts import fact_of, is_static, sex_of
from ehrmind.data.timeline import COLUMNS, Timeline
from ehrmind.prompts.records import with_histories
from ehrmind.stages.evaluation.boosting import boosted_counts
from ehrmind.types import InputError
from tests.meds_data import write_meds

STATIC = [
    "GENDER//F", "Gender/M", "SEX/F", "sex//male", "GENDER", "Race/5", "RACE//WHITE", "Ethnicity/not_hispanic_or_latino", "ETHNICITY//x",
    "OMOP_CONCEPT/8507", "OMOP/8532", "8532", "SNOMED/734000001", "SNOMEDCT//248152002", "LOINC/46098-0", "LOINC//21840-4", "76689-9",
    "DEMOGRAPHICS//GENDER//F", "gender_source_value//F", "GENDER_CONCEPT_ID/8507", "us-core-race|2106-3", "GENDER_F", "Birth Sex: F",
]  # fmt: skip
DATED = [
    "MEDS_DEATH", "MEDS_BIRTH", "MEDS_DEATH//hospital", "Death Type/x", "ICD10CM//C61", "SNOMED/22298006", "OUTCOME//DIED", "LOINC/718-7",
    "8507-1", "Sex hormone binding globulin", "LAB//SEX HORMONE", "SEXUAL_HISTORY", "RACEMIC_EPINEPHRINE", "MARITAL_STATUS//MARRIED",
    "DISCHARGE//DIED", "hospital_expire_flag", "LOINC/8532", "HOSPITAL_ADMISSION//EMERGENCY",
]  # fmt: skip


@pytest.mark.parametrize("code", STATIC)
def test_a_demographic_fact_is_recognised_however_it_is_written(code: str) -> None:
    assert fact_of(code) in ("sex", "race", "ethnicity") and is_static(code)


@pytest.mark.parametrize("code", DATED)
def test_any_other_code_needs_a_time(code: str) -> None:
    assert not is_static(code)
    assert not is_static("MEDS_DEATH", {"MEDS_DEATH"}) and is_static("BLOOD//A", {"BLOOD//A"})


def test_the_sex_is_read_from_the_code_or_from_the_text_beside_it() -> None:
    said = {
        "GENDER//F": "female",
        "sex/male": "male",
        "OMOP_CONCEPT/8532": "female",
        "SNOMED/248153007": "male",
        "GENDER_M": "male",
    }
    assert {code: sex_of(code) for code in said} == said
    assert sex_of("LOINC/76689-9", "Female") == "female" and sex_of("GENDER") is None and sex_of("RACE//F") is None


def timeline(undated: list[str], **more: Any) -> Timeline:
    rows = [(1, None, code) for code in undated] + [(1, datetime(2020, 1, 1), "A")]
    frame = pl.DataFrame(
        rows, schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}, orient="row"
    )
    empty = {
        name: pl.lit(None, dtype=pl.Datetime("us") if name == "end" else pl.String)
        for name in COLUMNS
        if name not in frame.columns
    }
    return Timeline(frame.with_columns(**empty | more.pop("columns", {})), **more)


@given(st.lists(st.sampled_from(STATIC + DATED), max_size=8), st.integers(-(10**15), 10**16))
def test_of_events_without_a_time_only_the_static_facts_are_ever_visible(undated: list[str], at: int) -> None:
    found = timeline(undated)
    seen = found.visible(np.array([1]), np.array([at]))
    codes = found.whats["code"].gather(seen.events.filter(pl.col("time").is_null())["what"]).to_list()
    assert sorted(codes) == sorted(code for code in undated if code in STATIC)
    assert found.undated.total() == sum(code in DATED for code in undated)


def test_a_subject_of_whom_only_undated_events_are_known_has_none_to_see() -> None:
    frame = timeline(["MEDS_DEATH"])
    assert frame.has(np.array([1])).all() and len(frame.visible(np.array([1]), np.array([0])).events) == 0


def test_what_the_person_table_says_is_static_but_for_birth_and_death() -> None:
    table = pl.lit("person")
    found = timeline(["PERSON/x", "MEDS_DEATH", "MEDS_BIRTH"], columns={"table": table})
    assert dict(found.undated) == {"MEDS_DEATH": 1, "MEDS_BIRTH": 1}


def with_undated(folder: Path, code: str) -> Path:
    """An event without a time of everybody whose label is yes."""
    positive = (
        pl.read_parquet(folder / "labels" / "high_potassium" / "labels.parquet")
        .filter("boolean_value")["subject_id"]
        .to_list()
    )
    for shard in (folder / "data").rglob("*.parquet"):
        events = pl.read_parquet(shard)
        static = events.filter(pl.col("code").str.starts_with("GENDER") & pl.col("subject_id").is_in(positive))
        rows = static.with_columns(pl.lit(code).alias("code"))
        pl.concat([rows, events]).sort("subject_id", "time", nulls_last=False, maintain_order=True).write_parquet(shard)
    return folder


def test_an_undated_death_is_in_no_history_and_no_baseline_and_is_counted(tmp_path: Path) -> None:
    folder = with_undated(write_meds(tmp_path, 60), "MEDS_DEATH")
    cases, counts = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))
    (note,) = [note for note in counts.notes if note.startswith("events without a time")]
    assert "of 1 different codes" in note and counts.notes[note] == sum(case.truth["value"] for case in cases)
    filled, _ = with_histories(cases, History(kinds=["labs", "other", "demographics"]))
    assert not any("death" in case.fields["history"].lower() for case in filled)
    train, held_out = ([case for case in cases if case.split == split] for split in ("train", "held_out"))
    found = boosted_counts(train, held_out, seed=0)
    right = [(found[case.id].answer == '{"answer": "yes"}') == (case.truth["value"] > 0) for case in held_out]
    assert sum(right) < 0.9 * len(right)


def test_metadata_declare_further_codes_static(tmp_path: Path) -> None:
    folder = write_meds(tmp_path)
    codes = {
        "code": ["BLOOD//A", "X1", "X2", "X3", "MEDS_DEATH"],
        "description": ["Blood group A", "Female", None, "Death", None],
    }
    parents = [None, None, ["Race/5"], None, None]
    pl.DataFrame(codes | {"parent_codes": parents, "static": [True, False, None, False, True]}).write_parquet(
        folder / "metadata" / "codes.parquet"
    )
    (folder / "metadata" / "dataset.json").write_text(json.dumps({"static_codes": ["TYPE//1"]}))
    declared = open_meds(folder).static
    assert declared == {"BLOOD//A", "X1", "X2", "MEDS_DEATH", "TYPE//1"} and not is_static("MEDS_DEATH", declared)
    (folder / "metadata" / "dataset.json").write_text(json.dumps({"static_codes": "TYPE//1"}))
    with pytest.raises(InputError, match=r"dataset.json, key 'static_codes': a list of codes"):
        open_meds(folder)
