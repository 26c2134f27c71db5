"""Reads OMOP tables in typed batches, from a folder or zip of CSV, parquet or Arrow files.

Names of tables and columns may be in upper or lower case. The header decides the separator of a
text: commas, tabs (as in vocabularies of OHDSI's Athena), semicolons or bars. No message quotes a
value, because a cell may hold a patient's record.
"""

from __future__ import annotations

import filecmp
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ehrmind.characters import plain
from ehrmind.data import cells, dates
from ehrmind.data.bounds import parquet_file, refuse_grown_zip
from ehrmind.data.cells import Decimal
from ehrmind.data.dates import DayOrder
from ehrmind.data.headers import is_name, kind_of, there
from ehrmind.data.omop.packed import HEAD, LibraryErrors, form_of, head_of, is_cut_off, plain_copy, unpacked
from ehrmind.data.omop.places import Found, listed, tables_in
from ehrmind.data.omop.values import (
    THOUSANDS,
    WANTED,
    Convention,
    Kind,
    convention_cells,
    needs_convention,
    read_column,
    type_of,
    without_placeholders,
)
from ehrmind.data.text_tables import MAX_COLUMNS
from ehrmind.system import refuse_no_file
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

ROWS_AT_ONCE, NOTES_AT_ONCE = 500_000, 20_000
UNQUOTED = ("concept", "concept_relationship")  # if tab-separated, a quote is part of a name there
SEPARATORS = (b",", b"\t", b";", b"|")
PLACEHOLDERS = "dates that stand for none, such as 1900-01-01 or 9999-12-31, read as none"


