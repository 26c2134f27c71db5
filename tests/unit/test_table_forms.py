"""The forms in which tables come: separators, encodings, workbooks, JSON lines, typed columns; each
read as what it says, or refused.
"""

from __future__ import annotations

import datetime
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from openpyxl import Workbook

from ehrmind.data.cells import TypedNumber
from ehrmind.data.files import Table, read_lines, read_table, stem
from ehrmind.types import InputError

HEADER = ["question", "answer"]


def book(path: Path, *rows: list[Any], change: Callable[[Any, Any], None] | None = None) -> Path:
    made = Workbook()
    sheet = made.active
    for row in rows:
        sheet.append(row)
    if change:
        change(made, sheet)
    made.save(path)
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


def values(table: Table) -> list[list[str]]:
    return [list(row.values()) for row in table.rows]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_header_line_says_what_separates_columns(tmp_path: Path, separator: str) -> None:
    content = f'question{separator}"an;s,w|er"\n"a{separator}b"{separator}1\n'
    table = read_table(text(tmp_path / "q.csv", content))
    assert table.columns == ("question", "an;s,w|er") and values(table) == [[f"a{separator}b", "1"]]
    assert table.semicolons is (separator == ";")


def test_a_header_with_two_readings_is_decided_by_the_rows_or_refused(tmp_path: Path) -> None:
    assert read_table(text(tmp_path / "q.csv", "question;answer, mmHg\na;1\n")).columns == ("question", "answer, mmHg")
    assert read_table(text(tmp_path / "r.csv", "question,answer;mmHg\na,1\nb,2\n")).columns == (
        "question",
        "answer;mmHg",
    )
    with pytest.raises(InputError, match="header: its columns may be separated by commas or semicolons"):
        read_table(text(tmp_path / "s.csv", "question;x,answer\na;x,1\n"))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_header_whose_names_are_all_quoted_is_read_by_what_separates_them(tmp_path: Path, separator: str) -> None:
    content = (
        separator.join(['"question"', '"answer"', '"note, or text; as it was"'])
        + "\n"
        + separator.join(['"How much?"', '"4.5"', '"a"'])
    )
    table = read_table(text(tmp_path / "t.csv", content, "utf-8-sig"))
    assert table.columns == ("question", "answer", "note, or text; as it was")
    assert table.rows[0]["answer"] == "4.5"


def test_a_quote_of_the_header_that_is_never_closed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="header: not valid CSV; a quote is not closed"):
        read_table(text(tmp_path / "t.csv", '"question,answer\nHow much?,4.5\n'))


def test_the_line_that_tells_a_spreadsheet_the_separator_is_heard(tmp_path: Path) -> None:
    assert values(read_table(text(tmp_path / "q.csv", "sep=;\r\nquestion,a;answer\r\nx;93,3\r\n"))) == [["x", "93,3"]]


def test_a_tsv_file_has_tabs_alone_and_endings_may_be_capital(tmp_path: Path) -> None:
    assert values(read_table(text(tmp_path / "q.tsv", "question\tanswer;x\na, b\t1\n"))) == [["a, b", "1"]]
    (tmp_path / "Q.CSV.GZ").write_bytes(gzip.compress(b"question,answer\na,1\n"))
    assert values(read_table(tmp_path / "Q.CSV.GZ")) == [["a", "1"]] and stem(tmp_path / "Q.CSV.GZ") == "Q"
    assert [stem(name) for name in ("a.b.csv", "a.xlsx", "a.jsonl.gz", "a.gz", "a")] == ["a.b", "a", "a", "a", "a"]


def test_utf_16_with_its_mark_is_read_and_other_encodings_are_named(tmp_path: Path) -> None:
    assert values(read_table(text(tmp_path / "q.csv", "question;answer\nGrüße?;1\n", "utf-16"))) == [["Grüße?", "1"]]
    for encoding, says in (("cp1252", "save it as UTF-8"), ("utf-16-le", "save it as UTF-8")):
        with pytest.raises(InputError, match=says):
            read_table(text(tmp_path / "q.csv", "question;answer\nGrüße?;1\n", encoding))


def test_json_lines_keep_the_digits_of_numbers_and_line_separators_of_texts(tmp_path: Path) -> None:
    content = (
        '{"question": "a\u2028b\x85c", "answer": 93.30, "n": 12345678901234567890}\n{"question": "d", "answer": NaN,'
        ' "other": [1]}\n'
    )
    table = read_table(text(tmp_path / "q.jsonl", content))
    assert values(table) == [["a\u2028b\x85c", "93.30", "12345678901234567890", ""], ["d", "NaN", "", "[1]"]]
    assert isinstance(table.rows[0]["answer"], TypedNumber) and not isinstance(table.rows[0]["question"], TypedNumber)
    assert read_lines(tmp_path / "q.jsonl")[0] == content.splitlines(keepends=False)[:0] + content.strip("\n").split(
        "\n"
    )
    with pytest.raises(InputError, match="row 1: an object has a key twice"):
        read_table(text(tmp_path / "r.jsonl", '{"answer": 1, "answer": 2}\n'))


