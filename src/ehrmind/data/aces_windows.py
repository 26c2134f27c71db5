"""Computes the windows of an ACES task from its definition: matches, times and counts.

The results of ACES are compared with these, because ACES deviates from the definition in two ways.
It exchanges start and end of a window whose start is defined by its end. It also lets an event at
the excluded start of a window end that window at once. Times are microseconds since 1970; counts
are by subject and time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from ehrmind.data.timeline import first_beyond

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

ANY_EVENT, RECORD_START, RECORD_END = "_ANY_EVENT", "_RECORD_START", "_RECORD_END"
MOST_WINDOWS, LONGEST_SIDE = 100, 200  # LONGEST_SIDE in characters
LONGEST_SPAN = timedelta(days=1_000_000)  # 2,700 years; 100 such spans in microseconds fit in 64 bits
_EXPRESSION = re.compile(r"(?P<to>[\w.]+)(?:\s*(?P<how>->|<-|\+|-)\s*(?P<what>.+))?")


def refuse_endless(windows: Mapping[str, Any]) -> None:
    """Raises ValueError for too many windows and for spans that are longer than any record."""
    from aces.utils import parse_timedelta

    if len(windows) > MOST_WINDOWS:
        raise ValueError(f"{len(windows):,} windows; a task has at most {MOST_WINDOWS}.")
    for name, side in ((name, side) for name in windows for side in ("start", "end")):
        said = str(windows[name].get(side) or "").strip()
        if len(said) > LONGEST_SIDE:
            raise ValueError(
                f"window {str(name)[:80]}, {side}: {len(said):,} characters; a reference and a span have at most"
                f" {LONGEST_SIDE}."
            )
        parts = _EXPRESSION.fullmatch(said)
        try:
            beyond = (
                parts is not None
                and parts["how"] in ("+", "-")
                and abs(parse_timedelta(parts["what"].strip())) > LONGEST_SPAN
            )
        except OverflowError:
            beyond = True
        if beyond:
            raise ValueError(
                f"window {str(name)[:80]}, {side}: more than {LONGEST_SPAN.days:,} days; where it has no limit, leave"
                " it null."
            )


class Bounds(NamedTuple):
    """Start and end of a window for each trigger, and whether the window exists."""

    start: np.ndarray
    end: np.ndarray
    there: np.ndarray


class Matches(NamedTuple):
    """All triggers of some subjects: whether each meets the task, and its label's window."""

    subject: np.ndarray
    trigger: np.ndarray
    meets: np.ndarray
    at: np.ndarray  # the prediction time
    other: np.ndarray  # the other end of the prediction time's window
    times: np.ndarray  # how often the label's predicate occurs in its window
    label: Bounds


