"""MedCalc-Bench rows, all synthetic: what is read, what is left out, and what is refused and
how."""

from __future__ import annotations

import csv
import gzip
import logging
import traceback
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.data.answers import MisfitError, truth
from ehrmind.data.medcalc import read_medcalc
from ehrmind.types import InputError

CANARY = "CANARY-7f3a"
DECIMAL: dict[str, Any] = {
    "Row Number": "24",
    "Calculator ID": "2",
    "Calculator Name": "Creatinine Clearance (Cockcroft-Gault Equation)",
    "Category": "lab test",
    "Output Type": "decimal",
    "Note ID": "made-up-1",
    "Note Type": "Template",
    "Patient Note": f"A made-up woman of 60, {CANARY}, weighs 70 kg.\nHer creatinine is 1.1 mg/dL.",
    "Question": f"What is her creatinine clearance? {CANARY}",
    "Relevant Entities": "{'age': [60, 'years'], 'sex': 'Female', 'word': '" + CANARY + "'}",
    "Ground Truth Answer": "60.101",
    "Lower Limit": "57.096",
    "Upper Limit": "63.106",
    "Ground Truth Explanation": f"{CANARY} (140 - 60) * 70 * 0.85 / (72 * 1.1) = 60.101",
}


def _like(row_number: str, calculator: tuple[str, str, str, str], answer: str) -> dict[str, Any]:
    about = dict(zip(("Calculator ID", "Calculator Name", "Category", "Output Type"), calculator, strict=True))
    return (
        DECIMAL
        | about
        | {"Row Number": row_number}
        | dict.fromkeys(("Ground Truth Answer", "Lower Limit", "Upper Limit"), answer)
    )


SCORE = _like("25", ("4", "CHA2DS2-VASc Score for Atrial Fibrillation Stroke Risk", "risk", "integer"), "3")
DATE = _like("26", ("13", "Estimated Due Date", "date", "date"), "01/09/2007")
AGE = _like("27", ("69", "Estimated Gestational Age", "date", "integer"), "('14 weeks', '1 days')")


def write(path: Path, *rows: dict[str, Any], columns: list[str] | None = None) -> Path:
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        pl.DataFrame([{name: row.get(name) for name in names} for row in rows]).write_parquet(path)
        return path
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def refusal(*files: Path | str, **options: Any) -> str:
    """The message of the refusal; whatever it is, no canary may be in it or in its traceback."""
    with pytest.raises(InputError) as caught:
        read_medcalc(list(files), split="train", **options)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_a_row_becomes_a_case_with_everything_later_stages_need(tmp_path: Path) -> None:
    cases, _ = read_medcalc([write(tmp_path / "test.csv", DECIMAL)], split="held_out")
    case = cases[0]
    assert case.fields == {"note": DECIMAL["Patient Note"], "question": DECIMAL["Question"]}
    assert case.truth == {
        "kind": "decimal",
        "calculator": 2,
        "value": 60.101,
        "low": 57.096,
        "high": 63.106,
        "unit": "mL/min",
    }
    assert (
        case.stratum == f"medcalc/lab/{case.task}"
        and case.split == "held_out"
        and case.rationale == DECIMAL["Ground Truth Explanation"]
    )
    assert case.provenance["file"] == "test.csv" and case.provenance["row"] == 24
    assert case.provenance["benchmark_answer"] == {"answer": "60.101", "lower": "57.096", "upper": "63.106"}
    assert case.provenance["entities"] == DECIMAL["Relevant Entities"]


def test_the_four_kinds_of_answer_are_read(tmp_path: Path) -> None:
    cases, _ = read_medcalc([write(tmp_path / "t.csv", DECIMAL, SCORE, DATE, AGE)], split="train")
    truths = [{key: value for key, value in case.truth.items() if key != "calculator"} for case in cases[1:]]
    assert truths == [
        {"kind": "integer", "value": 3, "unit": "points"},
        {"kind": "date", "value": "2007-01-09"},
        {"kind": "weeks_days", "weeks": 14, "days": 1},
    ]


def test_csv_gzip_and_parquet_of_one_table_give_the_same_cases(tmp_path: Path) -> None:
    numbers = [
        row | {name: int(row[name]) for name in ("Row Number", "Calculator ID")} for row in (DECIMAL, SCORE, DATE, AGE)
    ]
    files = [write(tmp_path / name, *numbers) for name in ("t.csv", "t.csv.gz", "t.parquet")]
    read = [read_medcalc(file, split="train")[0] for file in files]
    for cases in read[1:]:
        assert [(c.fields, c.truth, c.rationale, c.group, c.provenance["row"]) for c in cases] == [
            (c.fields, c.truth, c.rationale, c.group, c.provenance["row"]) for c in read[0]
        ]


