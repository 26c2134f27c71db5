"""Parses rows from text: columns separated by comma, semicolon, tab or bar, or JSON lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ehrmind.data.cells import TypedNumber
from ehrmind.data.headers import at as column_at
from ehrmind.types import InputError

MAX_FIELD = 200_000  # characters; the longest published note has 11,224
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MAX_CELLS = 20_000_000  # per table; each cell is a Python string
MAX_COLUMNS = 10_000
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_EXCEL_SEPARATOR = re.compile(r"sep=([,;\t|])\r?\n")  # the first line that tells Excel how to open a file
_MARKS = (b"\xff\xfe", b"\xfe\xff")

Rows = list[list[str]]


def decoded(raw: bytes, name: str) -> str:
    """Decodes UTF-8 with or without a byte order mark, or UTF-16 with one."""
    try:
        text = raw.decode("utf-16" if raw.startswith(_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "it may be saved as Windows-1252 or Latin-1; save it as UTF-8 (in a spreadsheet: CSV UTF-8)"
        raise InputError(f"{name} is not UTF-8 text (byte {error.start:,}); {hint}.") from None
    return text


def separated(text: str, name: str, separators: Sequence[str] = tuple(SEPARATORS)) -> tuple[list[str], Rows, str]:
    """Returns (columns, rows, separator). The header decides the separator, otherwise the rows do.

    Raises InputError if neither does.
    """
    if "\0" in text:
        raise InputError(f"{name} is not a CSV file: it holds binary zeros; if it is UTF-16, save it as UTF-8.")
    if excel := _EXCEL_SEPARATOR.match(text):
        separators, text = (excel[1],), text[excel.end() :]
    headers = _headers(text, name, separators)
    possible = [separator for separator, header in headers.items() if len(header) > 1] or [next(iter(headers))]
    if len(possible) > 1:
        possible = [separator for separator in possible if _is_even(text, separator)] or possible
    if len(possible) > 1:
        named = " or ".join(SEPARATORS[separator] for separator in possible)
        raise InputError(
            f"{name}, header: its columns may be separated by {named}; quote the names of columns that hold one of"
            " them."
        )
    separator = possible[0]
    check_size(name, 1, len(headers[separator]))
    if not any(headers[separator]):
        raise InputError(f"{name} is empty: it has no header line.")
    return headers[separator], _rows(text, name, separator, headers[separator]), separator


def _headers(text: str, name: str, separators: Sequence[str]) -> dict[str, list[str]]:
    """Parses the header with each separator, and returns those with which it is valid CSV.

    A quoted name must be followed by the true separator, so a wrong one is often invalid.
    """
    found: dict[str, list[str]] = {}
    problems: list[InputError] = []
    for separator in separators:
        try:
            found[separator] = _header(text, name, separator)
        except InputError as problem:
            problems.append(problem)
    if not found:
        raise problems[0]
    return found


def _header(text: str, name: str, separator: str) -> list[str]:
    return [column.strip().strip("\ufeff\u200b").strip() for column in next(_records(text, name, separator), [])]


def _rows(text: str, name: str, separator: str, header: list[str]) -> Rows:
    lines = _records(text, name, separator)
    next(lines)
    rows: Rows = []
    for number, fields in enumerate(lines, start=1):
        if len(fields) != len(header):
            counted = f"{len(fields)} values for {len(header)} columns"
            raise InputError(
                f"{name}, row {number}: {counted}; quote values that hold {SEPARATORS[separator]} or line ends."
            )
        check_lengths(fields, name, number, header)
        check_size(name, number, len(header))
        rows.append(fields)
    return rows


def _is_even(text: str, separator: str) -> bool:
    """Tells whether all records have as many fields as the header."""
    try:
        return len({len(fields) for fields in _records(text, "", separator)}) == 1
    except InputError:
        return False


def _records(text: str, name: str, separator: str) -> Iterator[list[str]]:
    """Yields the records, without blank lines. `strict` refuses an open quote.

    Otherwise an open quote would swallow the rows after it.
    """
    # The limit of `csv` does not name the column that is too long. `check_lengths` does.
    before = csv.field_size_limit(len(text) + 1)
    number = 0
    try:
        for fields in csv.reader((line[0] for line in _LINE.finditer(text)), strict=True, delimiter=separator):
            if fields:
                yield fields
                number += 1
    except csv.Error:
        where = f", row {number}" if number else ", header"
        raise InputError(f"{name}{where}: not valid CSV; a quote is not closed or not doubled.") from None
    finally:
        csv.field_size_limit(before)


def json_lines(lines: Sequence[str], name: str) -> tuple[list[str], Rows]:
    """Parses one JSON object per line. Rows get all columns; numbers keep the file's digits."""
    objects = [_object(line, name, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not objects:
        raise InputError(f"{name} holds no row.")
    columns = list(dict.fromkeys(column for row in objects for column in row))
    check_size(name, len(objects), len(columns))
    rows = [[row.get(column, "") for column in columns] for row in objects]
    for number, fields in enumerate(rows, start=1):
        check_lengths(fields, name, number, columns)
    return columns, rows


class _TwiceError(ValueError):
    """Error for a key that an object has twice."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _TwiceError
    return dict(pairs)


def _object(line: str, name: str, number: int) -> dict[str, str]:
    try:
        row = json.loads(
            line, parse_float=TypedNumber, parse_int=TypedNumber, parse_constant=TypedNumber, object_pairs_hook=_pairs
        )
    except _TwiceError:
        raise InputError(f"{name}, row {number}: an object has a key twice; keep one.") from None
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise InputError(f"{name}, row {number}: not a JSON object.")
    nested = json.loads(line) if any(isinstance(value, list | dict) for value in row.values()) else {}
    return {column: _text(nested[column] if isinstance(value, list | dict) else value) for column, value in row.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def check_size(name: str, rows: int, columns: int) -> None:
    """Raises InputError for a table that has too many columns or cells."""
    if columns > MAX_COLUMNS:
        raise InputError(
            f"{name} has {columns:,} columns; at most {MAX_COLUMNS:,} fit, so leave out those that are not needed."
        )
    if rows * columns > MAX_CELLS:
        raise InputError(
            f"{name} has more than {MAX_CELLS:,} cells; leave out columns that are not needed, or split it into files."
        )


def check_lengths(fields: Sequence[str], name: str, number: int, columns: Sequence[str]) -> None:
    for place, value in enumerate(fields):
        if len(value) > MAX_FIELD:
            raise InputError(
                f"{name}, row {number}, {column_at(columns, place)}: {len(value):,} characters; at most {MAX_FIELD:,}"
                " fit."
            )
