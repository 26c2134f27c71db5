"""Knowledge at a time, against a reader that looks at every event by itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehrmind.data.timeline import COLUMNS, Timeline
from ehrmind.types import InputError

DAY = datetime(2020, 1, 1)
SCHEMA = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32, "text_value": pl.String,
          "unit": pl.String, "end": pl.Datetime("us"), "table": pl.String}  # fmt: skip
Event = tuple[int, int | None, int | None]  # subject, hour of the event (None: static), hour of its end


def hour(number: int | None) -> datetime | None:
    return None if number is None else DAY + timedelta(hours=number)


def micros(number: int) -> int:
    return int(np.datetime64(DAY + timedelta(hours=number), "us").astype(int))


def code_of(place: int) -> str:
    """Every third code is a static fact, one a death."""
    return ("GENDER//F", "MEDS_DEATH", f"code-{place}")[place % 3]


def shard(events: list[Event]) -> pl.DataFrame:
    rows = sorted(events, key=lambda event: (event[0], -1 if event[1] is None else event[1]))
    return pl.DataFrame(
        [
            (subject, hour(time), code_of(place), 1.0, None, None, hour(end), None)
            for place, (subject, time, end) in enumerate(rows)
        ],
        schema=SCHEMA,
        orient="row",
    )


def naively(
    events: pl.DataFrame, subject: int, at: int, newest: int | None, strictly_before: bool
) -> list[tuple[Any, ...]]:
    """Every row of the subject, one by one."""
    known: list[tuple[Any, ...]] = []
    limit = hour(at)
    assert limit is not None
    for _, time, code, _, _, _, end, _ in events.filter(pl.col("subject_id") == subject).rows():
        if (time is None and code == "GENDER//F") or (
            time is not None and (time < limit or (time == limit and not strictly_before))
        ):
            known.append((time, code, end if end is not None and end <= limit else None))
    static, dated = [row for row in known if row[0] is None], [row for row in known if row[0] is not None]
    return [*static, *(dated if newest is None else dated[len(dated) - newest :] if newest < len(dated) else dated)]


EVENTS = st.lists(
    st.tuples(st.integers(1, 4), st.one_of(st.none(), st.integers(0, 9)), st.one_of(st.none(), st.integers(0, 12))),
    min_size=1,
)


ASKED = st.lists(st.tuples(st.integers(0, 99), st.integers(-1, 11)), min_size=1, max_size=6)


@given(EVENTS, ASKED, st.one_of(st.none(), st.integers(0, 4)), st.booleans())
@settings(max_examples=300, deadline=None)
def test_visible_is_what_a_reader_of_every_event_finds(
    events: list[Event], asked: list[tuple[int, int]], newest: int | None, strictly_before: bool
) -> None:
    frame = shard(events)
    subjects = sorted(set(frame["subject_id"]))
    requests = [(subjects[place % len(subjects)], at) for place, at in asked]
    timeline = Timeline(frame)
    found = timeline.visible(
        np.array([subject for subject, _ in requests]),
        np.array([micros(at) for _, at in requests]),
        newest=newest,
        strictly_before=strictly_before,
    )
    for place, (subject, at) in enumerate(requests):
        rows = found.events.filter(pl.col("request") == place)
        codes = timeline.whats["code"].gather(rows["what"])
        rows = list(zip(rows["time"], codes, rows["end"], strict=True))
        assert rows == naively(frame, subject, at, newest, strictly_before)
        assert found.known[place] == sum(
            row[0] is not None for row in naively(frame, subject, at, None, strictly_before)
        )


def test_an_end_later_than_the_prediction_time_reads_as_none() -> None:
    stay = Timeline(shard([(1, 2, 8)]))
    ends = [stay.visible(np.array([1]), np.array([micros(at)])).events["end"].to_list() for at in (7, 8)]
    assert ends == [[None], [hour(8)]]


def test_an_event_at_the_prediction_time_is_visible_unless_it_is_excluded() -> None:
    timeline = Timeline(shard([(1, 3, None)]))
    asked = np.array([1]), np.array([micros(3)])
    assert timeline.visible(*asked).events.height == 1
    assert timeline.visible(*asked, strictly_before=True).events.height == 0


def test_a_subject_without_events_is_refused_by_count() -> None:
    with pytest.raises(InputError, match=r"^1 subject[^7]*no events"):
        Timeline(shard([(1, 3, None)])).visible(np.array([1, 7]), np.array([0, 0]))


def test_subjects_may_stand_in_any_order_but_together() -> None:
    frame = shard([(1, 1, None), (2, 2, None), (2, 3, None)])
    swapped = pl.concat([frame[1:], frame[:1]])
    assert Timeline(swapped).visible(np.array([1, 2]), np.array([micros(9)] * 2)).known.tolist() == [1, 2]
    with pytest.raises(InputError, match="not together"):
        Timeline(pl.concat([frame[1:2], frame[:1], frame[2:]]))


def test_an_empty_shard_has_nobody() -> None:
    assert not Timeline(shard([(1, 1, None)])[:0]).has(np.array([1])).any()
    assert tuple(SCHEMA) == COLUMNS
