"""Reads histories up to a prediction time. `Timeline.visible` is the only way to an event.

The boundary of time is defined here alone:
- An event at exactly the prediction time is visible, as MEDS says, unless the caller excludes it.
- Events without a time are visible if they are static facts (`static_facts`). Others are counted
  and never shown.
- An `end` after the prediction time lies in the future and reads as null.

A shard's events stay in one frame, sorted by subject and time. A request is a slice of that frame,
so no object is made per event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ehrmind.ages import NO_BIRTH
from ehrmind.data.static_facts import PERSON, is_dated, is_static, sex_of
from ehrmind.types import InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"
COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value", "unit", "end", "table")
WIDEST = 1 << 24  # largest lookup table, in entries; 64 MB


@dataclass(frozen=True, slots=True)
class Visible:
    """Events that are visible to some requests, sorted by request and time.

    `events` has `request` (index of the request), `what` (row of `Timeline.whats`, which has code,
    table and unit) and the shard's other columns. `known` counts each request's visible dated
    events, before `newest` limits them.
    """

    events: pl.DataFrame
    known: np.ndarray


class Timeline:
    """Events of some subjects, with `COLUMNS` and any others.

    Each subject's rows are together, those without a time first, then by time. `table` is the
    event's OMOP table, if known. `declared` has the codes that the metadata call static. `undated`
    counts by code the events that are left out because they have no time.
    """

    def __init__(self, events: pl.DataFrame, declared: Collection[str] = frozenset()) -> None:
        import numpy as np

        subjects = events["subject_id"].to_numpy()
        starts = (
            np.flatnonzero(np.r_[True, subjects[1:] != subjects[:-1]])
            if len(subjects)
            else np.array([], dtype=np.int64)
        )
        order = np.argsort(subjects[starts], kind="stable")
        self._subjects, self._starts = subjects[starts][order], starts[order]
        self._ends = np.r_[starts[1:], len(subjects)][order] if len(subjects) else starts
        if len(np.unique(self._subjects)) < len(self._subjects):
            raise InputError(
                "A subject's events are not together: each subject's rows must follow one another, sorted by time."
            )
        left_out = _undated(events, declared)
        self.undated = Counter(events.filter(left_out)["code"].to_list()) if left_out.any() else Counter[str]()
        if self.undated:  # subjects stay, even those without any event left
            place = np.r_[0, np.cumsum(~left_out.to_numpy())]
            self._starts, self._ends, events = place[self._starts], place[self._ends], events.filter(~left_out)
        self._times = events["time"].cast(int).fill_null(np.iinfo(np.int64).min).to_numpy()
        self._events = events

    @property
    def subjects(self) -> np.ndarray:
        """Subjects that have events here, in ascending order."""
        return self._subjects

    @cached_property
    def whats(self) -> pl.DataFrame:
        """One row per distinct code, table and unit. Events refer to it by row number (`what`)."""
        return self._numbered[0]

    @cached_property
    def _numbered(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The pair (whats, events with `what` for code, table and unit); computed on first use."""
        import numpy as np
        import polars as pl

        names = ("code", "table", "unit")
        coded = [self._events[name].to_arrow().dictionary_encode(null_encoding="encode") for name in names]
        sizes = [max(1, len(column.dictionary)) for column in coded]
        which = (
            np.ravel_multi_index([column.indices.to_numpy() for column in coded], sizes)
            if self._events.height
            else np.array([], int)
        )
        different, what = _renumbered(which, int(np.prod(sizes)))
        parts = np.unravel_index(different, sizes)
        whats = {
            name: pl.Series(column.dictionary).gather(part)
            for name, column, part in zip(names, coded, parts, strict=True)
        }
        return pl.DataFrame(whats), self._events.drop("subject_id", *names).with_columns(
            pl.Series("what", what.astype(np.uint32))
        )

    def has(self, subjects: np.ndarray) -> np.ndarray:
        """Tells for each subject whether it has any event here."""
        import numpy as np

        places = np.searchsorted(self._subjects, subjects).clip(max=max(0, len(self._subjects) - 1))
        return self._subjects[places] == subjects if len(self._subjects) else np.zeros(len(subjects), dtype=bool)

    def born(self, subjects: np.ndarray) -> np.ndarray:
        """Returns each subject's earliest birth in microseconds since 1970, or `NO_BIRTH`."""
        import numpy as np

        return np.array([self._births.get(subject, NO_BIRTH) for subject in subjects.tolist()], dtype=np.int64)

    def sexes(self, subjects: np.ndarray) -> list[str | None]:
        """Returns each subject's sex, `female` or `male`; None unless static events say one."""
        return [self._sexes.get(subject) for subject in subjects.tolist()]

    @cached_property
    def _sexes(self) -> dict[int, str]:
        import polars as pl

        static = self._events.filter(pl.col("time").is_null()).select(
            "subject_id", pl.col("code").cast(pl.String), "text_value"
        )
        kinds = static.select("code", "text_value").unique()
        said = kinds.with_columns(
            pl.Series("sex", [sex_of(code, text) for code, text in kinds.iter_rows()], dtype=pl.String)
        )
        known = static.join(said.drop_nulls("sex"), on=["code", "text_value"], nulls_equal=True)
        sexes = known.group_by("subject_id").agg(pl.col("sex").unique())
        return {
            subject: found[0] for subject, found in sexes.select("subject_id", "sex").iter_rows() if len(found) == 1
        }

    @cached_property
    def _births(self) -> dict[int, int]:
        import polars as pl

        births = (
            self._events.filter((pl.col("code") == BIRTH) & pl.col("time").is_not_null())
            .group_by("subject_id")
            .agg(pl.col("time").min().cast(int))
        )
        return dict(births.iter_rows())

    def visible(
        self, subjects: np.ndarray, as_of: np.ndarray, *, newest: int | None = None, strictly_before: bool = False
    ) -> Visible:
        """Gathers what is known of `subjects[i]` at `as_of[i]` (microseconds since 1970).

        These are all static facts and the `newest` dated events. Raises InputError for a subject
        that has no event here.
        """
        import numpy as np
        import polars as pl

        if not self.has(subjects).all():
            missing = subjects[~self.has(subjects)]
            raise InputError(f"{len(missing)} subject(s) have no events; give cases of this data set.")
        places = np.searchsorted(self._subjects, subjects)
        starts, ends = self._starts[places], self._ends[places]
        never = np.full(len(subjects), np.iinfo(np.int64).min)
        dated = first_beyond(self._times, starts, ends, never, inclusive=True)  # static rows come first
        upto = np.maximum(dated, first_beyond(self._times, starts, ends, as_of, inclusive=not strictly_before))
        first = dated if newest is None else np.maximum(dated, upto - newest)
        rows = _ranges(np.stack([starts, first], axis=1).ravel(), np.stack([dated, upto], axis=1).ravel())
        request = np.repeat(np.arange(len(subjects), dtype=np.uint32), (dated - starts) + (upto - first))
        at = pl.Series("as_of", as_of[request]).cast(pl.Datetime("us"))
        events = self._numbered[1][rows].with_columns(pl.Series("request", request))
        return Visible(events.with_columns(pl.when(pl.col("end") <= at).then(pl.col("end")).alias("end")), upto - dated)


