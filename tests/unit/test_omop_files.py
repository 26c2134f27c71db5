"""The forms in which OMOP tables lie, and what is said of those that do not fit."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import polars as pl
import pytest

from ehrmind.data.meds import open_meds
from ehrmind.data.omop import convert_omop, tables
from ehrmind.types import InputError
from tests.unit.test_omop_source import CONCEPT, CONDITION, MEASUREMENT, VISIT, at, events, omop


@pytest.mark.parametrize("form", ["zip", "gz", "parquet", "lower", "tabs"])
def test_every_form_of_the_files_gives_the_same_events(tmp_path: Path, form: str) -> None:
    wanted = events(omop(tmp_path / "o"))
    other = tmp_path / form
    other.mkdir()
    for path in (tmp_path / "o").iterdir():
        match form:
            case "zip":
                with zipfile.ZipFile(tmp_path / "all.zip", "a") as archive:
                    archive.write(path, f"export/{path.name}")
                    archive.writestr(f"__MACOSX/export/._{path.name}", b"\x00")
            case "gz":
                (other / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            case "parquet":
                pl.read_csv(path, try_parse_dates=True).write_parquet(other / f"{path.stem}.parquet")
            case "lower":
                header, _, rows = path.read_text().partition("\n")
                (other / path.name.lower()).write_text("\ufeff" + header.upper() + "\n" + rows)
            case "tabs":
                text = path.read_text()
                (other / path.name).write_text(text.replace(",", "\t") if path.stem == "CONCEPT" else text)
    assert wanted.equals(events(tmp_path / "all.zip" if form == "zip" else other))


def test_a_quote_in_a_tab_separated_vocabulary_is_part_of_the_name(tmp_path: Path) -> None:
    concept = CONCEPT.replace("Hypertension,", '"High" blood pressure,').replace(",", "\t")
    events(omop(tmp_path / "o", {"CONCEPT": concept}))
    assert open_meds(tmp_path / "o-meds").names["SNOMED/38341003"] == '"High" blood pressure'


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"PERSON": None}, "has no table PERSON"),
        ({"PERSON": "person_id,gender_concept_id\n1,2\n"}, r"PERSON.csv has no column 'year_of_birth or birth_datetime'"),
        ({"PERSON": "person_id,year_of_birth\n"}, r"PERSON.csv has no rows"),
        ({"PERSON": ""}, r"PERSON.csv is empty"),
        ({"PERSON": "person_id,year_of_birth\n5,\n"}, r"None of 12 rows is of a person in .*PERSON.csv"),
        ({"PERSON": "person_id,year_of_birth\n1,\n", "VISIT_OCCURRENCE": "person_id,visit_concept_id,visit_start_date\n1,2,\n",
          "MEASUREMENT": None, "CONDITION_OCCURRENCE": None, "CONCEPT": None}, "The tables hold no event"),
        ({"PERSON": "person_id,year_of_birth\n1,1960\n,1960\n"}, r"PERSON.csv, row 2, column 'person_id': no value"),
        ({"PERSON": "person_id,year_of_birth\n1,1960\n1,1960\n"}, r"PERSON.csv, row 2, column 'person_id': this person has a row already"),
        ({"PERSON": "person_id,year_of_birth,month_of_birth\n1,1960,\n2,1960,13\n"}, r"PERSON.csv, row 2, column 'year_of_birth'.*no day"),
        ({"VISIT_OCCURRENCE": VISIT.replace("2021-03-04", "canary")}, r"VISIT_OCCURRENCE.csv, row 2, column 'visit_end_date': a date"),
        ({"VISIT_OCCURRENCE": VISIT.replace("11:30:00", "11:30:00+02:00")}, r"'visit_end_datetime': a date or a time without a zone"),
        ({"MEASUREMENT": MEASUREMENT.replace(",61.0,", ",canary,")}, r"MEASUREMENT.csv, row 3, column 'value_as_number': a finite number"),
        ({"MEASUREMENT": MEASUREMENT.replace(",61.0,", ",1e300,")}, r"MEASUREMENT.csv, row 3, column 'value_as_number': a finite number"),
        ({"MEASUREMENT": MEASUREMENT.replace(",0,,4,", ",0.5,,4,")}, r"row 4, column 'operator_concept_id': a whole number"),
        ({"CONDITION_OCCURRENCE": CONDITION.replace("condition_concept_id", "x")}, "no column 'condition_concept_id', which OMOP's"),
        ({"CONDITION_OCCURRENCE": CONDITION.replace("condition_source_value", "PERSON_ID")}, "more than one column named 'person_id'"),
        ({"CONDITION_OCCURRENCE": CONDITION + '1,1,2020-01-05,,,"canary\n'}, "CONDITION_OCCURRENCE.csv cannot be read as CSV"),
        ({"concept": "x\n"}, "are the same table; leave one"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused_by_name_without_their_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], says: str
) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 2)
    with pytest.raises(InputError, match=says) as refused:
        convert_omop(omop(tmp_path / "o", changed), tmp_path / "meds")
    assert "canary" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_times_with_a_zone_in_parquet_are_refused(tmp_path: Path) -> None:
    folder = omop(tmp_path / "o", {"VISIT_OCCURRENCE": None})
    visits = pl.DataFrame({"person_id": [1], "visit_concept_id": [9201], "visit_start_datetime": [at("2020-01-01")]})
    visits.with_columns(pl.col("visit_start_datetime").dt.replace_time_zone("UTC")).write_parquet(
        folder / "visit_occurrence.parquet"
    )
    with pytest.raises(InputError, match=r"column 'visit_start_datetime': times with a zone"):
        convert_omop(folder, tmp_path / "meds")


def test_a_torn_gzip_or_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    for name, content in (
        ("VISIT_OCCURRENCE.csv.gz", gzip.compress(VISIT.encode() * 100)[:90]),
        ("VISIT_OCCURRENCE.parquet", b"PAR1 torn"),
    ):
        folder = omop(tmp_path / name, {"VISIT_OCCURRENCE": None})
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read as"):
            convert_omop(folder, tmp_path / "meds")


@pytest.mark.parametrize(
    ("source", "says"),
    [("absent", "There is nothing at"), ("PERSON.csv", "is not a zip"), ("torn.zip", "is not a zip")],
)
def test_what_is_neither_a_folder_nor_a_zip_is_refused(tmp_path: Path, source: str, says: str) -> None:
    folder = omop(tmp_path / "o")
    (folder / "torn.zip").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match=says):
        convert_omop(folder / source, tmp_path / "meds")
