"""Sources, the ground floor: a CSV, CSV.gz or parquet file becomes numbered rows of text.

Every value is read as text, so that `N/A` stays `N/A` and `38.0` stays `38.0`; what is missing is "".
Nothing is guessed or repaired. No message quotes a value: a cell may hold a patient's record.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ehrmind.types import InputError

Item = TypeVar("Item")
MAX_BYTES = 1 << 30  # after decompression; a gzip bomb stops here
MAX_FIELD = 200_000  # characters; the longest published note has 11,224


@dataclass(frozen=True, slots=True)
class Table:
    """A file's content. `name` is the path as the person gave it; row i of a message is `rows[i - 1]`."""

    name: str
    sha256: str
    columns: tuple[str, ...]
    rows: list[dict[str, str]]


def read_table(path: Path) -> Table:
    """Read a file by its ending. Raises InputError naming the file, and the row and column where there is one."""
    name = str(path)
    raw = _bytes(path)
    if not raw:
        raise InputError(f"{name} is empty: 0 bytes.")
    if path.name.endswith((".csv", ".csv.gz")):
        columns, rows = _from_csv(_unzipped(raw, name) if path.name.endswith(".gz") else raw, name)
    elif path.name.endswith(".parquet"):
        columns, rows = _from_parquet(raw, name)
    else:
        raise InputError(f"{name} has an ending that is not known here: give a .csv, .csv.gz or .parquet file.")
    repeated = [column for column, times in Counter(columns).items() if times > 1]
    if repeated:
        raise InputError(f"{name} has more than one column named '{repeated[0]}'.")
    if not rows:
        raise InputError(f"{name} has a header but no rows.")
    return Table(name, hashlib.sha256(raw).hexdigest(), tuple(columns), [dict(zip(columns, row, strict=True)) for row in rows])


def read_bytes(path: Path) -> tuple[bytes, str]:
    """(a file's content, decompressed where its name ends in .gz; sha256 of the file as it lies there)."""
    raw = _bytes(path)
    if not raw:
        raise InputError(f"{path} is empty: 0 bytes.")
    return _unzipped(raw, str(path)) if path.name.endswith(".gz") else raw, hashlib.sha256(raw).hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 of a file of any size, as it lies there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> tuple[list[str], str]:
    """(a text file's lines, sha256 of the file)."""
    content, sha256 = read_bytes(path)
    try:
        return content.decode("utf-8-sig").splitlines(), sha256
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start:,}); save it as UTF-8.") from None


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each made in another thread while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def stem(path: Path | str) -> str:
    """The file's name without its ending, `.csv.gz` being one ending."""
    name = Path(path).name.removesuffix(".gz")
    for ending in (".csv", ".parquet", ".jsonl", ".json", ".xml", ".tsv", ".txt"):
        name = name.removesuffix(ending)
    return name


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the files in it.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB; split it into smaller files.")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file at {path}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from None


def _unzipped(raw: bytes, name: str) -> bytes:
    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{name} is not a whole gzip file; it may be cut short, so fetch it again.") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{name} is larger than {MAX_BYTES >> 20} MiB once decompressed; split it into smaller files.")
    return content


def _from_csv(raw: bytes, name: str) -> tuple[list[str], list[list[str]]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text (byte {error.start:,}); save it as UTF-8.") from None
    if "\0" in text:
        raise InputError(f"{name} is not a CSV file: it holds binary zeros.")
    lines = _records(text, name)
    header = [column.strip() for column in next(lines, [])]
    if not any(header):
        raise InputError(f"{name} is empty: it has no header line.")
    rows: list[list[str]] = []
    for number, fields in enumerate(lines, start=1):
        if len(fields) != len(header):
            counted = f"{len(fields)} values for {len(header)} columns"
            raise InputError(f"{name}, row {number}: {counted}; quote values that hold commas or line ends.")
        for column, value in zip(header, fields, strict=True):
            _check_length(value, name, number, column)
        rows.append(fields)
    return header, rows


def _records(text: str, name: str) -> Iterator[list[str]]:
    """The CSV's records but for blank lines. `strict`, so that a quote left open does not swallow the rows after it."""
    # The module's own limit does not say which column is too long: lift it here, `_check_length` has ours.
    before = csv.field_size_limit(len(text) + 1)
    number = 0
    try:
        for fields in csv.reader(io.StringIO(text, newline=""), strict=True):
            if fields:
                yield fields
                number += 1
    except csv.Error:
        where = f", row {number}" if number else ", header"
        raise InputError(f"{name}{where}: not valid CSV; a quote is not closed or not doubled.") from None
    finally:
        csv.field_size_limit(before)


def _from_parquet(raw: bytes, name: str) -> tuple[list[str], list[list[str]]]:
    import polars as pl

    try:
        frame = pl.read_parquet(io.BytesIO(raw))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise InputError(f"{name} is not a parquet file, or a broken one; fetch or write it again.") from None
    for column, dtype in frame.schema.items():
        if dtype.is_nested() or dtype == pl.Binary:
            raise InputError(f"{name}, column '{column}': {dtype} values; text or numbers are wanted.")
    texts = frame.select(pl.all().cast(pl.String).fill_null(""))
    rows = [list(row) for row in texts.rows()]
    for number, fields in enumerate(rows, start=1):
        for column, value in zip(texts.columns, fields, strict=True):
            _check_length(value, name, number, column)
    return texts.columns, rows


def _check_length(value: str, name: str, number: int, column: str) -> None:
    if len(value) > MAX_FIELD:
        raise InputError(f"{name}, row {number}, column '{column}': {len(value):,} characters; at most {MAX_FIELD:,} fit.")