@dataclass
class Windows:
    """Windows of a task over the events of some subjects.

    `events` has subject_id, timestamp (never null) and a count per predicate, and is sorted. With
    `as_aces`, an event at a window's start may end it as in ACES.
    """

    task: Any
    events: pl.DataFrame
    as_aces: bool = False
    _found: dict[str, Bounds] = field(default_factory=dict)
    _sums: dict[str, np.ndarray] = field(default_factory=dict)

    def matches(self) -> Matches:
        """Finds the matches, one per trigger, in the order of the events."""
        import numpy as np

        subjects = self.events["subject_id"].to_numpy()
        self._times = self.events["timestamp"].cast(int).to_numpy()
        new = (
            np.flatnonzero(np.r_[True, subjects[1:] != subjects[:-1]]) if len(subjects) else np.zeros(0, dtype=np.int64)
        )
        lasts = np.r_[new[1:], len(subjects)]
        triggers = np.flatnonzero(self._counts(self.task.trigger.predicate) > 0)
        whose = np.searchsorted(new, triggers, side="right") - 1
        self._lows, self._highs, self._triggers = new[whose], lasts[whose], self._times[triggers]
        meets = np.ones(len(triggers), dtype=bool)
        for name, window in self.task.windows.items():
            bounds = self._bounds(name)
            meets &= bounds.there
            for predicate, (least, most) in window.has.items():
                times = self._within(bounds, window, ANY_EVENT if predicate == "*" else predicate)
                meets &= (least is None or times >= least) & (most is None or times <= most)
        index = self._bounds(self.task.index_timestamp_window)
        at, other = index.start, index.end
        if self.task.windows[self.task.index_timestamp_window].index_timestamp == "end":
            at, other = other, at
        labelled, window = self._bounds(self.task.label_window), self.task.windows[self.task.label_window]
        return Matches(
            subjects[triggers], self._triggers, meets, at, other, self._within(labelled, window, window.label), labelled
        )

    def _bounds(self, name: str) -> Bounds:
        """Computes both ends of a window, first the one that does not depend on the other."""
        if name not in self._found:
            window = self.task.windows[name]
            said = {"start": window.start, "end": window.end}
            hangs = "start" if window.start is None or re.match(r"end\b(?!\.)", window.start.strip()) else "end"
            root = "end" if hangs == "start" else "start"
            first, there = self._reached(said[root], window, None, root)
            second, also = self._reached(said[hangs], window, (first, there), hangs)
            self._found[name] = Bounds(*((first, second) if root == "start" else (second, first)), there & also)
        return self._found[name]

    def _reached(
        self, said: str | None, window: Any, own: tuple[np.ndarray, np.ndarray] | None, side: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the times of one side of a window, and whether they exist.

        `own` is the window's other side.
        """
        import numpy as np
        from aces.utils import parse_timedelta

        if said is None:
            assert own is not None  # ACES refuses a window without start and end
            return self._record(own, window, side)
        parts = _EXPRESSION.fullmatch(said.strip())
        assert parts is not None  # ACES has read it
        reference, how, what = parts["to"], parts["how"], (parts["what"] or "").strip()
        if reference in ("start", "end") and own is not None:
            at, there = own
        elif reference == "trigger":
            at, there = self._triggers, np.ones(len(self._triggers), dtype=bool)
        else:
            other, _, end = reference.partition(".")
            bounds = self._bounds(other)
            at, there = (bounds.start if end == "start" else bounds.end), bounds.there
        if how in ("+", "-"):
            return at + (1 if how == "+" else -1) * (parse_timedelta(what) // timedelta(microseconds=1)), there
        if how in ("->", "<-"):
            if what in (RECORD_START, RECORD_END):
                return self._record((at, there), window, side)
            found, reached = self._event(what, at, how, own is not None, window)
            return found, there & reached
        return at, there

    def _record(self, own: tuple[np.ndarray, np.ndarray], window: Any, side: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the record's first or last time, if it is not beyond the window's other side."""
        at, there = own
        if side == "end":
            edge = self._times[self._highs - 1]
            return edge, there & ((edge >= at) if window.end_inclusive else (edge > at))
        edge = self._times[self._lows]
        return edge, there & ((edge <= at) if window.start_inclusive else (edge < at))

    def _event(
        self, predicate: str, at: np.ndarray, how: str, of_window: bool, window: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the next (`->`) or the last (`<-`) time of the predicate, and whether there is one.

        An event at `at` itself counts only if the window includes both ends. Otherwise it would lie
        outside the window that it bounds.
        """
        import numpy as np

        rows = np.flatnonzero(self._counts(predicate) > 0)
        itself = of_window and window.start_inclusive and window.end_inclusive
        if self.as_aces:
            itself = of_window and (window.end_inclusive if how == "->" else window.start_inclusive)
        if not len(rows):
            return at, np.zeros(len(at), dtype=bool)
        if how == "->":
            row = first_beyond(self._times, self._lows, self._highs, at, inclusive=not itself)
            place = np.searchsorted(rows, row)
            found = rows[np.minimum(place, len(rows) - 1)]
            return self._times[found], (place < len(rows)) & (found < self._highs)
        row = first_beyond(self._times, self._lows, self._highs, at, inclusive=itself)
        place = np.searchsorted(rows, row) - 1
        found = rows[np.maximum(place, 0)]
        return self._times[found], (place >= 0) & (found >= self._lows)

    def _within(self, bounds: Bounds, window: Any, predicate: str) -> np.ndarray:
        """Counts the predicate's occurrences in the window."""
        import numpy as np

        if predicate not in self._sums:
            self._sums[predicate] = np.r_[0, np.cumsum(self._counts(predicate))]
        first = first_beyond(self._times, self._lows, self._highs, bounds.start, inclusive=not window.start_inclusive)
        last = first_beyond(self._times, self._lows, self._highs, bounds.end, inclusive=window.end_inclusive)
        sums = self._sums[predicate]
        return np.where(bounds.there & (last > first), sums[last] - sums[first], 0)

    def _counts(self, predicate: str) -> np.ndarray:
        return self.events[predicate].fill_null(0).cast(int).to_numpy()
