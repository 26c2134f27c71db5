"""OMOP tables become a MEDS data set: codes, moments, values, what is left out and what is
refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from meds.schema import CodeMetadataSchema, DataSchema, DatasetMetadataSchema

from ehrmind.cli import main
from ehrmind.data.meds import open_meds
from ehrmind.data.omop import convert, convert_omop, tables

CONCEPT = """concept_id,concept_name,vocabulary_id,concept_code
8532,FEMALE,Gender,F
9201,Inpatient Visit,Visit,IP
1,Hypertension,SNOMED,38341003
2,Potassium in blood,LOINC,2823-3
3,millimole per liter,UCUM,mmol/L
4,Positive,SNOMED,10828004
5,metformin 500 MG,RxNorm,861007
6,Hypertension in ICD,ICD10CM,I10
7,Vascular disease,SNOMED,27550009
8,Discharge summary,Note Type,DS
"""
PERSON = """person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,race_concept_id,race_source_value
1,8532,1960,5,1,0,green
2,8532,1970,,,0,
"""
VISIT = """visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_start_datetime,\
visit_end_date,visit_end_datetime,care_site_id
7,1,9201,2020-01-05,2020-01-05 10:00:00,2020-01-09,2020-01-09 11:30:00,30
8,1,9201,2021-03-02,,2021-03-04,,
"""
CONDITION = """person_id,condition_concept_id,condition_start_date,condition_end_date,\
visit_occurrence_id,condition_source_value,condition_source_concept_id
1,1,2020-01-05,2020-02-01,7,I10,6
1,0,2020-01-06,,,I10,6
1,0,2020-01-07,,,my own words,0
1,999,2020-01-08,,,,
"""
MEASUREMENT = """person_id,measurement_concept_id,measurement_date,measurement_datetime,operator_concept_id,value_as_number,\
value_as_concept_id,unit_concept_id,unit_source_value,value_source_value,visit_occurrence_id
1,2,2020-01-05,2020-01-05 11:00:00,,5.6,,3,,5.6,7
1,2,2020-01-05,2020-01-05 12:00:00,4172704,60,,,mEq/L,>60,7
1,2,2020-01-05,2020-01-05 13:00:00,4172703,61.0,,,mEq/L,61,7
1,2,2020-01-05,2020-01-05T14:00:00.5,0,,4,3,,pos,7
1,2,2020-01-05,2020-01-05 15:00,0,,0,0,,cloudy,7
1,2,2020-01-05,2020-01-05 16:00:00,"", ,0,3,,"",7
"""
BASE = {
    "CONCEPT": CONCEPT,
    "PERSON": PERSON,
    "VISIT_OCCURRENCE": VISIT,
    "CONDITION_OCCURRENCE": CONDITION,
    "MEASUREMENT": MEASUREMENT,
}


def omop(folder: Path, changed: Mapping[str, str | None] | None = None) -> Path:
    folder.mkdir(parents=True)
    for table, text in {**BASE, **(changed or {})}.items():
        if text is not None:
            (folder / f"{table}.csv").write_text(text)
    return folder


def events(folder: Path, **options: Any) -> pl.DataFrame:
    out = folder.with_name(f"{folder.name}-meds")
    convert_omop(folder, out, **options)
    return pl.concat([pl.read_parquet(path) for path in sorted((out / "data").glob("*.parquet"))])


def told(frame: pl.DataFrame, table: str, *columns: str) -> list[tuple[Any, ...]]:
    return frame.filter((pl.col("omop_table") == table) & (pl.col("subject_id") == 1)).select(columns).rows()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_what_is_written_is_meds_to_its_own_classes_and_to_our_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = events(omop(tmp_path / "whole"))
    monkeypatch.setattr(convert, "SUBJECTS_A_SHARD", 1)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 2)
    out = tmp_path / "parts-meds"
    assert whole.equals(events(omop(tmp_path / "parts")))
    shards = sorted((out / "data").glob("*.parquet"))
    assert len(shards) == 2
    for shard in shards:
        DataSchema.validate(pq.read_table(shard))
    codes = pq.read_table(out / "metadata" / "codes.parquet")
    CodeMetadataSchema.validate(codes)
    assert set(codes["code"].to_pylist()) == set(whole["code"])
    about = json.loads((out / "metadata" / "dataset.json").read_text())
    DatasetMetadataSchema.validate(about)
    assert about["site_id_columns"] == ["care_site_id"] and not (out / "metadata" / "subject_splits.parquet").exists()
    data = open_meds(out)
    known = [
        int(timeline.visible(np.array([person]), np.array([2**62])).known[0])
        for person, (_, timeline) in enumerate(data.timelines(), 1)
    ]
    assert known == [13, 1] and data.names["LOINC/2823-3"] == "Potassium in blood" and data.name == "parts"


def test_a_code_is_the_concept_else_the_source_concept_else_the_words_of_the_source(tmp_path: Path) -> None:
    found = events(omop(tmp_path / "o"))
    assert [code for (code,) in told(found, "condition_occurrence", "code")] == [
        "SNOMED/38341003",
        "ICD10CM/I10",
        "CONDITION_OCCURRENCE/my own words",
        "OMOP_CONCEPT/999",
    ]
    assert [code for (code,) in told(found, "person", "code")] == ["Gender/F", "RACE/green", "MEDS_BIRTH"]
    counts = convert_omop(tmp_path / "o", tmp_path / "again")
    assert counts.to_dict()["codes"] == {
        "by their concept": 11,
        "by their source concept": 1,
        "by their source value": 2,
        "by a number only": 1,
    }
    assert counts.to_dict()["notes"] == {"persons without race": 1, "persons without ethnicity": 2}


def test_well_known_concepts_need_no_vocabulary(tmp_path: Path) -> None:
    found = events(omop(tmp_path / "o", {"CONCEPT": None}))
    assert {"Gender/F", "Visit/IP", "CONDITION_OCCURRENCE/I10", "OMOP_CONCEPT/2"} <= set(found["code"])
    assert open_meds(tmp_path / "o-meds").names["Visit/IP"] == "Inpatient Visit"


def test_values_keep_what_was_said_and_the_unit(tmp_path: Path) -> None:
    assert told(events(omop(tmp_path / "o")), "measurement", "time", "numeric_value", "text_value", "unit") == [
        (at("2020-01-05 11:00"), pytest.approx(5.6), None, "mmol/L"),
        (at("2020-01-05 12:00"), 60.0, "> 60", "mEq/L"),
        (at("2020-01-05 13:00"), 61.0, None, "mEq/L"),
        (at("2020-01-05 14:00:00.500"), None, "Positive", "mmol/L"),
        (at("2020-01-05 15:00"), None, "cloudy", None),
        (at("2020-01-05 16:00"), None, None, None),
    ]


def test_observations_notes_drugs_and_devices_are_read(tmp_path: Path) -> None:
    more = {
        "OBSERVATION": (
            "person_id,observation_concept_id,observation_date,value_as_string,value_as_number\n"
            "1,4,2020-01-05,often,\n1,4,2020-01-05,,2\n"
        ),
        "NOTE": (
            'person_id,note_type_concept_id,note_date,note_datetime,note_text\n1,8,2020-01-05,2020-01-05 18:00:00,"went'
            ' home,\nwell"\n'
        ),
        "DRUG_EXPOSURE": (
            "person_id,drug_concept_id,drug_exposure_start_date,drug_exposure_end_date\n1,5,2020-01-05,2020-02-05\n"
        ),
        "DEVICE_EXPOSURE": "person_id,device_concept_id,device_exposure_start_datetime\n1,0,2020-01-05 10:00:00\n",
        "PROCEDURE_OCCURRENCE": (
            "person_id,procedure_concept_id,procedure_date,procedure_end_date\n1,1,2020-01-05,2020-01-06\n"
        ),
    }
    found = events(omop(tmp_path / "o", more))
    assert told(found, "observation", "code", "text_value", "numeric_value") == [
        ("SNOMED/10828004", "often", None),
        ("SNOMED/10828004", None, 2.0),
    ]
    assert told(found, "note", "code", "text_value", "time") == [
        ("NOTE/DS", "went home,\nwell", at("2020-01-05 18:00"))
    ]
    assert told(found, "drug_exposure", "code", "time", "end") == [
        ("RxNorm/861007", at("2020-01-05"), at("2020-02-05 23:59:59"))
    ]
    assert told(found, "device_exposure", "code", "end") == [("OMOP_CONCEPT/0", None)]
    assert told(found, "procedure_occurrence", "end") == [(at("2020-01-06 23:59:59"),)]
    assert open_meds(tmp_path / "o-meds").names["NOTE/DS"] == "Discharge summary"


def test_a_date_begins_its_day_as_a_start_and_closes_it_as_an_end_a_death_or_a_note(tmp_path: Path) -> None:
    more = {
        "DEATH": "person_id,death_date,death_datetime\n1,2022-01-01,2022-01-01 00:00:00\n",
        "NOTE": "person_id,note_type_concept_id,note_date,note_text\n1,8,2020-01-05,well\n",
    }
    found = events(omop(tmp_path / "o", more))
    assert told(found, "visit_occurrence", "time", "end") == [
        (at("2020-01-05 10:00"), at("2020-01-09 11:30")),
        (at("2021-03-02 00:00"), at("2021-03-04 23:59:59")),
    ]
    assert told(found, "condition_occurrence", "time", "end")[0] == (at("2020-01-05 00:00"), at("2020-02-01 23:59:59"))
    assert told(found, "death", "code", "time") == [("MEDS_DEATH", at("2022-01-01 23:59:59"))]
    assert told(found, "note", "time") == [(at("2020-01-05 23:59:59"),)]


def test_with_day_end_a_dated_finding_is_known_in_the_evening_and_a_visit_from_the_morning(tmp_path: Path) -> None:
    dated = (
        MEASUREMENT.splitlines()[0]
        + "\n1,2,2020-01-05,2020-01-05 00:00:00,,5.6,,3,,5.6,7\n1,2,2020-01-05,2020-01-05 11:00:00,,5.7,,3,,5.7,7\n"
    )
    found = events(omop(tmp_path / "o", {"MEASUREMENT": dated}), day_end=True)
    assert told(found, "measurement", "time") == [(at("2020-01-05 11:00"),), (at("2020-01-05 23:59:59"),)]
    assert told(found, "visit_occurrence", "time")[1] == (at("2021-03-02 00:00"),)
    assert told(found, "condition_occurrence", "time")[0] == (at("2020-01-05 23:59:59"),)


def test_a_birth_is_as_early_as_what_is_known_of_it_allows(tmp_path: Path) -> None:
    person = (
        "person_id,year_of_birth,month_of_birth,day_of_birth,birth_datetime\n1,1960,5,9,1960-05-09"
        " 04:00:00\n2,1970,3,,\n3,1980,,,\n4,,,,\n"
    )
    found = events(omop(tmp_path / "o", {"PERSON": person}))
    assert found.filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", "time").rows() == [
        (1, at("1960-05-09 04:00")),
        (2, at("1970-03-01")),
        (3, at("1980-01-01")),
    ]


def test_a_row_stands_at_its_own_care_site_or_at_its_visits(tmp_path: Path) -> None:
    found = events(omop(tmp_path / "o"))
    assert told(found, "visit_occurrence", "visit_id", "care_site_id") == [(7, 30), (8, None)]
    assert told(found, "condition_occurrence", "visit_id", "care_site_id")[:2] == [(7, 30), (None, None)]


def test_a_detail_that_is_its_visit_once_more_is_counted_and_left_out(tmp_path: Path) -> None:
    detail = VISIT.replace("visit_start", "visit_detail_start").replace("visit_end", "visit_detail_end")
    detail = detail.replace("visit_concept", "visit_detail_concept").replace("2021-03-04", "2021-03-03")
    folder = omop(tmp_path / "o", {"VISIT_DETAIL": detail})
    assert told(events(folder), "visit_detail", "visit_id", "end") == [(8, at("2021-03-03 23:59:59"))]
    counts = convert_omop(folder, tmp_path / "again").to_dict()["tables"]["visit_detail"]
    assert counts == {"rows": 2, "events": 1, "left_out": {"the same as its visit": 1}}


def test_a_parent_is_what_a_concept_maps_to_or_else_what_it_is(tmp_path: Path) -> None:
    links = "concept_id_1,concept_id_2,relationship_id,invalid_reason\n"
    links += "1,7,Is a,\n6,1,Maps to,\n6,7,Is a,\n1,1,Maps to,\n2,7,Is a,D\n1,4321,Is a,\n"
    events(omop(tmp_path / "o", {"CONCEPT_RELATIONSHIP": links}))
    codes = pl.read_parquet(tmp_path / "o-meds" / "metadata" / "codes.parquet")
    assert dict(codes.filter(pl.col("parent_codes").list.len() > 0).select("code", "parent_codes").iter_rows()) == {
        "SNOMED/38341003": ["SNOMED/27550009"],
        "ICD10CM/I10": ["SNOMED/38341003"],
    }


def test_rows_without_a_person_or_a_date_are_counted_and_an_end_before_its_start_is_none(tmp_path: Path) -> None:
    rows = (
        VISIT
        + "9,,9201,2020-01-01,,,,\n10,55,9201,2020-01-01,,,,\n11,1,9201,,,,,\n12,1,9201,2020-05-05,,2020-05-04,,\n"
    )
    folder = omop(tmp_path / "o", {"VISIT_OCCURRENCE": rows})
    counts = convert_omop(folder, tmp_path / "meds").to_dict()
    left_out = {"no person_id": 1, "the person is not in PERSON": 1, "no date": 1}
    assert counts["tables"]["visit_occurrence"] == {"rows": 6, "events": 3, "left_out": left_out}
    assert counts["notes"]["visit_occurrence: an end before the start, left out"] == 1
    assert told(pl.read_parquet(tmp_path / "meds" / "data" / "0000.parquet"), "visit_occurrence", "end")[1] == (None,)
    assert counts["events"] == sum(table["events"] for table in counts["tables"].values())


def test_the_command_prints_counts_as_json_writes_for_the_owner_alone_and_never_into_a_full_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["data", "omop", str(omop(tmp_path / "o")), "--out", str(tmp_path / "meds"), "--name", "Mine", "--json"]
    with pytest.raises(SystemExit) as left:
        main(asked)
    counts = json.loads(capsys.readouterr().out)
    assert left.value.code == 0 and counts["subjects"] == 2 and counts["tables"]["measurement"]["rows"] == 6
    assert open_meds(tmp_path / "meds").name == "Mine"
    assert {oct(path.stat().st_mode & 0o077) for path in [tmp_path / "meds", *(tmp_path / "meds").rglob("*")]} == {
        "0o0"
    }
    with pytest.raises(SystemExit) as left:
        main(asked)
    assert left.value.code == 2 and "is not empty; name a new folder" in capsys.readouterr().err
