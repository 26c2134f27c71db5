"""Persons, visits, codes, deaths and joins of OMOP tables: one identity has one key, and what
matches nothing is refused.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ehrmind.data.meds import open_meds
from ehrmind.data.omop import convert_omop
from ehrmind.types import InputError
from tests.unit.test_omop_source import CONCEPT, CONDITION, MEASUREMENT, PERSON, VISIT, at, events, omop, told


@pytest.mark.parametrize(
    "cell",
    ["1.5", "1e5", "1.23457E+11", "1,000", "6f1b2c3d-0000-4000-8000-000000000000", "9223372036854775808", "12 3", "A7"],
)
def test_a_person_id_that_is_no_whole_number_is_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(
        InputError,
        match=r"PERSON\.csv, row 1, column 'person_id': a whole number is wanted \(MEDS numbers its subjects",
    ):
        convert_omop(omop(tmp_path / "o", {"PERSON": f"person_id;year_of_birth\n{cell};1960\n"}), tmp_path / "meds")


def test_padded_and_decimal_ids_of_one_person_and_one_visit_meet(tmp_path: Path) -> None:
    person = PERSON.replace("\n1,", "\n0001,")
    visit = VISIT.replace("\n7,1,", "\n7.0,1.0,")
    found = events(
        omop(
            tmp_path / "o",
            {
                "PERSON": person,
                "VISIT_OCCURRENCE": visit,
                "CONDITION_OCCURRENCE": CONDITION.replace("1,1,2020", "1.0,1.0,2020"),
            },
        )
    )
    assert told(found, "condition_occurrence", "code", "visit_id", "care_site_id")[0] == ("SNOMED/38341003", 7, 30)
    wanted = (tmp_path / "wanted").with_name("plain")
    assert found.equals(events(omop(wanted)))
    with pytest.raises(InputError, match="this person has a row already"):
        convert_omop(omop(tmp_path / "twice", {"PERSON": PERSON + "01,8532,1960,,,0,\n"}), tmp_path / "meds")


def test_large_and_negative_ids_stay_whole(tmp_path: Path) -> None:
    big, person = 2**53 + 1, "person_id,year_of_birth\n9007199254740993,1960\n-5,1970\n"
    visit = f"person_id,visit_concept_id,visit_start_date\n{big},9201,2020-01-01\n-5,9201,2020-01-01\n"
    found = events(
        omop(
            tmp_path / "o",
            {"PERSON": person, "VISIT_OCCURRENCE": visit, "CONDITION_OCCURRENCE": None, "MEASUREMENT": None},
        )
    )
    assert set(found.filter(pl.col("omop_table") == "visit_occurrence")["subject_id"]) == {big, -5}
    folder = omop(tmp_path / "float", {"PERSON": None})
    pl.DataFrame({"person_id": [float(2**53 + 2)], "year_of_birth": [1960]}).write_parquet(folder / "person.parquet")
    with pytest.raises(InputError, match="column 'person_id': a whole number"):
        convert_omop(folder, tmp_path / "meds")


def test_codes_of_a_vocabulary_are_texts(tmp_path: Path) -> None:
    concept = CONCEPT + "11,Septicaemia,ICD9CM,0389\n"
    condition = CONDITION + "1,11,2020-03-01,,,0389,0\n"
    assert (
        "ICD9CM/0389"
        in events(omop(tmp_path / "o", {"CONCEPT": concept, "CONDITION_OCCURRENCE": condition}))["code"].to_list()
    )
    folder = omop(tmp_path / "numbers", {"CONCEPT": None})
    pl.DataFrame(
        {"concept_id": [1], "concept_name": ["x"], "vocabulary_id": ["ICD9CM"], "concept_code": [389]}
    ).write_parquet(folder / "concept.parquet")
    with pytest.raises(
        InputError, match=r"concept\.parquet, row 1, column 'concept_code': text, since numbers lose zeros"
    ):
        convert_omop(folder, tmp_path / "meds")


def test_a_source_code_that_a_program_has_made_a_number_is_read_only_where_no_digit_is_lost(tmp_path: Path) -> None:
    def condition(codes: list[float | None]) -> Path:
        folder = omop(tmp_path / str(codes[0]), {"CONDITION_OCCURRENCE": None})
        rows = {
            "person_id": [1] * 2,
            "condition_concept_id": [0] * 2,
            "condition_start_date": ["2020-01-01"] * 2,
            "condition_source_value": codes,
        }
        pl.DataFrame(rows).write_parquet(folder / "condition_occurrence.parquet")
        return folder

    assert told(events(condition([38341003.0, None])), "condition_occurrence", "code")[0] == (
        "CONDITION_OCCURRENCE/38341003",
    )
    with pytest.raises(InputError, match="row 1, column 'condition_source_value': text, since numbers lose"):
        convert_omop(condition([250.0, 401.9]), tmp_path / "meds")


def test_a_join_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    rows = MEASUREMENT.splitlines()[0] + "\n" + "77,2,2020-01-05,,,5.6,,3,,5.6,7\n" * 10
    with pytest.raises(
        InputError, match=r"MEASUREMENT\.csv, column 'person_id': none of 10 rows is of a person in PERSON"
    ):
        convert_omop(omop(tmp_path / "o", {"MEASUREMENT": rows}), tmp_path / "meds")
    other = "concept_id,concept_name,vocabulary_id,concept_code\n77777,Other,SNOMED,1\n"
    with pytest.raises(InputError, match=r"CONCEPT\.csv has none of the \d+ concepts that the tables name"):
        convert_omop(omop(tmp_path / "c", {"CONCEPT": other}), tmp_path / "meds")


def test_a_death_without_a_date_is_counted_and_no_event(tmp_path: Path) -> None:
    folder = omop(tmp_path / "o", {"DEATH": "person_id,death_date,death_datetime\n1,,\n2,2022-01-01,\n"})
    found = events(folder)
    assert found.filter(pl.col("code") == "MEDS_DEATH").select("subject_id", "time").rows() == [
        (2, at("2022-01-01 23:59:59"))
    ]
    counts = convert_omop(folder, tmp_path / "again").to_dict()["tables"]["death"]
    assert counts == {"rows": 2, "events": 1, "left_out": {"no date": 1}}
    assert not found.filter(pl.col("time").is_null() & (pl.col("omop_table") != "person")).height


def test_a_death_given_twice_is_one_event_and_two_days_of_death_are_refused(tmp_path: Path) -> None:
    folder = omop(
        tmp_path / "o",
        {"DEATH": "person_id,death_date,death_datetime\n1,2022-01-01,2022-01-01 10:00:00\n1,2022-01-01,\n"},
    )
    assert told(events(folder), "death", "time") == [(at("2022-01-01 23:59:59"),)]
    assert convert_omop(folder, tmp_path / "again").tables["death"].left_out["the same death again"] == 1
    with pytest.raises(
        InputError, match=r"DEATH\.csv, row 2, column 'person_id': this person has died on another day already"
    ):
        convert_omop(
            omop(tmp_path / "two", {"DEATH": "person_id,death_date\n1,2022-01-01\n1,2022-01-02\n"}), tmp_path / "meds"
        )


def test_a_death_that_stands_in_person_is_read_where_there_is_no_table_of_deaths(tmp_path: Path) -> None:
    person = "person_id,year_of_birth,death_datetime\n1,1960,2022-01-01\n2,1970,\n"
    assert events(omop(tmp_path / "o", {"PERSON": person})).filter(pl.col("code") == "MEDS_DEATH")[
        "time"
    ].to_list() == [at("2022-01-01 23:59:59")]
    both = convert_omop(
        omop(tmp_path / "both", {"PERSON": person, "DEATH": "person_id,death_date\n1,2022-01-03\n"}), tmp_path / "meds"
    )
    assert both.notes["persons with a death in PERSON as well; DEATH counts"] == 1


def test_what_cannot_be_is_counted_in_notes(tmp_path: Path) -> None:
    visit = (
        "visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_start_datetime\n7,1,9201,2020-01-05,2020-01-06"
        " 10:00:00\n"
    )
    visit += "8,1,9201,1950-01-01,\n"
    folder = omop(
        tmp_path / "o", {"VISIT_OCCURRENCE": visit, "DEATH": "person_id,death_date\n1,2020-01-06\n2,1950-01-01\n"}
    )
    notes = convert_omop(folder, tmp_path / "meds").to_dict()["notes"]
    assert notes["visit_occurrence: a date and a time of different days; the time counts"] == 1
    assert (
        notes["visit_occurrence: rows before the day of the birth"] == 1
        and notes["death: rows before the day of the birth"] == 1
    )
    assert notes["rows after the day of the death"] == 2


def test_blank_lines_are_no_rows_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    person = "person_id,year_of_birth\n\n1,1960\n\n1,1970\n\n"
    with pytest.raises(InputError, match=r"PERSON\.csv, row 4, column 'person_id': this person has a row already"):
        convert_omop(omop(tmp_path / "o", {"PERSON": person}), tmp_path / "meds")
    folder = omop(tmp_path / "b", {"MEASUREMENT": MEASUREMENT + "\n,,,,,,,,,,\n"})
    assert convert_omop(folder, tmp_path / "again").tables["measurement"].rows == 6
    assert open_meds(tmp_path / "again").name == "b"
