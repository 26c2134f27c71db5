"""Reads a sheet of an .xlsx workbook into rows of text, with numbers and dates as stored.

Nothing is computed: a formula has its stored value. Macros, links and other workbooks are ignored.
"""

from __future__ import annotations

import datetime
import io
import math
import re
import warnings
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

from ehrmind.data.cells import TypedNumber
from ehrmind.data.headers import is_name
from ehrmind.data.text_tables import Rows, check_lengths
from ehrmind.types import InputError

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

# openpyxl raises these for broken, hostile and encrypted files. SyntaxError is its XML parser's.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
MAX_UNPACKED = 128 << 20  # bytes of a workbook's parts; openpyxl needs about ten times as much memory
MAX_CELLS = 5_000_000  # in the rectangle around all cells, empty ones included
_CELL = re.compile(rb"<(?:\w+:)?(?:c|si|row|col|xf)[\s/>]")
_RANGE = re.compile(
    rb"<(?:\w+:)?(?:mergeCell|hyperlink)\s(?:[^>\"']|\"[^\"]{0,500}\"|'[^']{0,500}'){0,500}?\bref\s*=\s*([\"'])(.*?)\1"
)


def read_sheet(raw: bytes, name: str, sheet: str | None, remedy: str) -> tuple[list[str], Rows, dict[str, int]]:
    """Returns (columns, rows, notes) of the named sheet, otherwise of the only one with content."""
    _refuse_bombs(raw, name)
    formulas = _open(raw, name, values=False)
    chosen = _choose(formulas, name, sheet, remedy)
    about = formulas[chosen]
    if about.max_row * about.max_column > MAX_CELLS:
        raise InputError(
            f"{name}, {_called(formulas, chosen, sheet)} spans {about.max_row:,} rows by {about.max_column:,} columns;"
            " save it as CSV."
        )
    if merged := sorted(str(cells) for cells in about.merged_cells.ranges):
        raise InputError(
            f"{name}, {_called(formulas, chosen, sheet)}: the cells {merged[0]} are merged, so their rows share one"
            " value; split them."
        )
    computed = {(cell.row, cell.column) for row in about.iter_rows() for cell in row if cell.data_type == "f"}
    values = _open(raw, name, values=True)[chosen]
    return *_cells(values, computed, name), _hidden(about)


def _refuse_bombs(raw: bytes, name: str) -> None:
    """Raises InputError if the workbook would unpack to too many bytes or cells.

    A part is never unpacked beyond its declared size, so the declared sizes are a bound.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as parts:
            if sum(part.file_size for part in parts.infolist()) > MAX_UNPACKED:
                raise InputError(
                    f"{name} is larger than {MAX_UNPACKED >> 20} MiB once unpacked; save the sheet as CSV."
                )
            cells = sum(_cell_count(parts.read(part)) for part in parts.infolist())
    except InputError:
        raise
    except (*_BROKEN, zipfile.BadZipFile):
        raise InputError(
            f"{name} is not an .xlsx workbook, or a broken or encrypted one; save it again without a password."
        ) from None
    if cells > MAX_CELLS:
        raise InputError(f"{name} has {cells:,} cells, with those of merged ranges and links; save the sheet as CSV.")


def _cell_count(part: bytes) -> int:
    """Counts the cells that openpyxl would make of a part.

    It makes one per element, and all cells of a range that is merged or a link. Raises ValueError
    for an encoding in which they cannot be counted.
    """
    from openpyxl.utils import range_boundaries

    if part.startswith((b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")):
        raise ValueError("UTF-16")
    cells = len(_CELL.findall(part))
    for found in _RANGE.finditer(part):
        # `range_boundaries` raises ValueError for a text that is no range.
        low, first, high, last = (edge or 1 for edge in range_boundaries(found[2].decode("ascii")))
        cells += (high - low + 1) * (last - first + 1)
    return cells


def _open(raw: bytes, name: str, *, values: bool) -> Workbook:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings(action="ignore"):  # a warning may quote a cell
            return load_workbook(io.BytesIO(raw), data_only=values, keep_links=False)
    except (*_BROKEN, zipfile.BadZipFile, zlib.error, InvalidFileException) as error:
        raise InputError(
            f"{name} is not a workbook that can be read ({type(error).__name__}); save it again as .xlsx or as CSV."
        ) from None


def _choose(book: Workbook, name: str, sheet: str | None, remedy: str) -> str:
    names = [str(title) for title in (found.title for found in book.worksheets)]
    if sheet is not None:
        if sheet not in names:
            raise InputError(f"{name} has no sheet '{sheet}'; it has {_listed(names)}.")
        return sheet
    filled = [found.title for found in book.worksheets if _holds_anything(found)]
    if len(filled) > 1:
        raise InputError(f"{name} has several sheets ({_listed(filled)}); {remedy}.")
    if not filled:
        raise InputError(f"{name} is empty: no sheet holds a cell.")
    return str(filled[0])


def _listed(sheets: list[str]) -> str:
    """Lists the sheets' names, except those that may be names of patients."""
    known = [sheet for sheet in sheets if _is_plain(sheet)]
    others = len(sheets) - len(known)
    return ", ".join([*known, *([f"{others} whose names are not shown here"] if others else [])])


