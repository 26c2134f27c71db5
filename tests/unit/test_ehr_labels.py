"""Label files: one label a row with one reading, whichever column, format and spelling; what has
two readings is refused or chosen.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.data.ehr_labels import DAYS, WHOLE, read_labels
from ehrmind.data.subject_columns import moments, subject_numbers
from ehrmind.types import InputError

T = [datetime(2020, 1, day) for day in range(1, 10)]


def labels(folder: Path, columns: dict[str, Any], name: str = "labels.parquet") -> Path:
    pl.DataFrame({"subject_id": [1, 2], "prediction_time": T[:2], **columns}, strict=False).write_parquet(folder / name)
    return folder / name


def csv(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def read(path: Path, task: str = "t", **more: Any) -> list[Any]:
    return read_labels([path], task, **more)[0].select("subject_id", "value", "kind").rows()


def test_aces_labels_with_columns_of_nulls_are_read(tmp_path: Path) -> None:
    nulls: dict[str, Any] = {
        "integer_value": [None, None],
        "float_value": [None, None],
        "categorical_value": [None, None],
    }
    assert read(labels(tmp_path, {"boolean_value": [True, False], **nulls})) == [(1, 1, "boolean"), (2, 0, "boolean")]


def test_of_two_filled_columns_none_is_taken_until_one_is_named(tmp_path: Path) -> None:
    path = labels(tmp_path, {"boolean_value": [True, False], "integer_value": [2, 0]})
    with pytest.raises(InputError, match=r"labels in boolean_value and integer_value; say which with --label-column"):
        read(path)
    assert read(path, column="boolean_value") == [(1, 1, "boolean"), (2, 0, "boolean")]
    assert read(path, column="integer_value") == [(1, 2, "integer"), (2, 0, "integer")]
    with pytest.raises(InputError, match="boolean_value and float_value; say which"):
        read(labels(tmp_path, {"boolean_value": [True, False], "float_value": [0.7, 0.1]}))
    with pytest.raises(InputError, match="has no column 'grade', which is to be the label"):
        read(path, column="grade")


def test_the_grades_of_a_laboratory_task_are_one_label_with_whether_they_are_above_normal(tmp_path: Path) -> None:
    path = labels(tmp_path, {"boolean_value": [True, False], "integer_value": [3, 0]})
    found, notes = read_labels([path], "lab_anemia")
    assert found["value"].to_list() == [3, 0] and [*notes.values()] == [2]
    with pytest.raises(
        InputError, match=r"labels.parquet, row 2: boolean_value and integer_value contradict each other"
    ):
        read(labels(tmp_path, {"boolean_value": [True, True], "integer_value": [3, 0]}), "lab_anemia")


def test_columns_that_agree_are_one_label_and_a_note_says_so(tmp_path: Path) -> None:
    found, notes = read_labels([labels(tmp_path, {"boolean_value": [True, False], "integer_value": [1, 0]})], "t")
    assert found["kind"].unique().to_list() == ["boolean"] and notes == {
        "labels that integer_value has too: the label is boolean_value, and they agree": 2
    }


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"boolean_value": ["True", "False"]}, [(1, 1, "boolean"), (2, 0, "boolean")]),
        ({"boolean_value": ["yes", "0"]}, [(1, 1, "boolean"), (2, 0, "boolean")]),
        ({"boolean_value": [1.0, 0.0]}, [(1, 1, "boolean"), (2, 0, "boolean")]),
        ({"integer_value": [1.0, float("nan")]}, [(1, 1, "integer"), (2, None, "integer")]),
        ({"integer_value": ["2.0", "0"]}, [(1, 2, "integer"), (2, 0, "integer")]),
        ({"float_value": [2.0, 0.0]}, [(1, 2, "integer"), (2, 0, "integer")]),
        ({"categorical_value": ["no", "Yes"]}, [(1, 0, "boolean"), (2, 1, "boolean")]),
        (
            {"boolean_value": [None, False], "float_value": [float("nan")] * 2},
            [(1, None, "boolean"), (2, 0, "boolean")],
        ),
    ],
)
def test_a_label_with_one_reading_is_read_whatever_its_type(
    tmp_path: Path, columns: dict[str, Any], wanted: list[Any]
) -> None:
    found, notes = read_labels([labels(tmp_path, columns)], "t")
    assert found.select("subject_id", "value", "kind").rows() == wanted and (WHOLE in notes) == (
        "float_value" in columns and len(columns) == 1
    )


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "no boolean_value or integer_value"),
        ({"boolean_value": [None, None]}, "its boolean_value are null throughout"),
        ({"boolean_value": [2, 0]}, "row 1, column 'boolean_value': a number that is neither 0 nor 1"),
        ({"boolean_value": ["yes", "perhaps"]}, "row 2, column 'boolean_value': neither yes or no"),
        ({"float_value": [0.0, 0.5]}, "row 2, column 'float_value': not a whole number"),
        ({"float_value": [0.0, float("inf")]}, "row 2, column 'float_value': not a whole number"),
        ({"categorical_value": ["mild", "severe"]}, "row 1, column 'categorical_value': .*have no order here"),
        (
            {"boolean_value": [True, False], "prediction_time": ["a", "b"]},
            "row 1, column 'prediction_time': not a time",
        ),
        (
            {"boolean_value": [True, False], "prediction_time": ["2020-01-01 00:00:00", "2020-01-01T00:00:00Z"]},
            "row 2, .* with a zone",
        ),
        (
            {"boolean_value": [True, False], "prediction_time": ["01/02/2020", "01/03/2020"]},
            "row 1, column 'prediction_time': not a time",
        ),
        (
            {"boolean_value": [True, False], "prediction_time": [1577836800, 1577836801]},
            "Int64 values; MEDS has timestamps",
        ),
        ({"boolean_value": [True, False], "hospital": ["a", "b"]}, "does not fit MEDS.*hospital"),
        ({"boolean_value": [True, False], "subject_id": [1, None]}, "row 2, column 'subject_id': no value"),
        ({"boolean_value": [True, False], "subject_id": [1.0, 1.5]}, "row 2, column 'subject_id': not a whole number"),
        (
            {"boolean_value": [True, False], "subject_id": ["1", "A-2"]},
            "row 2, column 'subject_id': not a whole number",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused_by_name(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(labels(tmp_path, columns))


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_a_label_file_of_0_bytes_is_said_to_be_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"{name} is empty: 0 bytes"):
        read(tmp_path / name)


def test_an_empty_label_file_is_said_to_be_empty_and_an_empty_part_is_none(tmp_path: Path) -> None:
    empty = labels(tmp_path, {"boolean_value": [True, False]}, "0.parquet")
    pl.read_parquet(empty).clear().write_parquet(empty)
    with pytest.raises(InputError, match=r"0.parquet is empty: it has columns but no labels"):
        read(empty)
    full = labels(tmp_path, {"boolean_value": [True, False]}, "1.parquet")
    assert read_labels([empty, full], "t")[0].select("file", "row", "value").rows() == [(1, 1, 1), (1, 2, 0)]


def test_a_csv_file_is_read_with_its_own_delimiter_old_names_and_an_index(tmp_path: Path) -> None:
    for mark in ",;\t":
        rows = [
            ",patient_id,prediction_time,boolean_value",
            "0,007,2020-01-01 10:00:00,True",
            "1,8.0,2020-01-02T10:00,False",
        ]
        assert read(csv(tmp_path, "\ufeff" + "\n".join(rows).replace(",", mark) + "\n")) == [
            (7, 1, "boolean"),
            (8, 0, "boolean"),
        ]
    with pytest.raises(InputError, match=r"row 2, column 'subject_id': no value"):
        read(
            csv(
                tmp_path,
                "subject_id,prediction_time,boolean_value\n1,2020-01-01 10:00:00,1\nNULL,2020-01-01 10:00:00,0\n",
            )
        )


def test_prediction_times_that_are_days_are_their_first_moment_and_counted(tmp_path: Path) -> None:
    for times in ([date(2020, 1, 1), date(2020, 1, 2)], ["2020-01-01", "2020-01-02"]):
        found, notes = read_labels([labels(tmp_path, {"boolean_value": [True, False], "prediction_time": times})], "t")
        assert found["prediction_time"].to_list() == T[:2] and notes == {DAYS: 2}


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_times_of_any_precision_are_the_same(tmp_path: Path, unit: Any) -> None:
    at = pl.Series([datetime(1970, 1, 1), datetime(2020, 1, 1, 10)]).cast(pl.Datetime(unit))
    assert read_labels([labels(tmp_path, {"boolean_value": [True, False], "prediction_time": at})], "t")[0][
        "prediction_time"
    ].to_list() == [
        datetime(1970, 1, 1),
        datetime(2020, 1, 1, 10),
    ]


def test_parts_that_hold_labels_of_two_kinds_are_refused(tmp_path: Path) -> None:
    parts = [
        labels(tmp_path, {"categorical_value": ["yes", "no"]}, "0.parquet"),
        labels(tmp_path, {"categorical_value": ["1", "2"]}, "1.parquet"),
    ]
    with pytest.raises(InputError, match="yes and no in one file and numbers in another"):
        read_labels(parts, "t")


SPELLINGS = st.sampled_from(["{}", "{}.0", "{}.", " {} ", "0{}", "000{}", "00{}.00", "+{}"])


@given(st.integers(0, 10**9), st.integers(0, 10**9), SPELLINGS, SPELLINGS)
def test_two_spellings_meet_exactly_where_they_are_of_one_subject(
    one: int, other: int, first: str, second: str
) -> None:
    texts = pl.Series("subject_id", [first.format(one), second.format(one), second.format(other)])
    found = subject_numbers(texts, "f").to_list()
    assert found[0] == found[1] == one and (found[0] == found[2]) == (one == other)
    assert subject_numbers(pl.Series("subject_id", [float(one)]), "f").to_list() == [one]
    assert subject_numbers(pl.Series("subject_id", [one], dtype=pl.UInt64), "f").to_list() == [one]


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-3, 3))
def test_two_spellings_of_a_time_meet_exactly_where_they_are_the_same_time(at: datetime, micros: int) -> None:
    other = at + timedelta(microseconds=micros)
    texts = pl.Series("prediction_time", [at.isoformat(sep=" "), other.isoformat()])
    found, days = moments(texts, "f")
    typed, _ = moments(pl.Series("prediction_time", [at, other]), "f")
    assert found.to_list() == typed.to_list() == [at, other] and not days


@given(st.sampled_from(["NaN", "NULL", "", "NA", r"\N", "<NA>", " nan "]), st.integers(0, 9))
def test_a_spelling_of_nothing_is_no_subject_and_0_is_one(nothing: str, number: int) -> None:
    assert subject_numbers(pl.Series("subject_id", ["0", str(number)]), "f").to_list() == [0, number]
    with pytest.raises(InputError, match="row 2, column 'subject_id': no value"):
        subject_numbers(pl.Series("subject_id", [str(number), nothing]), "f")
