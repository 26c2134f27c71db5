"""Workbooks that ask for more cells than fit are refused by a sentence; one whose dimension lies is
read. They are made here.
"""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import openpyxl
import pytest

from ehrmind.data.files import read_table
from ehrmind.types import InputError


def sheet(path: Path, cells: str, more: str = "", **parts: str) -> Path:
    """A workbook of one sheet, as XML."""
    book = openpyxl.Workbook()
    book.active.append(["question", "answer"])
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as made, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name in made.namelist():
            content = made.read(name)
            if name == "xl/worksheets/sheet1.xml":
                head = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
                content = head + f"<sheetData>{cells}</sheetData>{more}</worksheet>".encode()
            out.writestr(name, parts.get(name.rpartition("/")[2].partition(".")[0], content))
    return path


ROWS = (
    '<row r="1"><c r="A1" t="inlineStr"><is><t>question</t></is></c><c r="B1"'
    ' t="inlineStr"><is><t>answer</t></is></c></row><row r="2"><c r="A2" t="inlineStr"><is><t>How many?</t></is></c><c'
    ' r="B2"><v>3</v></c></row>'
)
LINK = '<hyperlinks><hyperlink display="&gt;" ref="A1:XFD1048576" location="a"/></hyperlinks>'
DTD = '<!DOCTYPE sst [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><sst><si><t>&b;</t></si></sst>'


@pytest.mark.parametrize(
    ("cells", "more", "parts"),
    [
        (ROWS, '<mergeCells count="1"><mergeCell ref="A1:XFD1048576"/></mergeCells>', {}),
        (ROWS, "<mergeCells><mergeCell a='>' ref='A1:XFD1048576'/></mergeCells>", {}),
        (ROWS, '<mergeCells><mergeCell ref="&#65;1:XFD1048576"/></mergeCells>', {}),
        (ROWS, LINK, {}),
        (f'{ROWS}<row r="3">{"<c/>" * 5_100_000}</row>', "", {}),
        (f'{ROWS}<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>', "", {}),
        (ROWS, "", {"styles": DTD}),
        (f"{ROWS}{'<a>' * 100_000}", "", {}),
    ],
)
def test_a_workbook_that_asks_for_more_cells_than_fit_is_refused(
    tmp_path: Path, cells: str, more: str, parts: dict[str, str]
) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match=r"a\.xlsx"):
        read_table(sheet(tmp_path / "a.xlsx", cells, more, **parts))
    assert time.monotonic() - started < 15


def test_a_workbook_whose_dimension_lies_is_read(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", ROWS, '<hyperlinks><hyperlink ref="A2" location="a"/></hyperlinks>')
    lies = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(lies)) as made, zipfile.ZipFile(path, "w") as out:
        for name in made.namelist():
            out.writestr(name, made.read(name).replace(b"<sheetData>", b'<dimension ref="A1:XFD1048576"/><sheetData>'))
    assert read_table(path).rows == [{"question": "How many?", "answer": "3"}]