@pytest.mark.parametrize("spelling", ["lab", "lab test", "Lab Test"])
def test_both_spellings_of_a_category_lead_to_one_stratum(tmp_path: Path, spelling: str) -> None:
    cases, counts = read_medcalc([write(tmp_path / "t.csv", DECIMAL | {"Category": spelling})], split="train")
    assert cases[0].stratum.startswith("medcalc/lab/") and not counts.notes


def test_a_row_under_another_category_is_kept_under_the_calculators_own_and_counted(tmp_path: Path) -> None:
    cases, counts = read_medcalc([write(tmp_path / "t.csv", DECIMAL | {"Category": "physical"})], split="train")
    assert cases[0].stratum.startswith("medcalc/lab/") and sum(counts.notes.values()) == 1


def test_the_physicians_corrections_are_read_without_the_columns_they_lack(tmp_path: Path) -> None:
    columns = [
        "Unique ID",
        "Calculator Name",
        "Question",
        "Patient Note",
        "Ground Truth Answer",
        "Lower Limit",
        "Upper Limit",
    ]
    days = AGE | {"Unique ID": "9", "Ground Truth Answer": "99", "Lower Limit": "94.05", "Upper Limit": "103.95"}
    score = SCORE | {"Unique ID": "8", "Lower Limit": "2.8499999999999996", "Upper Limit": "3.1500000000000004"}
    cases, counts = read_medcalc([write(tmp_path / "t.csv", score, days, columns=columns)], split="train")
    assert [case.truth["calculator"] for case in cases] == [4, 69]
    assert (cases[1].truth["weeks"], cases[1].truth["days"]) == (14, 1)
    assert cases[0].rationale is None and counts.notes["no explanation, so no worked answer to learn from"] == 2
    assert counts.notes["gestational age in days, turned into weeks and days"] == 1


def test_rows_without_an_answer_are_left_out_and_counted_by_reason(tmp_path: Path) -> None:
    limits = ("Ground Truth Answer", "Lower Limit", "Upper Limit")
    abstained = DECIMAL | {"Row Number": "1"} | dict.fromkeys(limits, "N/A")
    missing = DECIMAL | {"Row Number": "2"} | dict.fromkeys(limits, "")
    for name in ("t.csv", "t.parquet"):
        cases, counts = read_medcalc([write(tmp_path / name, abstained, missing, SCORE)], split="train")
        assert len(cases) == counts.kept == 1
        assert counts.left_out == {"no answer (N/A)": 1, "no answer (empty)": 1}
    assert "left out 1: no answer (N/A)" in counts.lines()