def _undated(events: pl.DataFrame, declared: Collection[str]) -> pl.Series:
    """Marks events that have no time and are no static fact.

    If they were visible, a death or diagnosis without a date would be known from the first day.
    """
    import polars as pl

    without = pl.col("time").is_null()
    codes = events.filter(without)["code"].unique().to_list()
    static = [code for code in codes if is_static(code, declared)]
    of_person = [code for code in codes if not is_dated(code)]
    table = pl.col("table") == PERSON if "table" in events.columns else pl.lit(value=False)
    allowed = pl.col("code").is_in(static) | (table & pl.col("code").is_in(of_person))
    return events.select((without & ~allowed.fill_null(False)).alias("left_out"))["left_out"]


def first_beyond(
    times: np.ndarray, starts: np.ndarray, ends: np.ndarray, at: np.ndarray, *, inclusive: bool
) -> np.ndarray:
    """Finds by bisection, in each half-open range of time-sorted rows, the first row after `at`.

    Without `inclusive` it is the first row at or after `at`. The result is the range's end if there
    is no such row. All ranges are bisected together.
    """
    import numpy as np

    low, high = starts.copy(), ends.copy()
    while (undecided := low < high).any():
        middle = (low + high) // 2
        known = times[np.minimum(middle, len(times) - 1)]
        before = (known <= at) if inclusive else (known < at)
        low, high = np.where(undecided & before, middle + 1, low), np.where(undecided & ~before, middle, high)
    return low


def _renumbered(which: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (distinct numbers in order, each row's index in them); numbers are below `size`."""
    import numpy as np

    if size > WIDEST:
        different, what = np.unique(which, return_inverse=True)
        return different, what
    occurs = np.zeros(size, dtype=bool)
    occurs[which] = True
    different = np.flatnonzero(occurs)
    place = np.zeros(size, dtype=np.uint32)
    place[different] = np.arange(len(different))
    return different, place[which]


def _ranges(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Concatenates the numbers of all half-open ranges."""
    import numpy as np

    lengths = ends - starts
    offsets = (
        np.repeat(starts - np.r_[0, np.cumsum(lengths)[:-1]], lengths) if len(starts) else np.array([], dtype=np.int64)
    )
    return np.arange(int(lengths.sum())) + offsets
