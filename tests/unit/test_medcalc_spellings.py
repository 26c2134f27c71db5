"""MedCalc-Bench rows that a spreadsheet or a program wrote anew: numbers, days, ids and gaps mean
what they meant, or are refused.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from openpyxl import Workbook

from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.relabel import audit_rows, write_corrected
from ehrmind.data.unanswered import medcalc_to_ask
from ehrmind.types import Case, InputError
from tests.unit.test_medcalc_source import AGE, DATE, DECIMAL, SCORE, write

ROWS = [DECIMAL, SCORE, DATE, AGE]
ANSWER, LOWER, UPPER = "Ground Truth Answer", "Lower Limit", "Upper Limit"


def truths(path: Path) -> list[Any]:
    return [dict(case.truth) for case in read(path)]


def read(path: Path) -> list[Case]:
    return read_medcalc([path], split="train")[0]


def test_the_same_rows_in_every_form_of_table_are_the_same_cases(tmp_path: Path) -> None:
    expected = truths(write(tmp_path / "rows.csv", *ROWS))
    names = list(DECIMAL)
    for name, separator in (("semicolons.csv", ";"), ("tabs.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file, delimiter=separator).writerows(
                [names, *([row[column] for column in names] for row in ROWS)]
            )
    book = Workbook()
    for row in (names, *([row[column] for column in names] for row in ROWS)):
        book.active.append([float(cell) if cell.replace(".", "", 1).isdigit() else cell for cell in row])
    book.save(tmp_path / "book.xlsx")
    assert [truths(tmp_path / name) for name in ("semicolons.csv", "tabs.tsv", "book.xlsx")] == [expected] * 3


def test_answers_with_decimal_commas_are_read_so_and_the_counts_say_it(tmp_path: Path) -> None:
    rows = [
        row | {column: row[column].replace(".", ",") for column in (ANSWER, LOWER, UPPER)} for row in (DECIMAL, SCORE)
    ]
    cases, counts = read_medcalc(
        [write(tmp_path / "rows.csv", rows[0] | {ANSWER: "60,1", LOWER: "57,1", UPPER: "63,1"}, rows[1])], split="train"
    )
    assert [case.truth["value"] for case in cases] == [60.1, 3] and counts.notes[
        f"'{ANSWER}' is read with a decimal comma"
    ] == 2
    with pytest.raises(
        InputError, match=f"row 1, column '{ANSWER}': two readings.*write the column with decimal points"
    ):
        read(write(tmp_path / "doubt.csv", rows[0] | {LOWER: "57,1", UPPER: "63,1"}))


def test_a_comma_between_thousands_is_read_where_the_column_has_decimal_points(tmp_path: Path) -> None:
    big = DECIMAL | {"Row Number": "30", ANSWER: "1,234.5", LOWER: "1,172.8", UPPER: "1,296.2"}
    assert [truth["value"] for truth in truths(write(tmp_path / "rows.csv", DECIMAL, big))] == [60.101, 1234.5]


def test_days_are_months_first_and_a_typed_day_is_itself(tmp_path: Path) -> None:
    for day in ("01/09/2007", "1/9/2007", "2007-01-09", "2007-01-09 00:00:00"):
        assert (
            truths(write(tmp_path / "rows.csv", DATE | dict.fromkeys((ANSWER, LOWER, UPPER), day)))[0]["value"]
            == "2007-01-09"
        )
    for day in ("13/01/2007", "09.01.2007", "01/09/07", "2007-01-091", "39091"):
        with pytest.raises(InputError, match="MM/DD/YYYY"):
            read(write(tmp_path / "rows.csv", DATE | dict.fromkeys((ANSWER, LOWER, UPPER), day)))


@pytest.mark.parametrize("nothing", ["NaN", "NULL", "None", "<NA>", "\\N", ""])
def test_a_row_whose_answer_and_limits_say_nothing_is_left_out_and_one_with_limits_is_damaged(
    tmp_path: Path, nothing: str
) -> None:
    cases, counts = read_medcalc(
        [write(tmp_path / "rows.csv", DECIMAL, SCORE | dict.fromkeys((ANSWER, LOWER, UPPER), nothing))], split="train"
    )
    assert len(cases) == 1 and counts.left_out == {"no answer (empty)": 1}
    with pytest.raises(InputError, match=f"row 2 .*column '{ANSWER}': it is empty"):
        read(write(tmp_path / "damaged.csv", DECIMAL, SCORE | {ANSWER: nothing}))


def test_gaps_of_other_columns_are_gaps(tmp_path: Path) -> None:
    gaps = {"Note ID": "NaN", "Ground Truth Explanation": "NULL", "Calculator ID": "NaN", "note_in_test": "NaN"}
    case = read(write(tmp_path / "rows.csv", DECIMAL | gaps))[0]
    assert not {"note_id", "note_in_test"} & case.provenance.keys() and case.rationale is None
    with pytest.raises(InputError, match="column 'Patient Note': it is empty"):
        read(write(tmp_path / "rows.csv", DECIMAL | {"Patient Note": "NaN"}))


def test_numbers_of_rows_and_calculators_meet_however_a_program_wrote_them(tmp_path: Path) -> None:
    floats = DECIMAL | {"Row Number": "24.0", "Calculator ID": "2,0", "note_in_test": "1.0"}
    case = read(write(tmp_path / "rows.csv", floats))[0]
    assert (
        case.provenance["row"] == 24 and case.id.startswith("medcalc-24-") and case.provenance["note_in_test"] is True
    )
    for again in ("24", "024", "24.00"):
        with pytest.raises(InputError, match=r"row 2, column 'Row Number': it is also row 1's"):
            read(write(tmp_path / "rows.csv", floats, SCORE | {"Row Number": again, "note_in_test": "0"}))
    assert medcalc_to_ask([write(tmp_path / "rows.csv", floats)])[0][0].id.startswith("medcalc-24-")


@pytest.mark.parametrize("number", ["24.0", "024", "24"])
def test_the_corrected_copy_finds_each_row_whatever_its_number_looks_like(tmp_path: Path, number: str) -> None:
    path = write(tmp_path / "rows.csv", DECIMAL | {"Row Number": number})
    write_corrected(path, audit_rows(path), tmp_path / "out.csv")
    assert pl.read_csv(tmp_path / "out.csv", infer_schema=False)["Audit"].to_list() != ["no answer to check"]


def test_the_corrected_copy_has_points_where_the_file_has_decimal_commas(tmp_path: Path) -> None:
    commas = {ANSWER: "60,1", LOWER: "57,1", UPPER: "63,1"}
    path = write(tmp_path / "rows.csv", DECIMAL | commas, SCORE)
    write_corrected(path, audit_rows(path), tmp_path / "out.csv")
    copied = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
    assert (
        all("," not in cell for column in (ANSWER, LOWER, UPPER) for cell in copied[column])
        and len(truths(tmp_path / "out.csv")) == 2
    )