@dataclass(frozen=True, slots=True)
class Part:
    """File of a table. `name` is for messages; `keys` are columns that its folders state."""

    path: Path
    name: str
    form: str
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableFile:
    """Files of one table. `decimal`, `dates` and `ignore_zones` are the user's options.

    `decided` has the convention of each column that needed one so far. `notes` counts remarks for
    the user.
    """

    table: str
    parts: tuple[Part, ...]
    decimal: Decimal | None = None
    dates: DayOrder | None = None
    ignore_zones: bool = False
    decided: dict[str, Convention] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return (
            self.parts[0].name
            if len(self.parts) == 1
            else f"{self.parts[0].name} (the first of {len(self.parts):,} files)"
        )

    def columns(self) -> dict[str, str]:
        """Returns {column in lower case: its spelling in the first file, "" if folders state it}.

        Raises InputError, also if files differ.
        """
        if not self.headers:
            for part in self.parts:
                found = _header(part, self.table)
                if self.headers and set(found) != set(self.headers[0]):
                    differing = sorted(set(found) ^ set(self.headers[0]))
                    named = next((f"'{column}'" for column in differing if is_name(column)), "of another name")
                    raise InputError(
                        f"{self.parts[0].name} and {part.name} are parts of one table, and only one has a column"
                        f" {named}; every part needs the same columns, and a header."
                    )
                self.headers.append(found)
        return self.headers[0]

    def need(self, *columns: str) -> None:
        """Raises InputError if none of the columns is there."""
        if not set(columns) & set(self.columns()):
            has = there([*self.columns()], columns[0])
            raise InputError(
                f"{self.name} has no column '{' or '.join(columns)}', which OMOP's {self.table.upper()} has; {has}."
            )

    def batches(self, wanted: Mapping[str, tuple[str, Kind]], *, placed: bool = False) -> Iterator[pl.DataFrame]:
        """Yields rows with the columns of `wanted`, {name: (column, kind)}, in batches.

        A missing column is null, and a line without any value is skipped. `placed` adds `part` and
        `row`, the file and row number. Raises InputError with file, row and column for a value of
        another kind, and for one with two readings that nothing in its column decides.
        """
        import polars as pl

        there, types = self.columns(), type_of()
        absent = [
            pl.lit(None, dtype=types[kind]).alias(name)
            for name, (column, kind) in wanted.items()
            if column not in there
        ]
        present = {name: (column, kind) for name, (column, kind) in wanted.items() if column in there}
        for number, (part, header) in enumerate(zip(self.parts, self.headers, strict=True)):
            for before, raw in self._raw(part, header, {column for column, _ in present.values()}):
                read = pl.DataFrame(
                    [
                        self._typed(raw[column], kind, part, before, column).alias(name)
                        for name, (column, kind) in present.items()
                    ]
                )
                given = [name for name, (column, _) in present.items() if header[column]]
                place = (
                    (pl.lit(number).alias("part"), pl.int_range(before + 1, before + raw.height + 1).alias("row"))
                    if placed
                    else ()
                )
                read = read.with_columns(*absent, *place).filter(pl.any_horizontal(pl.col(given).is_not_null()))
                yield read.select(*wanted, *(("part", "row") if placed else ()))

    def read(self, wanted: Mapping[str, tuple[str, Kind]]) -> pl.DataFrame:
        """Reads all batches at once, with `part` and `row`, for a table that fits in memory."""
        import polars as pl

        types = type_of()
        empty = pl.DataFrame(schema={name: types[kind] for name, (_, kind) in wanted.items()})
        return pl.concat([empty, *self.batches(wanted, placed=True)], how="diagonal_relaxed")

    def refused(self, placed: pl.DataFrame, column: str, wanted: str) -> InputError:
        """Makes the error for the first of these rows, which have `part` and `row`."""
        part, row = placed.select("part", "row").row(0)
        return InputError(f"{self.parts[part].name}, row {row}, column '{column}': {wanted}.")

    def _raw(
        self, part: Part, header: Mapping[str, str], columns: Collection[str]
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yields (number of rows before, batch of columns as written) of one file."""
        import polars as pl

        before, written = 0, {header[column]: column for column in sorted(columns) if header[column]}
        said = [
            pl.lit(part.keys[column], dtype=pl.String).alias(column) for column in sorted(columns) if not header[column]
        ]
        at_once = NOTES_AT_ONCE if self.table == "note" else ROWS_AT_ONCE
        with LibraryErrors(part.name):
            scan = _scan(part, self.table).select(list(written))
            for raw in scan.collect_batches(chunk_size=at_once, maintain_order=True):
                yield before, raw.rename(written).with_columns(said)
                before += raw.height

    def _typed(self, raw: pl.Series, kind: Kind, part: Part, before: int, column: str) -> pl.Series:
        """Casts a column to the kind. Blank cells and texts for null become null.

        Raises InputError for a cell that cannot be read.
        """
        import polars as pl

        if isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone is not None:
            if not self.ignore_zones:
                how = (
                    "write local times without one, or say --ignore-zones if the clock that they show is the local one"
                )
                raise InputError(f"{part.name}, column '{column}': times with a zone; {how}.")
            raw = raw.dt.replace_time_zone(None)
        if raw.dtype.is_nested() or raw.dtype == pl.Binary:
            raise InputError(f"{part.name}, column '{column}': {kind_of(raw.dtype)} values; {WANTED[kind]} is wanted.")
        semicolons = kind == "number" and _separator(part) == ";"
        if column not in self.decided and (
            needs_convention(raw, kind, semicolons) or (kind == "number" and self.decimal == "comma")
        ):
            self.decided[column] = self._decide(column, kind, later=bool(before) or part is not self.parts[0])
        read, wrong = read_column(raw, kind, self.decided.get(column), ignore_zones=self.ignore_zones)
        if wrong.any():
            row = before + int(wrong.arg_max() or 0) + 1
            number = (
                " (MEDS numbers its subjects, so number the persons alike in every table)"
                if column == "person_id"
                else ""
            )
            raise InputError(f"{part.name}, row {row}, column '{column}': {WANTED[kind]} is wanted{number}.")
        if kind == "moment":
            kept = without_placeholders(read, least=self.table != "person")
            self.notes[f"{self.table}: {PLACEHOLDERS}"] += kept.null_count() - read.null_count()
            return kept
        return read

    def _decide(self, column: str, kind: Kind, *, later: bool) -> Convention:
        """Decides a column's decimal mark, or its order of day and month, from all files.

        `later` says that rows of the column have been read already.
        """
        import polars as pl

        first: dict[str, tuple[str, int]] = {}
        for part, header in zip(self.parts, self.headers, strict=True):
            for before, raw in self._raw(part, header, {column}):
                if raw[column].dtype != pl.String:
                    continue
                seen = (
                    pl.DataFrame({"cell": convention_cells(raw[column], kind)})
                    .with_row_index("row", before + 1)
                    .drop_nulls("cell")
                )
                for row, cell in seen.unique("cell", keep="first", maintain_order=True).iter_rows():
                    first.setdefault(cell, (part.name, row))
        semicolons = any(_separator(part) == ";" for part in self.parts)
        found = _Cells(
            self.name, column, list(first), semicolons, "say --decimal point or --decimal comma", tuple(first.values())
        )
        if kind == "moment":
            return dates.order_of(found, self.dates)
        decided = cells.decimal_of(found, self.decimal)
        thousands = next(
            (row for row, cell in enumerate(found.cells, start=1) if re.fullmatch(THOUSANDS, plain(cell))), None
        )
        if decided == "comma" and later and thousands is not None:
            raise found.error(
                thousands, "its point groups thousands, which only cells after it show; say --decimal comma"
            )
        return decided


@dataclass(frozen=True, slots=True)
class _Cells(cells.Column):
    """Distinct cells of a column, each with the file and row of its first occurrence."""

    places: tuple[tuple[str, int], ...] = ()

    def place(self, row: int) -> str:
        name, at = self.places[row - 1]
        return f"{name}, row {at}, column '{self.name}'"

    def error(self, row: int, problem: object) -> InputError:
        """Makes the cell reader's error with the file's row, and without advice about recipes."""
        said = re.sub(
            r"that of row (\d+)",
            lambda other: "that of {}, row {}".format(*self.places[int(other[1]) - 1]),
            str(problem),
        )
        return InputError(f"{self.place(row)}: {re.sub(r' [(]in a recipe `[a-z_]+`[)]', '', said)}.")


def find_tables(
    source: Path,
    scratch: Path,
    wanted: Collection[str],
    *,
    decimal: Decimal | None,
    dates: DayOrder | None,
    ignore_zones: bool,
) -> tuple[dict[str, TableFile], list[str]]:
    """Returns ({wanted table: its files}, names of everything else).

    Compressed files are unpacked into `scratch`.
    """
    if not source.is_dir():
        refuse_no_file(source, "There is nothing at {path}; give a folder or a zip of OMOP tables.")
    if source.is_dir():
        tables, unread = tables_in(source, listed(source), wanted)
        paths = {place: source / place for found in tables.values() for place in found.places}
    else:
        try:
            with zipfile.ZipFile(source) as archive:
                refuse_grown_zip(archive, source)
                members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
                if len(members) < sum(not member.is_dir() for member in archive.infolist()):
                    raise InputError(f"{source} has two members of one name; pack it again.")
                tables, unread = tables_in(source, {name: member.file_size for name, member in members.items()}, wanted)
                paths = {
                    place: unpacked(archive, place, scratch) for found in tables.values() for place in found.places
                }
        # RuntimeError: the zip has a password.
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise InputError(
                f"{source} is not a zip that can be read; give a folder of tables, or a whole zip without a password."
            ) from None
    files = {
        table: TableFile(table, _parts(source, found, paths, scratch), decimal, dates, ignore_zones)
        for table, found in tables.items()
    }
    return files, unread


def _parts(source: Path, found: Found, paths: Mapping[str, Path], scratch: Path) -> tuple[Part, ...]:
    parts = []
    for place, keys in zip(found.places, found.keys, strict=True):
        path = plain_copy(paths[place], scratch)
        parts.append(Part(path, str(source / place), form_of(path, found.form), keys))
    _refuse_copies(parts)
    return tuple(parts)


def _refuse_copies(parts: Sequence[Part]) -> None:
    """Raises InputError if two part files are equal and have rows."""
    import polars as pl

    by_size: dict[int, list[Part]] = defaultdict(list)
    for part in parts:
        by_size[part.path.stat().st_size].append(part)
    for alike in by_size.values():
        for before, part in ((alike[a], alike[b]) for b in range(len(alike)) for a in range(b)):
            if filecmp.cmp(before.path, part.path, shallow=False):
                with LibraryErrors(part.name):
                    rows = _scan(part, "").select(pl.len()).collect().item()
                if rows and before.keys == part.keys:
                    raise InputError(f"{before.name} and {part.name} hold the same rows; leave one.")


def _header(part: Part, table: str) -> dict[str, str]:
    """Returns {column in lower case: its spelling in the file, "" if a folder states it}."""
    found: dict[str, str] = {}
    with LibraryErrors(part.name):
        names = _scan(part, table).collect_schema().names()
    for name in names:
        if found.setdefault(name.strip().lower(), name) != name:
            named = f"'{name.strip().lower()}'" if is_name(name) else f"as its column {names.index(name) + 1} is"
            raise InputError(f"{part.name} has more than one column named {named}; leave one.")
    return {**dict.fromkeys(part.keys, ""), **found}


def _scan(part: Part, table: str) -> pl.LazyFrame:
    import polars as pl

    if part.form == "parquet":
        # Check the size before reading.
        parquet_file(part.path, part.name, broken="cannot be read as parquet; write it again").close()
        return pl.scan_parquet(part.path, hive_partitioning=False)
    if part.form == "arrow":
        return pl.scan_ipc(part.path, hive_partitioning=False)
    head = head_of(part.path)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{part.name} is text in UTF-16; save it as CSV in UTF-8.")
    if b"\r" in head and b"\n" not in head:
        raise InputError(f"{part.name} ends its lines with a carriage return alone; save it with line feeds.")
    separator = _separator(part)
    columns = head.partition(b"\n")[0].count(separator.encode()) + 1
    if (len(head) >= HEAD and b"\n" not in head) or columns > MAX_COLUMNS:
        raise InputError(
            f"{part.name} has a first line of {columns:,} columns and more; a header and lines below it are wanted."
        )
    if is_cut_off(part.path, separator):
        raise InputError(f"{part.name} is cut off within its last row; fetch or write it again.")
    quote = None if separator == "\t" and table in UNQUOTED else '"'
    return pl.scan_csv(part.path, infer_schema=False, separator=separator, quote_char=quote)


def _separator(part: Part) -> str:
    """Returns a text's separator, the most frequent one in its header; "" for other formats."""
    return "" if part.form != "text" else max(SEPARATORS, key=head_of(part.path).partition(b"\n")[0].count).decode()
