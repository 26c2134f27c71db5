"""Full-text search, file by file, newest first, in slices of time.

A search answers within about two seconds with what it has so far, and the next call goes on from
there. Nothing is indexed: texts are read and dropped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Lock

import polars as pl

from ehrmind.view.rollout_index import UNREADABLE, Rollouts

SLICE = 1.5  # seconds per call
LONGEST = 200  # characters of the searched text
_NO_HITS = pl.DataFrame(schema={"file": pl.UInt32, "row": pl.UInt32})


class Search:
    """The hits of the last search by file: the rows that hold the text, in upper or lower case."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._needle = ""
        self._hits: dict[int, pl.Series] = {}

    def within(
        self, rollouts: Rollouts, found: pl.Series, needle: str, records: Mapping[str, str]
    ) -> tuple[pl.Series, int]:
        """(rows of `found` that have the text; number of rows not yet searched)

        The text may be in the answer, in the id of the case or in its record.
        """
        needle = needle[:LONGEST]
        pattern = f"(?i){pl.escape_regex(needle)}"
        rows = rollouts.frame[found].select("file", "row", pl.col("case").cast(pl.String), found.alias("at"))
        with self._lock:
            if needle != self._needle:
                self._needle, self._hits = needle, {}
            until = time.monotonic() + SLICE
            for number in rows["file"].unique(maintain_order=True):
                if number not in self._hits:
                    self._hits[number] = _rows_with(rollouts, number, pattern)
                    if time.monotonic() > until:
                        break
            hits = pl.concat(
                [
                    _NO_HITS,
                    *(pl.DataFrame({"file": number, "row": at}, _NO_HITS.schema) for number, at in self._hits.items()),
                ]
            )
            left = rows.filter(~pl.col("file").is_in(list(self._hits))).height
        folded = needle.casefold()
        about = [case for case, record in records.items() if folded in record.casefold()]
        cases = rows["case"].unique()
        cases = cases.filter(cases.is_in(about) | cases.str.contains(pattern))
        in_texts = rows.join(hits, on=["file", "row"], how="semi")["at"]
        in_cases = rows.filter(pl.col("case").is_in(cases.implode()))["at"]
        return pl.concat([in_texts, in_cases]).unique().sort(), left


def _rows_with(rollouts: Rollouts, number: int, pattern: str) -> pl.Series:
    """The rows of a file whose answer holds the text; empty where the file is gone."""
    try:
        texts = pl.scan_parquet(rollouts.path(number)).select("text").collect()["text"]
    except UNREADABLE:
        return pl.Series(dtype=pl.UInt32)
    return texts.str.contains(pattern).fill_null(False).arg_true()
