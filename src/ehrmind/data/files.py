"""Reads a CSV, TSV, JSON lines, parquet or .xlsx file into numbered rows of text.

Every value is read as text, so `N/A` stays `N/A` and `38.0` stays `38.0`; a missing value is "".
`cells` and `dates` interpret the text. Nothing is guessed or repaired. No message quotes a value,
because a cell may hold a patient's record.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ehrmind.data import headers
from ehrmind.data.bounds import parquet_file, text_batches, unpacked_bytes
from ehrmind.data.cells import Column, TypedNumber
from ehrmind.data.text_tables import SEPARATORS, Rows, check_lengths, check_size, decoded, json_lines, separated
from ehrmind.data.workbooks import read_sheet
from ehrmind.files import lines_of
from ehrmind.system import refuse_no_file, why
from ehrmind.types import InputError

Item = TypeVar("Item")
# Largest file that is read whole, after decompression. As Python strings it takes about three times
# the memory.
MAX_BYTES = 1 << 30
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx")


@dataclass(frozen=True, slots=True)
class Table:
    """Content of a file. `name` is the path as the user gave it; a message's row 1 is `rows[0]`.

    `semicolons` says that semicolons separate the columns. `notes` counts remarks about the
    reading.
    """

    name: str
    sha256: str
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    semicolons: bool = False
    notes: Mapping[str, int] = field(default_factory=dict)

    def column(self, name: str, **more: str) -> Column:
        """Returns a column in the form that `cells` and `dates` read."""
        return Column(self.name, name, [row[name] for row in self.rows], self.semicolons, **more)


def read_table(
    path: Path, sheet: str | None = None, *, several_sheets: str = "save the one you mean alone, or as CSV"
) -> Table:
    """Reads a file by its ending. `several_sheets` is the advice if a workbook has several sheets.

    Raises InputError naming the file, and row and column if there is one.
    """
    name, ending = str(path), path.name.lower().removesuffix(".gz")
    raw = _bytes(path)
    sha256 = hashlib.sha256(raw).hexdigest()
    if not ending.endswith(TABLES) or (ending != path.name.lower() and ending.endswith((".parquet", ".xlsx"))):
        raise InputError(
            f"{name} has an ending that is not known here: give a .csv, .tsv, .xlsx, .jsonl or .parquet file, or"
            " .csv.gz."
        )
    if sheet is not None and not ending.endswith(".xlsx"):
        raise InputError(
            f"{name} has no sheets, so it has no sheet '{sheet}'; leave --sheet (in a recipe `sheet`) out."
        )
    if not raw:
        raise InputError(f"{name} is empty: 0 bytes.")
    separator, notes = "", dict[str, int]()
    if ending.endswith(".parquet"):
        columns, rows = _from_parquet(raw, name)
    elif ending.endswith(".xlsx"):
        columns, rows, notes = read_sheet(raw, name, sheet, several_sheets)
    else:
        text = decoded(unzipped(raw, name) if path.name.lower().endswith(".gz") else raw, name)
        del raw  # keep a large file in memory once only
        if ending.endswith((".jsonl", ".ndjson")):
            columns, rows = json_lines(lines_of(text), name)
        else:
            columns, rows, separator = separated(text, name, ("\t",) if ending.endswith(".tsv") else tuple(SEPARATORS))
    repeated = [column for column, times in Counter(columns).items() if times > 1]
    if repeated:
        twice = [place + 1 for place, column in enumerate(columns) if column == repeated[0]]
        called = f"'{repeated[0]}'" if headers.is_name(repeated[0]) else f"alike (columns {twice[0]} and {twice[1]})"
        raise InputError(
            f"{name} has more than one column named {called}; if its first line is a row, write the columns' names"
            " above it."
        )
    if not rows:
        raise InputError(f"{name} has a header but no rows.")
    made = [dict(zip(columns, row, strict=True)) for row in rows]
    return Table(name, sha256, tuple(columns), made, separator == ";", notes)


def read_bytes(path: Path) -> tuple[bytes, str]:
    """Returns (content, decompressed if the name ends in .gz; sha256 of the file as stored)."""
    raw = _bytes(path)
    if not raw:
        raise InputError(f"{path} is empty: 0 bytes.")
    return unzipped(raw, str(path)) if path.name.endswith(".gz") else raw, hashlib.sha256(raw).hexdigest()


def sha256_of(path: Path) -> str:
    """Computes the sha256 of a file of any size, as stored."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> tuple[list[str], str]:
    """Returns (a text file's lines, sha256 of the file)."""
    content, sha256 = read_bytes(path)
    return lines_of(decoded(content, str(path))), sha256


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """Yields the items, computing each in another thread while the caller uses the one before."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def stem(path: Path | str) -> str:
    """Returns the file's name without its ending; `.csv.gz` is one ending."""
    return re.sub(
        r"(\.(csv|tsv|parquet|jsonl|ndjson|json|xml|txt|xlsx))*(\.gz)?$", "", Path(path).name, flags=re.IGNORECASE
    )


def _bytes(path: Path) -> bytes:
    refuse_no_file(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB; split it into smaller files.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB; split it into smaller files.")
        return content
    except OSError as error:
        raise InputError(f"{path} cannot be read: {why(error)}.") from None


def unzipped(raw: bytes, name: str) -> bytes:
    """Decompresses a file's content. Raises InputError for a broken file and for a bomb."""
    return unpacked_bytes(raw, name, MAX_BYTES)


def _from_parquet(raw: bytes, name: str) -> tuple[list[str], Rows]:
    import polars as pl

    about = parquet_file(raw, name).metadata
    check_size(name, about.num_rows, about.num_columns)
    rows: Rows = []
    size = 0
    columns: list[str] = []
    for frame in text_batches(raw, name):
        columns = frame.columns
        for place, dtype in enumerate(frame.dtypes):
            if dtype.is_nested() or dtype == pl.Binary:
                raise InputError(
                    f"{name}, {headers.at(columns, place)}: {headers.kind_of(dtype)} values; text or numbers are"
                    " wanted."
                )
        texts = frame.select(pl.all().cast(pl.String).fill_null(""))
        is_number = [dtype.is_numeric() for dtype in frame.dtypes]
        for row in texts.iter_rows():
            check_lengths(row, name, len(rows) + 1, columns)
            rows.append([TypedNumber(value) if typed else value for value, typed in zip(row, is_number, strict=True)])
            size += sum(map(len, row))
        if size > MAX_BYTES:
            raise InputError(
                f"{name} is larger than {MAX_BYTES >> 20} MiB once its texts are written out; split it into smaller"
                " files."
            )
    return columns, rows