def _called(book: Workbook, chosen: str, asked: str | None) -> str:
    return (
        f"sheet '{chosen}'" if asked is not None or _is_plain(chosen) else f"sheet {book.sheetnames.index(chosen) + 1}"
    )


def _is_plain(sheet: str) -> bool:
    return is_name(re.sub(r"(?i)\b(?:sheet|tabelle|feuil|hoja|more|all|page)(?=[\W_\d]|$)", "data", sheet))


def _holds_anything(sheet: Worksheet) -> bool:
    return sheet.max_row * sheet.max_column > MAX_CELLS or any(
        cell.value is not None for row in sheet.iter_rows() for cell in row
    )


def _cells(sheet: Worksheet, computed: set[tuple[int, int]], name: str) -> tuple[list[str], Rows]:
    lines = [
        row
        for row in sheet.iter_rows()
        if any(cell.value is not None or (cell.row, cell.column) in computed for cell in row)
    ]
    header = [_text(cell).strip() for cell in lines[0]]
    while header and not header[-1]:
        header.pop()
    rows: Rows = []
    for number, line in enumerate(lines[1:], start=1):
        for cell in line:
            if cell.value is None and (cell.row, cell.column) in computed and cell.data_type != "str":
                raise InputError(
                    f"{name}, cell {cell.coordinate}: a formula without its value; open and save the file in a"
                    " spreadsheet."
                )
            if cell.value is not None and cell.column > len(header):
                raise InputError(
                    f"{name}, cell {cell.coordinate}: a value in a column without a name; name it in the first row."
                )
        fields = [_text(cell) for cell in line[: len(header)]]
        check_lengths(fields, name, number, header)
        rows.append(fields)
    return header, rows


def _text(cell: Any) -> str:
    """Converts a cell's value to text from which `cells` and `dates` read the same value."""
    from openpyxl.utils.escape import unescape

    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if "%" in (cell.number_format or ""):
            return f"{value * 100:.12g}%"  # as shown, so that 5% differs from 0.05
        return TypedNumber(
            int(value) if isinstance(value, float) and math.isfinite(value) and value.is_integer() else value
        )
    if isinstance(value, datetime.datetime):
        return (
            value.date().isoformat()
            if value.time() == datetime.time()
            else value.isoformat(sep=" ", timespec="seconds")
        )
    return str(unescape(value)) if isinstance(value, str) else str(value)


def _hidden(sheet: Worksheet) -> dict[str, int]:
    """Counts hidden rows and columns, which are read like the others, for a note to the user."""
    found = {
        "hidden rows of the sheet, which are read too": sum(bool(row.hidden) for row in sheet.row_dimensions.values()),
        "hidden columns of the sheet, which are there too": sum(
            bool(column.hidden) for column in sheet.column_dimensions.values()
        ),
        "the sheet is a hidden one": int(sheet.sheet_state != "visible"),
    }
    return {what: times for what, times in found.items() if times}
