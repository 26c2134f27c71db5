"""Full-text search, file by file, newest first, in slices of time: a question is answered within about two seconds with what was searched
so far, and asking again goes on from there. Nothing is indexed: texts are read, looked at and forgotten."""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Lock

import polars as pl

from ehrmind.view.rollout_index import UNREADABLE, Rollouts

SLICE = 1.5  # seconds of one question
LONGEST = 200  # characters that are looked for
_NO_HITS = pl.DataFrame(schema={"file": pl.UInt32, "row": pl.UInt32})


class Search:
    """The hits of the text that was looked for last: by file, which rows hold it. Case does not count."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._needle = ""
        self._hits: dict[int, pl.Series] = {}

    def within(
        self, rollouts: Rollouts, found: pl.Series, needle: str, records: Mapping[str, str]
    ) -> tuple[pl.Series, int]:
        """(those of `found` that hold the text in their answer, their case's name or its record; how many were not searched yet)."""
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
        told = rows.join(hits, on=["file", "row"], how="semi")["at"]
        asked = rows.filter(pl.col("case").is_in(cases.implode()))["at"]
        return pl.concat([told, asked]).unique().sort(), left


def _rows_with(rollouts: Rollouts, number: int, pattern: str) -> pl.Series:
    """The rows of a file whose answer holds the text; none where the file is gone."""
    try:
        texts = pl.scan_parquet(rollouts.path(number)).select("text").collect()["text"]
    except UNREADABLE:
        return pl.Series(dtype=pl.UInt32)
    return texts.str.contains(pattern).fill_null(False).arg_true()
