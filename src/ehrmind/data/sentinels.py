"""Missing values by columns: what a program writes where there is none becomes null where a file is read, and nowhere later.

The spellings are those of `cells`. Of a number, NaN and the infinities are none; 0 is a number, and 1970-01-01 a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehrmind.data.cells import NULLS

if TYPE_CHECKING:
    import polars as pl

SAID = frozenset({"none", "nil"})  # results that a text may report


def real(column: str) -> pl.Expr:
    """A column of floats without NaN and infinities."""
    import polars as pl

    return pl.when(pl.col(column).is_finite()).then(pl.col(column)).alias(column)


def written(values: pl.Series, *, free_text: bool = False) -> pl.Series:
    """Texts with null for the spellings of nothing; in `free_text`, `None` and `nil` are results."""
    nothing = is_nothing(values, free_text=free_text)
    return values.set(nothing, None) if nothing.any() else values


def is_nothing(values: pl.Series, *, free_text: bool = False) -> pl.Series:
    """Marks texts that are a spelling of nothing; false for null itself. Each distinct text is
    checked once."""
    import polars as pl

    words = sorted(NULLS - SAID if free_text else NULLS)
    different = values.drop_nulls().unique()
    found = different.filter(different.str.strip_chars().str.to_lowercase().is_in(words))
    if not len(found):
        return pl.repeat(value=False, n=len(values), dtype=pl.Boolean, eager=True).alias(values.name)
    return values.is_in(found.implode()).fill_null(False)