@pytest.mark.parametrize(
    ("row", "column", "value", "said"),
    [
        (DECIMAL, "Ground Truth Answer", "sixty", "it is not a number"),
        (DECIMAL, "Ground Truth Answer", "1_000", "not a number"),
        (DECIMAL, "Ground Truth Answer", "NaN", "empty"),
        (DECIMAL, "Ground Truth Answer", "inf", "not a number"),
        (DECIMAL, "Ground Truth Answer", "1e999", "not a number"),
        (DECIMAL, "Ground Truth Answer", "", "empty"),
        (DECIMAL, "Ground Truth Answer", "70", "outside the row's own limits"),
        (DECIMAL, "Lower Limit", "57,1", "not a number"),
        (DECIMAL, "Upper Limit", "NaN", "empty"),
        (DECIMAL, "Lower Limit", "64", "above 'Upper Limit'"),
        (SCORE, "Ground Truth Answer", "3.4", "outside"),
        (DATE, "Ground Truth Answer", "13/09/2007", "not a day of the calendar"),
        (DATE, "Ground Truth Answer", "02/30/2007", "not a day of the calendar"),
        (DATE, "Ground Truth Answer", "soon", "not a date"),
        (DATE, "Lower Limit", "3", "not a date"),
        (AGE, "Ground Truth Answer", "('14 weeks', '8 days')", "neither"),
        (AGE, "Ground Truth Answer", "__import__('os')", "neither"),
        (DECIMAL, "Calculator Name", "Moon Phase", "none of the 55"),
        (DECIMAL, "Calculator ID", "3", "which is 2"),
        (DECIMAL, "Category", "astrology", "not a category"),
        (DECIMAL, "Patient Note", "  \n", "empty"),
        (DECIMAL, "Question", "", "empty"),
        (DECIMAL, "Relevant Entities", f"open('{CANARY}')", "not a Python literal"),
        (DECIMAL, "Relevant Entities", "{'a': nan}", "not a Python literal"),
        (DECIMAL, "Relevant Entities", "[1, 2]", "not a dictionary"),
        (DECIMAL, "Relevant Entities", "", "not a Python literal"),
        (DECIMAL, "Relevant Entities", "(" * 5000, "not a Python literal"),
        (DECIMAL, "Relevant Entities", "{'a': '" + "x" * 30_000 + "'}", "at most 20,000"),
        (DECIMAL, "note_in_test", "perhaps", "neither True nor False"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_file_row_and_column(
    tmp_path: Path, row: dict[str, Any], column: str, value: str, said: str
) -> None:
    other = DECIMAL | {"Row Number": "7"}
    for name in ("rows.csv", "rows.parquet"):
        extra = {"note_in_test": "False"} if column == "note_in_test" else {}
        message = refusal(write(tmp_path / name, other | extra, row | {column: value}))
        assert name in message and "row 2" in message and f"(Row Number {row['Row Number']})" in message
        assert f"column '{column}'" in message and said in message


def test_the_other_rows_that_do_not_fit_are_counted_in_the_refusal(tmp_path: Path) -> None:
    bad = [DECIMAL | {"Row Number": str(i), "Lower Limit": "low"} for i in range(5)]
    assert "4 more rows" in refusal(write(tmp_path / "t.csv", *bad))


def test_an_unknown_calculator_is_told_its_nearest_name(tmp_path: Path) -> None:
    assert f"did you mean '{CATALOGUE[13].name}'" in refusal(
        write(tmp_path / "t.csv", DATE | {"Calculator Name": "Estimate Due Dates"})
    )


@pytest.mark.parametrize("value", [f"a text with {CANARY} in a shifted cell", CANARY * 9])
def test_a_cell_that_a_shift_filled_with_record_text_is_not_quoted(tmp_path: Path, value: str) -> None:
    for column in ("Row Number", "Calculator ID", "Calculator Name", "Category", "Ground Truth Answer", "Lower Limit"):
        assert CANARY not in refusal(write(tmp_path / f"{column}.csv", DECIMAL | {column: value}))


def test_reading_logs_nothing_and_keeps_record_text_out_of_counts_and_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        cases, counts = read_medcalc([write(tmp_path / "t.csv", DECIMAL)], split="train")
    assert (
        CANARY
        not in caplog.text
        + str(counts.to_dict())
        + "".join(counts.lines())
        + cases[0].id
        + cases[0].group
        + cases[0].stratum
    )


@pytest.mark.parametrize("column", ["Ground Truth Answer", "Patient Note", "Calculator Name", "Row Number"])
def test_a_missing_column_is_named_beside_those_found(tmp_path: Path, column: str) -> None:
    names = [name for name in DECIMAL if name != column]
    message = refusal(write(tmp_path / "t.csv", DECIMAL, columns=names))
    assert "t.csv" in message and f"'{column}'" in message.split("it has '")[0] and "'Question'" in message


def test_two_rows_with_one_number_are_refused_and_both_named(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "t.csv", DECIMAL, SCORE, DATE | {"Row Number": "24"}))
    assert "row 3" in message and "row 1" in message and "'Row Number'" in message


def test_ids_are_unique_across_files_of_the_same_name_and_one_file_given_twice_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    files = [
        write(tmp_path / "a" / "t.csv", DECIMAL),
        write(tmp_path / "b" / "t.csv", DECIMAL | {"Question": "Another?"}),
    ]
    cases, counts = read_medcalc(files, split="train")
    assert len({case.id for case in cases}) == 2 and len(counts.files) == 2
    assert "same content" in refusal(files[0], write(tmp_path / "copy.csv", DECIMAL))


def test_an_id_does_not_depend_on_the_folder_or_on_the_files_beside_it(tmp_path: Path) -> None:
    first, second = write(tmp_path / "t.csv", DECIMAL), write(tmp_path / "u.csv", SCORE)
    alone = read_medcalc([first], split="train")[0]
    assert read_medcalc([second, first], split="train")[0][1].id == alone[0].id


def test_a_note_that_is_also_in_the_test_split_is_kept_flagged_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", DECIMAL | {"note_in_test": "True"}, SCORE | {"note_in_test": "False"})
    cases, counts = read_medcalc([path], split="train")
    assert [case.provenance["note_in_test"] for case in cases] == [True, False]
    assert counts.notes["note is also in the benchmark's test split (note_in_test)"] == 1


def test_extra_columns_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", DECIMAL | {"Unnamed: 0": "0"})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_medcalc([path], split="train")[0]) == 1


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """A file for each way of being broken, and a word its refusal must have."""
    good = write(folder / "good.csv", DECIMAL, SCORE).read_bytes()
    contents: dict[str, tuple[bytes, str]] = {
        "empty.csv": (b"", "empty"),
        "empty.parquet": (b"", "empty"),
        "nothing.csv.gz": (gzip.compress(b""), "empty"),
        "empty.csv.gz": (b"", "empty"),
        "blank.csv": (b"\n\n", "empty"),
        "header.csv": (good.splitlines()[0] + b"\n", "no rows"),
        "cut.csv.gz": (gzip.compress(good)[:-20], "gzip"),
        "flipped.csv.gz": (gzip.compress(good)[:40] + b"\0\0\0\0" + gzip.compress(good)[44:], "gzip"),
        "plain.csv.gz": (good, "gzip"),
        "text.parquet": (good, "not a parquet file"),
        "cut.parquet": (write(folder / "whole.parquet", DECIMAL).read_bytes()[:-9], "not a parquet file"),
        "latin.csv": (good.replace(b"made-up woman", "Frau Müller".encode("latin-1")), "UTF-8"),
        "zeros.csv": (good[:50] + b"\0" + good[50:], "binary zeros"),
        "open-quote.csv": (good + b'1,2,"never closed\n', "row 3: not valid CSV"),
        "short.csv": (good + b"1,2\n", "row 3: 2 values for 14 columns"),
        "twice.csv": (b"Row Number,Row Number\n1,2\n", "more than one column named 'Row Number'"),
        "table.ods": (b"PK", "ending"),
        "table.xlsx": (b"PK", "not an .xlsx workbook"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    found = {name: (folder / name, word) for name, (_, word) in contents.items()}
    big = DECIMAL | {"Patient Note": CANARY * 100_000}
    found["megabyte.csv"] = (write(folder / "megabyte.csv", SCORE, big), "row 2, column 'Patient Note'")
    found["megabyte.parquet"] = (write(folder / "megabyte.parquet", SCORE, big), "row 2, column 'Patient Note'")
    return found | {"gone.csv": (folder / "gone.csv", "no file"), "a folder": (folder, "folder")}


def test_every_broken_file_is_refused_by_name_with_what_is_wrong(tmp_path: Path) -> None:
    for name, (path, word) in broken_files(tmp_path).items():
        message = refusal(path)
        assert str(path) in message and word in message, name


def test_a_parquet_column_of_lists_is_refused_by_name(tmp_path: Path) -> None:
    pl.DataFrame([DECIMAL | {"Question": ["what", "now"]}]).write_parquet(tmp_path / "t.parquet")
    assert "column 'Question'" in refusal(tmp_path / "t.parquet")


def test_free_water_asked_for_in_kg_has_that_unit(tmp_path: Path) -> None:
    row = _like("1", ("38", "Free Water Deficit", "lab", "decimal"), "2.5") | {
        "Question": "What is the free water deficit in terms of kg?"
    }
    assert read_medcalc([write(tmp_path / "t.csv", row)], split="train")[0][0].truth["unit"] == "kg"


def test_no_files_at_all_is_refused() -> None:
    assert "No file" in refusal()


ANSWERS = (
    st.text(max_size=40)
    | st.floats().map(repr)
    | st.dates().map("{:%m/%d/%Y}".format)
    | st.just("('3 weeks', '4 days')")
)


@given(st.sampled_from(sorted(CATALOGUE)), ANSWERS, ANSWERS, ANSWERS)
def test_any_answer_text_gives_a_truth_or_a_named_misfit(calculator: int, answer: str, lower: str, upper: str) -> None:
    try:
        found = truth(CATALOGUE[calculator], "mL", answer, lower, upper)
    except MisfitError as misfit:
        assert misfit.column in {"Ground Truth Answer", "Lower Limit", "Upper Limit"}
    else:
        assert found["calculator"] == calculator


@given(st.floats(-1e6, 1e6), st.floats(0, 100))
def test_a_decimal_inside_its_limits_keeps_its_value(value: float, width: float) -> None:
    found = truth(CATALOGUE[2], None, repr(value), repr(value - width), repr(value + width))
    assert found["value"] == value and found["low"] <= value <= found["high"]
