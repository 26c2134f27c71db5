"""Cells of OMOP tables: what is null, which spellings are one number, one day or one person, and
what is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.cli import main
from ehrmind.data.omop import convert_omop, tables
from ehrmind.data.omop.values import read_column
from ehrmind.types import InputError
from tests.unit.test_omop_source import PERSON, at, events, omop, told

NONE = ("", " ", "NaN", "nan", "NULL", "null", "NA", "\\N", "N/A", "<NA>", "NaT", "None", "inf", "-Infinity")
RESULT = "person_id,measurement_concept_id,measurement_date,value_as_number\n"


def results(tmp_path: Path, *cells: str, mark: str = ";", **options: Any) -> list[float | None]:
    rows = RESULT.replace(",", mark) + "".join(mark.join(("1", "2", "2020-01-05", cell)) + "\n" for cell in cells)
    found = events(omop(tmp_path / "o", {"MEASUREMENT": rows}), **options)
    return [number for (number,) in told(found, "measurement", "numeric_value")]


def starts(tmp_path: Path, *cells: str, **options: Any) -> list[object]:
    rows = "person_id|visit_concept_id|visit_start_date\n" + "".join(f"1|9201|{cell}\n" for cell in cells)
    return [
        time
        for (time,) in told(
            events(omop(tmp_path / "o", {"VISIT_OCCURRENCE": rows}), **options), "visit_occurrence", "time"
        )
    ]


@pytest.mark.parametrize("said", NONE)
def test_a_cell_that_says_there_is_no_value_is_none_in_every_kind_of_column(tmp_path: Path, said: str) -> None:
    row = f"1,2,2020-01-05,{said},{said},{said},{said},{said},{said}\n"
    rows = "person_id,measurement_concept_id,measurement_date,measurement_datetime,value_as_number,value_as_concept_id,"
    rows += "unit_source_value,operator_concept_id,visit_occurrence_id\n"
    person = (
        "person_id,gender_concept_id,year_of_birth,month_of_birth,birth_datetime,race_concept_id,race_source_value\n"
    )
    person += f"1,8532,1960,{said},{said},0,{said}\n"
    found = events(omop(tmp_path / "o", {"MEASUREMENT": rows + row, "PERSON": person}))
    wanted = [(at("2020-01-05"), None, None, None, None)]
    infinite = said in ("inf", "-Infinity")  # no number and no moment, but a text
    assert (
        told(
            found.with_columns(pl.lit(None).alias("unit") if infinite else "unit"),
            "measurement",
            "time",
            "numeric_value",
            "text_value",
            "unit",
            "visit_id",
        )
        == wanted
    )
    assert told(found, "person", "code") == [("Gender/F",), *([(f"RACE/{said}",)] if infinite else []), ("MEDS_BIRTH",)]


@pytest.mark.parametrize("said", ["NULL", "\\N", "NaN", "<NA>", "NaT", " "])
def test_no_text_is_what_a_program_writes_for_nothing(tmp_path: Path, said: str) -> None:
    rows = f"person_id,observation_concept_id,observation_date,value_as_string,observation_source_value\n1,0,2020-01-05,{said},{said}\n"
    found = events(omop(tmp_path / "o", {"OBSERVATION": rows}))
    assert told(found, "observation", "code", "text_value") == [("OMOP_CONCEPT/0", None)]


def test_zero_is_a_value_and_infinities_are_none(tmp_path: Path) -> None:
    assert results(tmp_path, "0", "0.0", "-0", "inf", "NaN", "Infinity") == [0.0, 0.0, 0.0, None, None, None]


def test_typed_columns_read_as_texts_do(tmp_path: Path) -> None:
    folder = omop(tmp_path / "o", {"MEASUREMENT": None})
    frame = pl.DataFrame(
        {
            "PERSON_ID": [1.0, 1.0, None],
            "measurement_concept_id": pl.Series([2, 2, 2]).cast(pl.Decimal(38, 0)),
            "measurement_date": [20200105, 20200106, 20200107],
            "value_as_number": [float("nan"), float("inf"), 0.0],
            "unit_source_value": pl.Series(["mg", "NA", None]).cast(pl.Categorical),
        }
    )
    frame.write_parquet(folder / "measurement.parquet")
    found = events(folder)
    assert told(found, "measurement", "time", "code", "numeric_value") == [
        (at("2020-01-05"), "LOINC/2823-3", None), (at("2020-01-06"), "LOINC/2823-3", None),
    ]  # fmt: skip
    assert convert_omop(folder, tmp_path / "again").tables["measurement"].left_out["no person_id"] == 1


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (("93,3", "12", "0,5"), [93.3, 12.0, 0.5]),
        (("1,234", "93,3"), [1.234, 93.3]),
        (("1.234,5", "93,3"), [1234.5, 93.3]),
        (("1,234.5", "93.3"), [1234.5, 93.3]),
        (("1 234,5", "0,75"), [1234.5, 0.75]),
        (("\u22121,5", "7"), [-1.5, 7.0]),
        (("1e-2", "1E+2", "+5", ".5"), [0.01, 100.0, 5.0, 0.5]),
    ],
)
def test_a_column_says_its_decimal_mark(tmp_path: Path, cells: tuple[str, ...], wanted: list[float]) -> None:
    assert results(tmp_path, *cells) == pytest.approx(wanted)


def test_a_number_with_two_readings_is_refused_unless_the_mark_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"MEASUREMENT\.csv, row 2, column 'value_as_number': two readings.*say --decimal point or"
    ):
        results(tmp_path / "a", "5", "1,234")
    assert results(tmp_path / "b", "5", "1,234", decimal="comma") == pytest.approx([5.0, 1.234])
    assert results(tmp_path / "c", "5", "1,234", decimal="point") == [5.0, 1234.0]
    with pytest.raises(
        InputError, match=r"row 3, column 'value_as_number': its decimal mark is not that of .*MEASUREMENT\.csv, row 1;"
    ):
        results(tmp_path / "d", "5,5", "7,5", "5.5")


def test_the_mark_of_a_column_is_that_of_all_its_part_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 1)
    folder = omop(tmp_path / "o", {"MEASUREMENT": None})
    head = RESULT.replace(",", ";")
    (folder / "measurement_1.csv").write_text(head + "1;2;2020-01-05;1,234\n")
    (folder / "measurement_2.csv").write_text(head + "1;2;2020-01-06;7,5\n")
    assert [number for (number,) in told(events(folder), "measurement", "numeric_value")] == pytest.approx([1.234, 7.5])
    (folder / "measurement_2.csv").write_text(head + "1;2;2020-01-06;8\n1;2;2020-01-06;7.5\n1;2;2020-01-06;2,5\n")
    with pytest.raises(
        InputError,
        match=(
            r"measurement_2\.csv, row 3, column 'value_as_number': its decimal mark is not that of"
            r" .*measurement_2\.csv, row 2;"
        ),
    ):
        convert_omop(folder, tmp_path / "again")


def test_numbers_that_come_before_the_first_decimal_comma_are_not_read_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 1)
    with pytest.raises(InputError, match=r"row 1, column 'value_as_number': its point groups thousands"):
        results(tmp_path / "a", "1.234", "1.234,5", mark="|")
    assert results(tmp_path / "b", "1.234", "1.234,5", mark="|", decimal="comma") == pytest.approx([1234.0, 1234.5])
    assert results(tmp_path / "c", "12", "7,5", mark="|") == pytest.approx([12.0, 7.5])
    with pytest.raises(InputError, match=r"row 1, column 'value_as_number': two readings"):
        results(tmp_path / "d", "1.234", "12")


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (("20191231", "2019-12-31"), ["2019-12-31"] * 2),
        (("31.12.2019", "1.2.2020"), ["2019-12-31", "2020-02-01"]),
        (("31/12/2019 14:05", "01/02/2020 9:05:10"), ["2019-12-31 14:05", "2020-02-01 09:05:10"]),
        (("12/31/2019 2:05 PM", "01/02/2020"), ["2019-12-31 14:05", "2020-01-02"]),
        (("31-DEC-2019", "Jan 2, 2020"), ["2019-12-31", "2020-01-02"]),
        (("2019/12/31", "2020-1-2"), ["2019-12-31", "2020-01-02"]),
        (("2019-12-31 10:00:00.123456789", "2020-01-02T00:00"), ["2019-12-31 10:00:00.123456", "2020-01-02"]),
    ],
)
def test_a_day_with_one_reading_is_read(tmp_path: Path, cells: tuple[str, ...], wanted: list[str]) -> None:
    assert starts(tmp_path, *cells) == [at(text) for text in wanted]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (
            ("2020-01-01", "05/04/2019"),
            r"VISIT_OCCURRENCE\.csv, row 2, column 'visit_start_date': two readings, the day or the month first",
        ),
        (
            ("12/31/2019", "31/12/2019"),
            "row 2, column 'visit_start_date': its order of day and month is not that of .*, row 1;",
        ),
        (("2020-01-01T10:00:00Z",), "row 1, column 'visit_start_date': a date or a time without a zone"),
        (("2020-01-01 10:00:00 UTC",), "row 1, column 'visit_start_date': a date or a time without a zone"),
        (("1577836800000",), "row 1, column 'visit_start_date': a date"),
        (("31/12/19",), "row 1, column 'visit_start_date': a date"),
        (("2020-02-30",), "row 1, column 'visit_start_date': a date"),
        (("2020-01-01 25:00",), "row 1, column 'visit_start_date': a date"),
        (("43830",), "row 1, column 'visit_start_date': a date"),
    ],
)
def test_a_day_with_two_readings_or_none_is_refused(tmp_path: Path, cells: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        starts(tmp_path, *cells)


def test_the_order_of_day_and_month_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert starts(tmp_path, "05/04/2019", dates="month-first") == [at("2019-05-04")]
    with pytest.raises(SystemExit) as left:
        main(
            [
                "data",
                "omop",
                str(tmp_path / "o"),
                "--out",
                str(tmp_path / "m"),
                "--dates",
                "day-first",
                "--decimal",
                "point",
            ]
        )
    assert (
        left.value.code == 0
        and "note 1: visit_occurrence.visit_start_date read as day-first" in capsys.readouterr().out
    )
    about = json.loads((tmp_path / "m" / "metadata" / "dataset.json").read_text())
    assert about["readings"] == {"visit_occurrence.visit_start_date": "day-first"}


def test_the_clock_of_times_with_a_zone_is_taken_only_where_that_is_said(tmp_path: Path) -> None:
    cells = (
        "2020-01-01T10:00:00Z",
        "2020-01-02 10:00:00.5 UTC",
        "2020-01-03 10:00+02:00",
        "2020-01-04",
        "01/13/2020 9:05:00 PM -0500",
    )
    wanted = [
        at("2020-01-01 10:00"),
        at("2020-01-02 10:00:00.5"),
        at("2020-01-03 10:00"),
        at("2020-01-04"),
        at("2020-01-13 21:05"),
    ]
    assert starts(tmp_path, *cells, ignore_zones=True) == wanted
    folder = omop(tmp_path / "typed", {"VISIT_OCCURRENCE": None})
    visits = pl.DataFrame(
        {"person_id": [1], "visit_concept_id": [9201], "visit_start_datetime": [at("2020-01-01 10:00")]}
    )
    visits.with_columns(pl.col("visit_start_datetime").dt.replace_time_zone("UTC")).write_parquet(
        folder / "visit_occurrence.parquet"
    )
    with pytest.raises(InputError, match="times with a zone; write local times without one, or say --ignore-zones"):
        convert_omop(folder, tmp_path / "meds")
    assert told(events(folder, ignore_zones=True), "visit_occurrence", "time") == [(at("2020-01-01 10:00"),)]


def test_a_year_of_birth_of_two_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"PERSON\.csv, row 2, column 'year_of_birth': a year of four digits is wanted"
    ):
        convert_omop(omop(tmp_path / "o", {"PERSON": "person_id,year_of_birth\n1,1960\n2,60\n"}), tmp_path / "meds")


@pytest.mark.parametrize("value", [True, 1577836800000, 43830])
def test_booleans_and_other_numbers_are_no_days(tmp_path: Path, value: object) -> None:
    folder = omop(tmp_path / "o", {"VISIT_OCCURRENCE": None})
    pl.DataFrame({"person_id": [1], "visit_concept_id": [9201], "visit_start_date": [value]}).write_parquet(
        folder / "visit_occurrence.parquet"
    )
    with pytest.raises(InputError, match="row 1, column 'visit_start_date': a date"):
        convert_omop(folder, tmp_path / "meds")


def test_days_that_stand_for_none_are_none_and_the_epoch_is_a_day(tmp_path: Path) -> None:
    rows = "person_id,visit_concept_id,visit_start_date,visit_start_datetime,visit_end_date\n"
    rows += "1,9201,1970-01-01,1970-01-01 00:00:00,9999-12-31\n1,9201,1900-01-01,,\n"
    rows += "1,9201,2020-05-05,1900-01-01 00:00:00,2099-12-31\n1,9201,0000-00-00,,\n"
    folder = omop(tmp_path / "o", {"VISIT_OCCURRENCE": rows, "PERSON": PERSON.replace("1960,5,1", "1970,,")})
    assert told(events(folder), "visit_occurrence", "time", "end") == [
        (at("1970-01-01"), None),
        (at("2020-05-05"), None),
    ]
    assert told(events_again(folder), "person", "code", "time")[-1] == ("MEDS_BIRTH", at("1970-01-01"))
    counts = convert_omop(folder, tmp_path / "again")
    assert counts.tables["visit_occurrence"].left_out["no date"] == 2
    assert (
        counts.notes["visit_occurrence: dates that stand for none, such as 1900-01-01 or 9999-12-31, read as none"] == 4
    )


def events_again(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder.with_name(f"{folder.name}-meds") / "data" / "*.parquet")


def test_a_year_of_birth_that_is_none_is_none_and_counted(tmp_path: Path) -> None:
    person = "person_id,year_of_birth,month_of_birth,day_of_birth,birth_datetime\n"
    person += "1,0,0,0,\n2,9999,,,\n3,1960,0,0,1900-01-01\n4,1900,1,1,\n5,1961,,,1962-01-01\n"
    folder = omop(tmp_path / "o", {"PERSON": person})
    born = events(folder).filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", "time").rows()
    assert born == [(3, at("1960-01-01")), (4, at("1900-01-01")), (5, at("1962-01-01"))]
    notes = convert_omop(folder, tmp_path / "again").to_dict()["notes"]
    assert notes["persons with year_of_birth 0 or 9999, read as none"] == 2
    assert notes["persons born on 1900-01-01, which may stand for unknown"] == 1
    assert notes["persons whose birth_datetime is not in year_of_birth; it counts"] == 1


@given(
    number=st.integers(-(2**63) + 1, 2**63 - 1),
    zeros=st.integers(0, 3),
    tail=st.sampled_from(["", ".0", ".", ".00", ",0"]),
    sign=st.booleans(),
)
def test_one_number_of_a_person_has_one_reading_however_it_is_spelled(
    number: int, zeros: int, tail: str, sign: bool
) -> None:
    digits = "0" * zeros + str(abs(number)) + tail
    spelled = f"-{digits}" if number < 0 else f"+{digits}" if sign else digits
    read, wrong = read_column(pl.Series([f" {spelled} "]), "whole")
    assert read.to_list() == [number] and not wrong.any()


@given(number=st.floats(-3e38, 3e38, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-30))
def test_a_number_reads_as_it_is_written_with_either_mark(number: float) -> None:
    for text, mark in ((repr(number), "point"), (repr(number).replace(".", ","), "comma")):
        read, wrong = read_column(pl.Series([text]), "number", mark)  # type: ignore[arg-type]
        assert read.to_list() == [number] and not wrong.any()
