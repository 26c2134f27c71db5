"""Missing values by columns: what a program writes where there is none becomes null where a file is read, and nowhere later.

The spellings are those of `cells`. Of a number, NaN and the infinities are none; 0 is a number, and 1970-01-01 a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehrmind.sources.cells import NULLS

if TYPE_CHECKING:
    import polars as pl

SAID = frozenset({"none", "nil"})  # results that a text may report


def real(column: str) -> pl.Expr:
    """A column of floats without NaN and infinities."""
    import polars as pl

    return pl.when(pl.col(column).is_finite()).then(pl.col(column)).alias(column)


def written(column: str, *, free_text: bool = False) -> pl.Expr:
    """A column of texts with null for the spellings of nothing; in `free_text`, `None` and `nil` are results."""
    import polars as pl

    return pl.when(~is_nothing(column, free_text=free_text)).then(pl.col(column)).alias(column)


def is_nothing(column: str, *, free_text: bool = False) -> pl.Expr:
    """Whether a text is a spelling of nothing; false for null itself."""
    import polars as pl

    words = sorted(NULLS - SAID if free_text else NULLS)
    short = pl.col(column).str.len_bytes() <= 32
    said = pl.when(short).then(pl.col(column)).str.strip_chars().str.to_lowercase().is_in(words)
    blank = pl.col(column).str.strip_chars().str.len_bytes() == 0
    return (said | blank).fill_null(False)
