"""OMOP tables where they lie: a folder or a zip of CSV, CSV.gz or parquet files, read a batch of rows at a time and typed.

Names of tables and columns are taken in any case. A file is comma-separated, or tab-separated as OHDSI's Athena gives out vocabularies.
No message quotes a value: a cell may hold a patient's record.
"""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from ehrmind.sources.files import stem
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["whole", "number", "moment", "text"]
WANTED: Mapping[Kind, str] = {
    "whole": "a whole number",
    "number": "a finite number",
    "moment": "a date or a time without a zone, such as 2020-03-01 or 2020-03-01 14:05:00,",
    "text": "text",
}
ENDINGS = (".csv", ".csv.gz", ".parquet")
ROWS_AT_ONCE, NOTES_AT_ONCE = 500_000, 20_000
UNQUOTED = ("concept", "concept_relationship")  # where tab-separated: a quote is a character of a name there


@dataclass(frozen=True, slots=True)
class TableFile:
    """One table's file. `name` is what messages call it."""

    table: str
    path: Path
    name: str

    def columns(self) -> dict[str, str]:
        """{column in lower case: as the file writes it}. Raises InputError."""
        found: dict[str, str] = {}
        with _Said(self.name):
            names = self._scan().collect_schema().names()
        for name in names:
            if found.setdefault(name.strip().lower(), name) != name:
                raise InputError(f"{self.name} has more than one column named '{name.strip().lower()}'; leave one.")
        return found

    def need(self, *columns: str) -> None:
        """Raises InputError where none of the columns is there."""
        if not set(columns) & set(self.columns()):
            raise InputError(f"{self.name} has no column '{' or '.join(columns)}', which OMOP's {self.table.upper()} has.")

    def batches(self, wanted: Mapping[str, tuple[str, Kind]]) -> Iterator[pl.DataFrame]:
        """Rows as {name: (column, kind)} asks; a column that the file lacks is null. Raises InputError with row and column for a value of
        another kind."""
        import polars as pl

        there, types, before = self.columns(), type_of(), 0
        absent = [pl.lit(None, dtype=types[kind]).alias(name) for name, (column, kind) in wanted.items() if column not in there]
        present = {name: (there[column], kind) for name, (column, kind) in wanted.items() if column in there}
        at_once = NOTES_AT_ONCE if self.table == "note" else ROWS_AT_ONCE
        with _Said(self.name):
            scan = self._scan().select(sorted({column for column, _ in present.values()}))
            for raw in scan.collect_batches(chunk_size=at_once, maintain_order=True):
                read = pl.DataFrame([self._typed(raw[column], kind, before).alias(name) for name, (column, kind) in present.items()])
                before += raw.height
                yield read.with_columns(absent).select(*wanted)

    def read(self, wanted: Mapping[str, tuple[str, Kind]]) -> pl.DataFrame:
        """All batches together, for a table that fits."""
        import polars as pl

        types = type_of()
        empty = pl.DataFrame(schema={name: types[kind] for name, (_, kind) in wanted.items()})
        return pl.concat([empty, *self.batches(wanted)])

    def refused(self, wrong: pl.Series, column: str, wanted: str) -> InputError:
        """`wrong` marks rows of `read`."""
        return InputError(f"{self.name}, row {int(wrong.arg_max() or 0) + 1}, column '{column}': {wanted}.")

    def _typed(self, raw: pl.Series, kind: Kind, before: int) -> pl.Series:
        """What cannot be read as the kind is refused; what is blank, or a number that is none, is null."""
        import polars as pl

        column = raw.name.strip().lower()
        if isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone is not None:
            raise InputError(f"{self.name}, column '{column}': times with a zone; write local times without one.")
        if raw.dtype.is_nested() or raw.dtype == pl.Binary:
            raise InputError(f"{self.name}, column '{column}': {raw.dtype} values; {WANTED[kind]} is wanted.")
        given = raw.str.strip_chars().replace("", None) if raw.dtype == pl.String else raw.fill_nan(None) if raw.dtype.is_float() else raw
        read = READ[kind](given)
        wrong = given.is_not_null() & read.is_null()
        if wrong.any():
            row = before + int(wrong.arg_max() or 0) + 1
            raise InputError(f"{self.name}, row {row}, column '{column}': {WANTED[kind]} is wanted.")
        return read

    def _scan(self) -> pl.LazyFrame:
        import polars as pl

        if self.path.name.lower().endswith(".parquet"):
            return pl.scan_parquet(self.path)
        head = _first_line(self.path)
        tabs = head.count(b"\t") > head.count(b",")
        quote = None if tabs and self.table in UNQUOTED else '"'
        return pl.scan_csv(self.path, infer_schema=False, separator="\t" if tabs else ",", quote_char=quote)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a library says of a broken file, as one sentence without its content."""

    name: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import polars as pl

        if isinstance(error, pl.exceptions.NoDataError):
            raise InputError(f"{self.name} is empty; a header at least is wanted.") from None
        if isinstance(error, pl.exceptions.PolarsError | pl.exceptions.PanicException | OSError | EOFError | zlib.error):
            form = "parquet" if self.name.lower().endswith(".parquet") else "CSV in UTF-8, whole and with quotes that close"
            raise InputError(f"{self.name} cannot be read as {form}; write it again.") from None


def type_of() -> dict[Kind, pl.DataType]:
    import polars as pl

    return {"whole": pl.Int64(), "number": pl.Float64(), "moment": pl.Datetime("us"), "text": pl.String()}


def find_tables(source: Path, scratch: Path, wanted: Collection[str]) -> tuple[dict[str, TableFile], list[str]]:
    """({table: file} of the wanted tables that are there, the names of other tables). A zip's are unpacked into `scratch`."""
    if not source.exists():
        raise InputError(f"There is nothing at {source}; give a folder or a zip of OMOP tables.")
    if source.is_dir():
        places = _by_table(source, [path.name for path in source.iterdir() if path.is_file()])
        files = {table: source / place for table, place in places.items() if table in wanted}
    else:
        try:
            with zipfile.ZipFile(source) as archive:
                places = _by_table(source, [member.filename for member in archive.infolist() if not member.is_dir()])
                files = {table: _unpacked(archive, place, table, scratch) for table, place in places.items() if table in wanted}
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):  # the last: it has a password
            raise InputError(
                f"{source} is not a zip that can be read; give a folder of tables, or a whole zip without a password."
            ) from None
    return {table: TableFile(table, path, str(source / places[table])) for table, path in files.items()}, sorted(set(places) - set(files))


