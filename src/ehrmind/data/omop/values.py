"""Reads cells of OMOP tables as whole numbers, numbers, times and texts.

Cells in a plain format are read column by column. Other cells go through the strict readers
(`data.cells`, `data.dates`). A cell without a reading is null here, and the caller reports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from ehrmind.characters import plain
from ehrmind.data import cells, dates
from ehrmind.data.cells import CellError, Decimal
from ehrmind.data.dates import DayOrder

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

# "word": a text that names one thing, such as a unit; `NA` and `None` are null.
# "said": a text of the source, which a program may have stored as a number if no digits were lost.
# "code": a vocabulary's code, which must not be stored as a number.
Kind = Literal["whole", "number", "moment", "text", "word", "said", "code"]
TEXTS: tuple[Kind, ...] = ("text", "word", "said", "code")
Convention = Decimal | DayOrder | None
WANTED: Mapping[Kind, str] = {
    "whole": "a whole number",
    "number": "a finite number",
    "moment": "a date or a time without a zone, such as 2020-03-01 or 2020-03-01 14:05:00,",
    "text": "text",
    "word": "text",
    "said": "text, since numbers lose zeros of a code,",
    "code": "text, since numbers lose zeros of a code,",
}
LONGEST_NULL = 12
LARGEST = 3.4028235e38  # largest 32-bit float, the type of numbers in MEDS
# Placeholders for a missing date: the earliest dates of SQL Server and spreadsheets, at exactly
# midnight, and dates that mean "open".
LEAST_DAYS = ("0001-01-01", "1753-01-01", "1899-12-30", "1899-12-31", "1900-01-01")
OPEN_DAYS = ("2099-12-31", "9999-12-31")
THOUSANDS = r"^[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+$"
ZONE = r"([0-9]:[0-9]{2}(?::[0-9.]+)?(?:\s*[AaPp][Mm])?)\s*(?:Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)$"
CLOCK = r"[T ]\s*[0-9]{1,2}:[0-9]{2}.*$"
_WHOLE = re.compile(r"[+-]?[0-9]+(?:\.0*|,0{1,2})?")


def type_of() -> dict[Kind, pl.DataType]:
    import polars as pl

    return {
        "whole": pl.Int64(),
        "number": pl.Float64(),
        "moment": pl.Datetime("us"),
        **dict.fromkeys(TEXTS, pl.String()),
    }


def read_column(
    raw: pl.Series, kind: Kind, convention: Convention = None, *, ignore_zones: bool = False
) -> tuple[pl.Series, pl.Series]:
    """Returns (values, which cells have no reading).

    Empty cells, NaN, infinities and texts for null become null. `ignore_zones` drops the zone of a
    time and keeps its clock time.
    """
    import polars as pl

    if raw.dtype in (pl.Categorical, pl.Enum):
        raw = raw.cast(pl.String)
    if raw.dtype != pl.String:
        return _typed(raw, kind)
    given = raw.str.strip_chars()
    if kind in TEXTS:
        return _without_nulls(given, cells.is_null if kind == "word" else cells.is_null_text), pl.repeat(
            False, len(raw), eager=True
        )
    given = given.replace("", None)
    if kind == "moment" and ignore_zones:
        given = given.str.replace(ZONE, "$1")
    read = pl.repeat(None, len(given), dtype=pl.Float64, eager=True) if convention == "comma" else _PLAIN[kind](given)
    odd = given.is_not_null() & read.is_null()
    if not odd.any():
        return read, odd
    found = _odd(given.filter(odd), kind, convention)
    read = read.scatter(odd.arg_true(), found["read"])
    return read, odd.clone().scatter(odd.arg_true(), found["wrong"])


def needs_convention(raw: pl.Series, kind: Kind, semicolons: bool = False) -> bool:
    """Tells whether a text depends on the decimal mark, or on the order of day and month.

    If `semicolons` separate the columns, 1.234 depends on it too.
    """
    import polars as pl

    if raw.dtype != pl.String or kind not in ("number", "moment"):
        return False
    given = raw.str.strip_chars().replace("", None)
    plain = _PLAIN[kind](given)
    if semicolons:
        plain = plain.set(given.str.contains(THOUSANDS).fill_null(False), None)
    odd = given.filter(given.is_not_null() & plain.is_null())
    return any(
        len(set(found)) > 1
        for cell in (_days(odd) if kind == "moment" else odd).unique()
        if (found := _readings(cell, kind))
    )


def convention_cells(raw: pl.Series, kind: Kind) -> pl.Series:
    """Keeps the cells that may show a column's convention: numbers with a mark, and dates.

    Dates lose their time of day. All other cells become null, also those without any reading.
    """
    import polars as pl

    given = raw.str.strip_chars()
    if kind == "moment":
        cells_ = _days(given.set(_moments(given).is_not_null(), None))
    else:
        cells_ = given.set(~given.str.contains("[., ']").fill_null(False), None)
    unread = [
        cell for cell in cells_.unique().drop_nulls() if not any(found is not None for found in _readings(cell, kind))
    ]
    return cells_.set(cells_.is_in(pl.Series(unread, dtype=pl.String)).fill_null(False), None)


def _readings(cell: str, kind: Kind) -> list[object]:
    """Reads a cell under each convention; None for a null and for a cell without a reading."""
    found: list[object] = []
    conventions: tuple[Convention, ...] = ("point", "comma") if kind == "number" else ("day-first", "month-first")
    for convention in conventions:
        try:
            found.append(_scalar(cell, kind, convention))
        except CellError:
            found.append(None)
    return found


def without_placeholders(moments: pl.Series, *, least: bool) -> pl.Series:
    """Replaces placeholders for a missing date by null. `least` includes the earliest dates."""
    import polars as pl

    first, last = (
        pl.Series(days).str.to_datetime("%Y-%m-%d", time_unit="us").to_list() for days in (LEAST_DAYS, OPEN_DAYS)
    )
    none = moments.dt.truncate("1d").is_in(last)
    return moments.set((none | moments.is_in(first) if least else none).fill_null(False), None)


def _odd(given: pl.Series, kind: Kind, convention: Convention) -> pl.DataFrame:
    """Reads cells that are not plain, and returns columns (read, wrong).

    Each distinct cell is read once. For times, the date and the time of day are read separately.
    """
    import polars as pl

    if kind == "moment":
        days = _mapped(_days(given), kind, convention)
        clock = given.str.extract(f"({CLOCK})").str.strip_chars_start("T ").fill_null("00:00:00")
        whole = _moments(days["read"].dt.strftime("%Y-%m-%d") + " " + clock)
        rest = days["read"].is_not_null() & whole.is_null()
        if rest.any():
            again = _mapped(given.filter(rest), kind, convention)
            whole = whole.scatter(rest.arg_true(), again["read"])
        return pl.DataFrame({"read": whole, "wrong": days["wrong"] | (days["read"].is_not_null() & whole.is_null())})
    return _mapped(given, kind, convention)


def _days(given: pl.Series) -> pl.Series:
    return given.str.replace(CLOCK, "")


def _mapped(given: pl.Series, kind: Kind, convention: Convention) -> pl.DataFrame:
    import polars as pl

    found: dict[str, tuple[object, bool]] = {}
    for cell in given.unique():
        try:
            found[cell] = _scalar(cell, kind, convention), False
        except CellError:
            found[cell] = None, True
    words = pl.Series(list(found), dtype=pl.String)
    values = pl.Series([value for value, _ in found.values()], dtype=type_of()[kind])
    wrong = pl.Series([wrong for _, wrong in found.values()], dtype=pl.Boolean)
    return pl.DataFrame({"read": given.replace_strict(words, values), "wrong": given.replace_strict(words, wrong)})


def _scalar(cell: str, kind: Kind, convention: Convention) -> float | int | datetime | None:
    if kind == "number":
        read = cells.number(cell, convention if convention in ("point", "comma") else "point")
        if read is not None and abs(read) > LARGEST:
            raise CellError("the number is too large")
        return read
    if kind == "whole":
        text = plain(cell)
        if cells.is_no_number(cell):
            return None
        if (
            len(text) > cells.LONGEST
            or not _WHOLE.fullmatch(text)
            or abs(number := int(re.split("[.,]", text)[0])) >= 2**63
        ):
            raise CellError("not a whole number")
        return number
    # Null, PostgreSQL's infinity, or MySQL's zero date.
    if cells.is_no_number(cell) or (set(cell) <= set("0-/: .T") and "0000" in cell):
        return None
    found = dates.moment(cell, convention if convention in ("day-first", "month-first") else None)
    if found is not None and found.tzinfo is not None:
        raise CellError("a time with a zone")
    return found


def _typed(raw: pl.Series, kind: Kind) -> tuple[pl.Series, pl.Series]:
    """Converts a column that its file stores with a type.

    Booleans are no numbers. Whole numbers are dates only in the form 20200301.
    """
    import polars as pl

    given = raw.fill_nan(None) if raw.dtype.is_float() else raw
    if kind in TEXTS:
        wrong = given.is_not_null() & (kind in ("said", "code") and raw.dtype.is_numeric())
        if kind == "said":
            whole = raw.dtype.is_integer() or bool((given.drop_nulls() == given.drop_nulls().floor()).all())
            given, wrong = (
                (given.cast(pl.Int64, strict=False), wrong & False)
                if whole and raw.dtype.is_float()
                else (given, wrong & (not whole))
            )
        return given.cast(pl.String), wrong
    if raw.dtype.is_float():
        given = given.set(given.is_infinite().fill_null(False), None)
    if kind == "moment":
        if raw.dtype.is_integer():
            found = _odd(given.cast(pl.String), kind, None)
            return found["read"], found["wrong"]
        fits = given.dtype in (pl.Date, pl.Null) or isinstance(given.dtype, pl.Datetime)
        read = (given if fits else given.cast(pl.Null, strict=False)).cast(pl.Datetime("us"))
    elif raw.dtype == pl.Boolean:
        read = pl.repeat(None, len(raw), dtype=type_of()[kind], eager=True)
    elif kind == "number":
        read = _as_a_32_bit_number(given.cast(pl.Float64, strict=False))
    else:
        read = given.cast(pl.Int64, strict=False)
        if raw.dtype.is_float() or raw.dtype.is_decimal():
            kept = read.cast(raw.dtype, strict=False) == given
            kept = kept & (read.abs() < 2**53) if raw.dtype.is_float() else kept
            read = read.set(~kept.fill_null(False), None)
    return read, given.is_not_null() & read.is_null()


def _without_nulls(given: pl.Series, is_null: Callable[[str], bool]) -> pl.Series:
    import polars as pl

    short = given.filter((given.str.len_bytes() <= LONGEST_NULL).fill_null(False)).unique()
    nothing = [text for text in short if is_null(text)]
    return given.set(given.is_in(nothing).fill_null(False), None) if nothing else given.cast(pl.String)


def _whole(given: pl.Series) -> pl.Series:
    """Reads whole numbers, also `21.0`, which programs write in columns with missing values."""
    import polars as pl

    read = given.cast(pl.Int64, strict=False)
    if read.null_count() == given.null_count():
        return read
    return read.fill_null(
        given.set(read.is_not_null(), None).str.replace(r"^([+-]?[0-9]+)\.0*$", "$1").cast(pl.Int64, strict=False)
    )


def _number(given: pl.Series) -> pl.Series:
    import polars as pl

    return _as_a_32_bit_number(given.cast(pl.Float64, strict=False))


def _as_a_32_bit_number(real: pl.Series) -> pl.Series:
    """Replaces numbers that are not finite as 32-bit floats, MEDS's type, by null."""
    import polars as pl

    return real.set((~real.cast(pl.Float32, strict=False).is_finite()).fill_null(False), None)


def _moments(given: pl.Series) -> pl.Series:
    """Parses 2020-03-01, also with `T` or a space and a time of day of 5 or more characters."""
    import polars as pl

    text = given.str.replace("T", " ", literal=True).to_frame("text")
    length = pl.col("text").str.len_chars()
    clock = pl.when(length == 10).then(pl.lit(" 00:00:00")).when(length == 16).then(pl.lit(":00")).otherwise(pl.lit(""))
    return text.select(
        (pl.col("text") + clock).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    ).to_series()


_PLAIN: Mapping[Kind, Callable[[pl.Series], pl.Series]] = {"whole": _whole, "number": _number, "moment": _moments}
