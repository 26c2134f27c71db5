"""The one reader of histories: `Timeline.visible` gives what is known at a time, and nothing gives more.

The boundary is written here once. An event at exactly the prediction time is visible, as MEDS says, unless the caller excludes it; static
events (null time) are always visible; an `end` later than the prediction time is the future and reads as null. A shard's events stay in one
frame, sorted by subject and time, and a request is a slice of it: no object per event.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from ehrmind.types import InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value", "unit", "end", "table")


@dataclass(frozen=True, slots=True)
class Visible:
    """`events` has the columns of the shard, `request` (the row of the request) and `what` (the row of `Timeline.whats`), by request and
    time. `known` counts the dated events that were visible to each request, before the newest were taken."""

    events: pl.DataFrame
    known: np.ndarray


class Timeline:
    """The events of some subjects, `COLUMNS` (`table` is the OMOP table an event came from, where known): each subject's rows together,
    static ones first, then by time."""

    def __init__(self, events: pl.DataFrame) -> None:
        import numpy as np

        subjects = events["subject_id"].to_numpy()
        starts = np.flatnonzero(np.r_[True, subjects[1:] != subjects[:-1]]) if len(subjects) else np.array([], dtype=np.int64)
        order = np.argsort(subjects[starts], kind="stable")
        self._subjects, self._starts = subjects[starts][order], starts[order]
        self._ends = np.r_[starts[1:], len(subjects)][order] if len(subjects) else starts
        if len(np.unique(self._subjects)) < len(self._subjects):
            raise InputError("A subject's events are not together: each subject's rows must follow one another, sorted by time.")
        self._times = events["time"].cast(int).fill_null(np.iinfo(np.int64).min).to_numpy()
        self._static = events["time"].is_null().cast(int).cum_sum().to_numpy()
        self._events = events

    @cached_property
    def whats(self) -> pl.DataFrame:
        """A row for every different code, table and unit: what, code, table, unit. Events are compared by its number from here on."""
        return self._numbered[0]

    @cached_property
    def _numbered(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(whats, the events with their `what`); made once, and only where histories are asked for."""
        import polars as pl

        named = ("code", "table", "unit")
        numbers = self._events.select(pl.col(name).cast(pl.Categorical).to_physical() for name in named)
        different = numbers.with_row_index("row").unique(numbers.columns, keep="first", maintain_order=True).with_row_index("what")
        what = numbers.join(different, on=numbers.columns, how="left", maintain_order="left", nulls_equal=True)["what"]
        whats = self._events.select(numbers.columns)[different["row"]].with_columns(different["what"])
        return whats, self._events.with_columns(what)

    def has(self, subjects: np.ndarray) -> np.ndarray:
        """Whether each subject has any event here."""
        import numpy as np

        places = np.searchsorted(self._subjects, subjects).clip(max=max(0, len(self._subjects) - 1))
        return self._subjects[places] == subjects if len(self._subjects) else np.zeros(len(subjects), dtype=bool)

    def born(self, subjects: np.ndarray, birth_code: str) -> np.ndarray:
        """Microseconds since 1970 of each subject's first `birth_code` event; the least int64 where there is none."""
        import numpy as np
        import polars as pl

        births = self._events.filter(pl.col("code") == birth_code).group_by("subject_id").agg(pl.col("time").min())
        by_subject = dict(births.select("subject_id", pl.col("time").cast(int)).iter_rows())
        least = np.iinfo(np.int64).min
        return np.array([by_subject.get(int(subject)) or least for subject in subjects], dtype=np.int64)

    def visible(self, subjects: np.ndarray, as_of: np.ndarray, *, newest: int | None = None, strictly_before: bool = False) -> Visible:
        """What is known of `subjects[i]` at `as_of[i]` (microseconds since 1970): all static events, and the `newest` dated ones.

        Raises InputError for a subject that has no event here.
        """
        import numpy as np
        import polars as pl

        if not self.has(subjects).all():
            missing = subjects[~self.has(subjects)]
            raise InputError(f"{len(missing)} subject(s) have no events, such as {missing[0]}.")
        places = np.searchsorted(self._subjects, subjects)
        starts, ends = self._starts[places], self._ends[places]
        side: Literal["left", "right"] = "left" if strictly_before else "right"
        upto = np.array(
            [start + self._times[start:end].searchsorted(at, side) for start, end, at in zip(starts, ends, as_of, strict=True)],
            dtype=np.int64,
        ).reshape(len(subjects))
        before = np.where(starts > 0, self._static[np.maximum(starts, 1) - 1], 0)
        dated = starts + (self._static[ends - 1] - before)  # static rows come first
        upto = np.maximum(upto, dated)
        first = dated if newest is None else np.maximum(dated, upto - newest)
        rows = np.concatenate([_ranges(starts, dated), _ranges(first, upto)])
        request = np.concatenate([np.repeat(np.arange(len(subjects)), dated - starts), np.repeat(np.arange(len(subjects)), upto - first)])
        order = np.lexsort((rows, request))
        events = self._numbered[1][rows[order]].with_columns(pl.Series("request", request[order].astype(np.uint32)))
        at = pl.Series("as_of", as_of[request[order]]).cast(pl.Datetime("us"))
        return Visible(events.with_columns(pl.when(pl.col("end") <= at).then(pl.col("end")).alias("end")), upto - dated)


def _ranges(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The numbers of all half-open ranges, one after another."""
    import numpy as np

    lengths = ends - starts
    offsets = np.repeat(starts - np.r_[0, np.cumsum(lengths)[:-1]], lengths) if len(starts) else np.array([], dtype=np.int64)
    return np.arange(int(lengths.sum())) + offsets