def test_typed_columns_of_parquet_keep_what_they_are(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "f": [1.0, None],
            "n": [float("nan"), 1.234],
            "b": [True, False],
            "d": [datetime.date(1970, 1, 1), None],
            "t": ["1.234", ""],
        }
    ).write_parquet(tmp_path / "q.parquet")
    table = read_table(tmp_path / "q.parquet")
    assert values(table) == [["1.0", "NaN", "true", "1970-01-01", "1.234"], ["", "1.234", "false", "", ""]]
    assert [isinstance(cell, TypedNumber) for cell in table.rows[1].values()] == [True, True, False, False, False]


def test_a_workbooks_values_are_its_own_whatever_it_shows(tmp_path: Path) -> None:
    def change(_: Workbook, sheet: Any) -> None:
        sheet["A2"].number_format = "0"
        sheet["A5"].number_format = "0.0%"

    days = [datetime.datetime(2026, 1, 31), datetime.datetime(2026, 1, 31, 10, 5)]
    rows = [
        [93.34, days[0], "93,3", True],
        [3.0, days[1], "x_x000D_", None],
        [0, None, " ", False],
        [0.055, None, "#N/A", None],
    ]
    table = read_table(book(tmp_path / "q.xlsx", ["a", "b", "c", "d"], *rows, [None] * 4, change=change))
    assert values(table) == [
        ["93.34", "2026-01-31", "93,3", "true"],
        ["3", "2026-01-31 10:05:00", "x\r", ""],
        ["0", "", " ", "false"],
        ["5.5%", "", "#N/A", ""],
    ]
    assert isinstance(table.rows[0]["a"], TypedNumber) and not isinstance(table.rows[3]["a"], TypedNumber)


def test_the_one_sheet_that_holds_anything_is_read_and_of_several_the_named_one(tmp_path: Path) -> None:
    one = book(tmp_path / "one.xlsx", HEADER, ["a", 1], change=lambda made, _: made.create_sheet("Empty"))
    assert values(read_table(one)) == [["a", "1"]]
    two = book(tmp_path / "two.xlsx", HEADER, ["a", 1], change=lambda made, _: made.create_sheet("More").append(["x"]))
    with pytest.raises(InputError, match=r"several sheets \(Sheet, More\); save the one you mean alone, or as CSV"):
        read_table(two)
    assert values(read_table(two, "Sheet")) == [["a", "1"]]
    for path, says in (
        (two, "no sheet 'Third'; it has Sheet, More"),
        (text(tmp_path / "q.csv", "a,b\n1,2\n"), "has no sheets"),
    ):
        with pytest.raises(InputError, match=says):
            read_table(path, "Third")


def test_hidden_rows_and_columns_are_read_and_named(tmp_path: Path) -> None:
    def hide(_: Workbook, sheet: Any) -> None:
        sheet.row_dimensions[2].hidden = True
        sheet.column_dimensions["B"].hidden = True

    table = read_table(book(tmp_path / "q.xlsx", HEADER, ["a", 1], ["b", 2], change=hide))
    assert (
        len(table.rows) == 2 and list(table.notes.values()) == [1, 1] and all("hidden" in note for note in table.notes)
    )


@pytest.mark.parametrize(
    ("rows", "change", "says"),
    [
        ([HEADER, ["a", "=1+1"]], None, "cell B2: a formula without its value"),
        ([HEADER, ["a", 1], ["b", None]], lambda _, sheet: sheet.merge_cells("B2:B3"), "the cells B2:B3 are merged"),
        ([["Our table"], HEADER, ["a", 1]], None, "cell B2: a value in a column without a name"),
        ([HEADER], None, "a header but no rows"),
        ([], None, "no sheet holds a cell"),
        (
            [HEADER, ["a", 1]],
            lambda _, sheet: sheet.cell(1048576, 16384, "x"),
            "spans 1,048,576 rows by 16,384 columns",
        ),
        ([["answer", "answer"], ["a", 1]], None, "more than one column named 'answer'"),
    ],
)
def test_a_sheet_without_one_reading_is_refused_with_its_cell(
    tmp_path: Path, rows: list[list[Any]], change: Any, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        read_table(book(tmp_path / "q.xlsx", *rows, change=change))


def test_a_workbook_that_grows_is_refused_by_its_size_and_a_broken_one_by_name(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("xl/worksheets/sheet1.xml", b"x" * (129 << 20))
    (tmp_path / "bomb.xlsx").write_bytes(bomb.getvalue())
    whole = book(tmp_path / "whole.xlsx", HEADER, ["a", 1]).read_bytes()
    (tmp_path / "cut.xlsx").write_bytes(whole[:-30])
    broken = io.BytesIO()
    with zipfile.ZipFile(broken, "w") as parts:
        parts.writestr("xl/workbook.xml", "<workbook")
    (tmp_path / "broken.xlsx").write_bytes(broken.getvalue())
    for name, says in (
        ("bomb", "larger than 128 MiB once unpacked"),
        ("cut", "not an .xlsx workbook"),
        ("broken", "not a workbook that can"),
    ):
        with pytest.raises(InputError, match=says):
            read_table(tmp_path / f"{name}.xlsx")