def _by_table(source: Path, names: Sequence[str]) -> dict[str, str]:
    """{table: the place of its file in the source}. What macOS adds to archives is none."""
    found: dict[str, str] = {}
    for name in sorted(names):
        place = PurePosixPath(name)
        if not place.name.lower().endswith(ENDINGS) or place.name.startswith("."):
            continue
        if found.setdefault(stem(place.name.lower()), name) != name:
            raise InputError(f"{source / found[stem(place.name.lower())]} and {source / name} are the same table; leave one.")
    return found


def _unpacked(archive: zipfile.ZipFile, place: str, table: str, scratch: Path) -> Path:
    """No more bytes are written than the archive announces, and no more than there is room for."""
    size, room = archive.getinfo(place).file_size >> 20, shutil.disk_usage(scratch).free >> 20
    if size > room:
        raise InputError(f"{archive.filename}, {place}: {size:,} MiB when unpacked, {room:,} MiB are free beside the output; make room.")
    path = scratch / f"{table}{next(ending for ending in ENDINGS if place.lower().endswith(ending))}"
    with archive.open(place) as packed, path.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
    return path


def _first_line(path: Path) -> bytes:
    if not path.name.lower().endswith(".gz"):
        with path.open("rb") as file:
            return file.readline(1 << 20)
    with gzip.open(path) as packed:
        return packed.readline(1 << 20)


def _whole(given: pl.Series) -> pl.Series:
    """Also `21.0`, as programs write whole numbers beside missing ones."""
    import polars as pl

    real = given.cast(pl.Float64, strict=False)
    exact = real.set((real != real.floor()) | (real.abs() >= 2**53), None).cast(pl.Int64, strict=False)
    return exact if given.dtype.is_float() or given.dtype.is_decimal() else given.cast(pl.Int64, strict=False).fill_null(exact)


def _number(given: pl.Series) -> pl.Series:
    """Finite as a 32-bit number, which MEDS holds."""
    import polars as pl

    real = given.cast(pl.Float64, strict=False)
    return real.set(~real.cast(pl.Float32, strict=False).is_finite(), None)


def _moment(given: pl.Series) -> pl.Series:
    import polars as pl

    if given.dtype != pl.String:
        dated = given if given.dtype in (pl.Date, pl.Datetime) else given.cast(pl.Null, strict=False)
        return dated.cast(pl.Datetime("us"))
    text, length = given.str.replace("T", " ", literal=True).to_frame("text"), pl.col("text").str.len_chars()
    clock = pl.when(length == 10).then(pl.lit(" 00:00:00")).when(length == 16).then(pl.lit(":00")).otherwise(pl.lit(""))
    return text.select((pl.col("text") + clock).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)).to_series()


def _text(given: pl.Series) -> pl.Series:
    import polars as pl

    return given.cast(pl.String)


READ: Mapping[Kind, Callable[[pl.Series], pl.Series]] = {"whole": _whole, "number": _number, "moment": _moment, "text": _text}
