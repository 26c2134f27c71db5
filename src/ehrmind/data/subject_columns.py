"""Reads the columns of subjects and times in labels, splits and questions.

Subjects of MEDS are whole numbers. `7`, `007`, `7.0` and the float 7.0 are the same subject
everywhere; any other value is refused with its row. Times have no zone, as in MEDS: a time with a
zone has two readings and is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ehrmind.data.cells import LARGEST_WHOLE, CellError
from ehrmind.data.headers import kind_of
from ehrmind.data.identity import record_key
from ehrmind.data.sentinels import without_null_texts
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
_ZONE = r"(?i)(?:z|utc|gmt|[+-]\d{2}:?\d{2}|:\d{2}(?:\.\d+)?\s*[+-]\d{2})\s*$"
_NUMBER = re.compile(r"-?[0-9]{1,18}")


def place(path: object, wrong: pl.Series, column: str, rows_before: int = 0) -> str:
    """Names the first wrong row: `FILE, row 3, column 'x'`."""
    return f"{path}, row {rows_before + int(wrong.arg_max() or 0) + 1}, column '{column}'"


def subject_numbers(values: pl.Series, path: object, rows_before: int = 0) -> pl.Series:
    """Reads subjects as integers. `rows_before` counts the file's rows before these.

    Raises InputError naming file, row and column of a null or a value that is no whole number.
    """
    import polars as pl

    column, dtype = values.name, values.dtype
    read = values
    if dtype.is_float() or dtype.is_decimal():
        read = values.cast(pl.Float64)
        sure = (read == read.round(0)) & (read.abs() <= LARGEST_WHOLE)
        read = read.set(~sure.fill_null(False), None)
    elif dtype in (pl.String, pl.Categorical, pl.Enum):
        read = _from_texts(values.cast(pl.String))
    elif not dtype.is_integer() and dtype != pl.Null:
        raise InputError(f"{path}, column '{column}': {kind_of(dtype)} values; subjects are whole numbers.")
    numbers = read.cast(pl.Int64, strict=False)
    if numbers.null_count():
        wrong = numbers.is_null()
        row = int(wrong.arg_max() or 0)
        nothing = (
            values[row] is None
            or values[row] != values[row]
            or (isinstance(values[row], str) and _key(values[row]) == "")
        )
        problem = "no value" if nothing else "not a whole number, as subjects are; write the data set's own numbers"
        raise InputError(f"{place(path, wrong, column, rows_before)}: {problem}.")
    return numbers.alias(column)


def _key(text: str) -> str | None:
    """Returns the key of an id; None for a number that a spreadsheet has rounded."""
    try:
        return record_key(text)
    except CellError:
        return None


def _from_texts(values: pl.Series) -> pl.Series:
    """Reads digits by a cast of the whole column, and every other distinct spelling once."""
    import polars as pl

    numbers = values.cast(pl.Int64, strict=False)
    others = values.filter(numbers.is_null() & values.is_not_null()).unique()
    if not len(others):
        return numbers
    keys = {text: _key(text) for text in others.to_list()}
    known = {text: int(key) for text, key in keys.items() if key and _NUMBER.fullmatch(key)}
    return numbers.fill_null(
        values.replace_strict(list(known), list(known.values()), default=None, return_dtype=pl.Int64)
    )


def moments(values: pl.Series, path: object) -> tuple[pl.Series, int]:
    """Returns (times in microseconds, how many are days without a time, read as 00:00).

    Raises InputError naming file, row and column of a null, a time with a zone, or any other text.
    """
    import polars as pl

    column, dtype = values.name, values.dtype
    if values.null_count():
        raise InputError(f"{place(path, values.is_null(), column)}: no value.")
    if dtype == pl.Date:
        return values.cast(pl.Datetime("us")), len(values)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return values.cast(pl.Datetime("us")), 0
    if dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise InputError(
            f"{path}, column '{column}': {kind_of(dtype)} values; MEDS has timestamps without a zone there."
        )
    texts = without_null_texts(values.cast(pl.String)).str.strip_chars()
    if texts.null_count():
        raise InputError(f"{place(path, texts.is_null(), column)}: no value.")
    frame = pl.DataFrame({"text": texts})
    days = frame.select(pl.col("text").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))["text"]
    clocked = frame.select(
        pl.coalesce(pl.col("text").str.to_datetime(form, time_unit="us", strict=False) for form in FORMATS)
    )["text"]
    times = clocked.fill_null(days)
    if times.null_count():
        wrong = times.is_null()
        zoned = bool(re.search(_ZONE, texts[int(wrong.arg_max() or 0)]))
        problem = (
            "a time with a zone; MEDS times have none, so write it in the time of the events"
            if zoned
            else "not a time as 2026-01-31 23:59"
        )
        raise InputError(f"{place(path, wrong, column)}: {problem}.")
    return times.alias(column), int(clocked.is_null().sum())
