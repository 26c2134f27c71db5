"""Whatever is wrong with a file of records, and whichever command reads it: nothing that is said
quotes a cell, a name or a header.

Every text in these files is a canary, ids and headers included. A command may succeed or refuse; it
never ends as a fault, and no canary reaches the terminal, a log, a warning or a file that others
may read.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest

from ehrmind.data import save_cases
from ehrmind.data.synthetic import synthetic_cases
from tests.canaries import ID, TEXT, WORD, open_files_with_a_canary, spoilt_csv, spoilt_lines, spoilt_parquet
from tests.watched import Watched

NUMBER = 918273


def test_the_canaries_would_be_seen(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    (watched.folder / "open.txt").write_text(f"so {TEXT}")
    assert open_files_with_a_canary(watched.folder, []) == ["open.txt"]
    with pytest.raises(AssertionError):
        watched.run("a name that is given", "data", "medcalc", watched.folder / f"{WORD}.csv", "--out", "o.parquet")


MEDCALC = [
    ["Row Number", "Calculator ID", "Calculator Name", "Category", "Note ID", "Patient Note", "Question", "Relevant Entities",
     "Ground Truth Answer", "Lower Limit", "Upper Limit", "Ground Truth Explanation", "note_in_test"],
    *([str(row), "2", "Creatinine Clearance (Cockcroft-Gault Equation)", "lab test", ID, f"{TEXT} {row}", f"How much, {TEXT}?",
       str({"sex": TEXT, "age": [40, "years"], "weight": [NUMBER, ID], "height": [170, "cm"], "creatinine": [1, "mg/dL"], ID: TEXT}),
       "38.5", "36.5", "40.5", TEXT, "False"] for row in (1, 2, 3)),
]  # fmt: skip


def test_rows_of_medcalc_are_not_quoted(watched: Watched) -> None:
    file = watched.folder / "rows.csv"
    for how, content in watched.drawn(spoilt_csv(MEDCALC)):
        file.write_bytes(content)
        watched.run(how, "data", "medcalc", file, "--out", "o.parquet", given=[file])
        watched.run(how, "data", "new", "medcalc", file, "--out", "o.parquet", given=[file])
        watched.run(how, "data", "audit", file, "--json", "--out", "corrected.csv", given=[file])
    assert {0, 2} == set(watched.codes)


TABLE = [["question", "answer", "note", "patient", "id", "rationale", "split"],
         *([f"Is it so, {TEXT}?", "yes" if row % 2 else "no", f"{TEXT} {row}", f"{ID}{row}", f"{ID}-{row}", TEXT, "train"]
           for row in range(4))]  # fmt: skip
LABELS = ("--kind", "label", "--label", "no", "--label", "yes")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [(LABELS, "yes"), (("--kind", "number"), "3.5"), (("--kind", "integer"), "3"), (("--kind", "date"), "2020-01-31")],
    ids=["label", "number", "integer", "date"],
)
def test_tables_in_every_form_are_not_quoted(kind: Sequence[str], answer: str, watched: Watched) -> None:
    rows = [TABLE[0], *([*row[:1], answer, *row[2:]] for row in TABLE[1:])]
    columns = ("--record", "note", "--group", "patient")
    file = watched.folder / "rows.csv"
    for how, content in watched.drawn(spoilt_csv(rows)):
        file.write_bytes(content)
        watched.run(
            how, "data", "table", file, *kind, *columns, "--rationale", "rationale", "--out", "o.parquet", given=[file]
        )
        watched.run(
            how, "data", "new", "table", file, *kind, *columns, "--id", "id", "--out", "o.parquet", given=[file]
        )
    if kind is not LABELS:
        return
    lines: list[dict[str, object]] = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    forms = {"rows.parquet": spoilt_parquet(pl.DataFrame(lines)), "rows.jsonl": spoilt_lines(lines)}
    for name, ways in forms.items():
        file = watched.folder / name
        for how, content in watched.drawn(ways):
            file.write_bytes(content)
            watched.run(
                how,
                "data",
                "table",
                file,
                *kind,
                *columns,
                "--out",
                "o.parquet",
                given=[watched.folder / "rows.csv", *(watched.folder / other for other in forms)],
            )
    assert {0, 2} == set(watched.codes)


def test_cells_of_workbooks_are_not_quoted(watched: Watched) -> None:
    from openpyxl import Workbook

    for at in range(0, len(TABLE[0]), 3 if watched.share > 1 else 1):
        book = Workbook()
        sheet = book.active
        assert sheet is not None
        sheet.title = TEXT[:20]
        for number, row in enumerate(TABLE):
            sheet.append([*row[:at], TEXT if number else f"{ID}{at}", *row[at + 1 :]])
        book.create_sheet(ID)["A1"] = TEXT
        book.save(watched.folder / "two.xlsx")
        book.remove(book[ID])
        book.save(watched.folder / "one.xlsx")
        sheet["B2"] = f'="{TEXT}"'
        book.save(watched.folder / "formula.xlsx")
        sheet.merge_cells("A2:B2")
        book.save(watched.folder / "merged.xlsx")
        whole = (watched.folder / "one.xlsx").read_bytes()
        (watched.folder / "cut.xlsx").write_bytes(whole[:-200])
        (watched.folder / "text.xlsx").write_bytes(TEXT.encode())
        books = [watched.folder / f"{name}.xlsx" for name in ("one", "two", "formula", "merged", "cut", "text")]
        for file in books:
            watched.run(
                f"{file.name} {at}",
                "data",
                "table",
                file,
                *LABELS,
                "--record",
                "note",
                "--out",
                "o.parquet",
                given=books,
            )


def test_files_of_cases_are_not_quoted(watched: Watched) -> None:
    file = watched.folder / "cases.parquet"
    save_cases(synthetic_cases(3, 1, "held_out", ["sirs"]), file)
    for how, content in watched.drawn(spoilt_parquet(pl.read_parquet(file))):
        file.write_bytes(content)
        for command in (
            ("check", file),
            ("predict", "nowhere", file, "--out", "p"),
            ("export", "trl", file, "--model", "nowhere", "--out", "x"),
        ):
            watched.run(f"{command[0]}: {how}", *command, given=[file])


@pytest.mark.parametrize(
    "text",
    [
        (
            "data: {train: {cases: [a]}}\nendpoints: {far: {url: 'http://localhost:8000/v1', model: m, api_key:"
            f" {ID}}}}}\n"
        ),
        f"data: [\napi_key: {ID}\n",
        f"api_key: '{ID}\n",
        f"a: *{ID}\n",
        f"a: !{ID} b\n",
        f"endpoints:\n\tapi_key: {ID}\n",
        f"url: {'http:'}//u:{ID}@localhost/v1\ndata: 3\n",
        f"model: {{tiny: {{hidden: {ID}}}}}\ndata: {{train: 3}}\n",
        f"a: %{ID}\n",
        f"a: @{ID}\n",
        f"api_key_env: {ID}: {ID}\n",
    ],
)
def test_recipes_with_a_key_in_them_are_not_quoted(text: str, watched: Watched) -> None:
    file = watched.folder / "recipe.yaml"
    file.write_text(text)
    for command in ("run", "pilot", "evaluate"):
        watched.run(text, command, file, "--out", "out", given=[file])
    watched.run(
        "an endpoint's section", "predict", "m", "cases.parquet", "--endpoint", file, "--out", "p", given=[file]
    )
    assert set(watched.codes) == {2}
