"""Turns texts for missing values into null, column by column, when a file is read and never later.

The spellings are those of `cells`. NaN and infinities are missing numbers too. 0 is a number, and
1970-01-01 is a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehrmind.data.cells import NULLS

if TYPE_CHECKING:
    import polars as pl

SAID = frozenset({"none", "nil"})  # results in a free text, not missing values


def finite_or_null(column: str) -> pl.Expr:
    """Returns a column of floats with null for NaN and infinities."""
    import polars as pl

    return pl.when(pl.col(column).is_finite()).then(pl.col(column)).alias(column)


def without_null_texts(values: pl.Series, *, free_text: bool = False) -> pl.Series:
    """Replaces texts for missing values by null; in `free_text`, `None` and `nil` are results."""
    nothing = is_null_spelling(values, free_text=free_text)
    return values.set(nothing, None) if nothing.any() else values


def is_null_spelling(values: pl.Series, *, free_text: bool = False) -> pl.Series:
    """Marks texts for missing values; false for null itself. Each distinct text is checked once."""
    import polars as pl

    words = sorted(NULLS - SAID if free_text else NULLS)
    different = values.drop_nulls().unique()
    found = different.filter(different.str.strip_chars().str.to_lowercase().is_in(words))
    if not len(found):
        return pl.repeat(value=False, n=len(values), dtype=pl.Boolean, eager=True).alias(values.name)
    return values.is_in(found.implode()).fill_null(False)
