"""Fills in the text of cases that only reference a coded history. Each shard is read once, and its
histories are rendered together."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ehrmind.config import History
from ehrmind.data.ehr import open_data_set
from ehrmind.data.files import prefetched
from ehrmind.prompts.events import describe
from ehrmind.prompts.history import Rendered, history_digest, render
from ehrmind.types import Case, InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from ehrmind.data.ehrshot import Ehrshot
    from ehrmind.data.meds import Meds
    from ehrmind.data.timeline import Timeline

EVENTS_AT_ONCE = 1 << 19  # events processed together, which bounds memory
THREADS = 4  # upper limit: more histories at once take more memory


class Asked(NamedTuple):
    """Some cases whose subjects are in one shard: their places among the cases, subjects, and times
    in microseconds since 1970."""

    places: np.ndarray
    subjects: np.ndarray
    times: np.ndarray


class Shard(NamedTuple):
    """All cases of a shard, in portions."""

    data: Meds | Ehrshot
    timeline: Timeline
    asked: Sequence[Asked]


def by_shard(cases: Sequence[Case], at_once: int) -> Iterator[Shard]:
    """Yields all cases shard by shard, at most `at_once` together.

    Each shard is read once, while the one before it is in use. Raises InputError if a data set is
    missing or is not the one that the cases were made from.
    """
    import numpy as np

    by_folder: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        by_folder[case.provenance["folder"], case.provenance["digest"]].append(place)
    for (folder, digest), members in by_folder.items():
        data = open_data_set(Path(folder))
        if data.digest != digest:
            raise InputError(
                f"{folder} has changed since the cases were made from it; make them again with `ehrmind data ehr`."
            )
        places = np.array(members)
        subjects = np.array([cases[place].provenance["subject"] for place in members])
        times = np.array([_micros(cases[place].provenance["as_of"]) for place in members])
        # checked: the data set's digest was just compared
        read = ((timeline, timeline.whats) for _, timeline in data.timelines(checked=True))
        for timeline, _ in prefetched(read):
            here = np.flatnonzero(timeline.has(subjects))
            parts = np.split(here, range(at_once, len(here), at_once))
            yield Shard(
                data, timeline, [Asked(places[rows], subjects[rows], times[rows]) for rows in parts if len(rows)]
            )


def with_histories(cases: Sequence[Case], settings: History) -> tuple[list[Case], dict[str, int | str]]:
    """Returns all cases in order, those of the family `ehr` with `fields["history"]`, and counts.

    The counts are findings shown, cut, and shown without a flag because their unit is unknown.
    Raises what `by_shard` raises.
    """
    import numpy as np

    references = [place for place, case in enumerate(cases) if case.family == "ehr" and "history" not in case.fields]
    filled = list(cases)
    if not references:
        return filled, {}
    shown = cut = unflagged = not_looked_at = 0
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        for shard in by_shard([cases[place] for place in references], max(1, EVENTS_AT_ONCE // settings.max_events)):
            about = describe(shard.timeline.whats, shard.data.names, shard.data.parents)
            written = threads.map(partial(_written, shard.timeline, about, settings), shard.asked)
            for asked, (rendered, known) in zip(shard.asked, written, strict=True):
                for place, text in zip(asked.places.tolist(), rendered.texts, strict=True):
                    case = cases[references[place]]
                    filled[references[place]] = replace(case, fields={**case.fields, "history": text or "no record"})
                shown, cut, unflagged = (
                    shown + sum(rendered.shown),
                    cut + sum(rendered.cut),
                    unflagged + sum(rendered.unflagged),
                )
                not_looked_at += int(np.maximum(known - settings.max_events, 0).sum())
    counts: dict[str, int | str] = {"histories": len(references), "findings_shown": shown, "findings_cut": cut}
    # the test has limits, but none in the unit of the result
    counts["findings_without_flag"] = unflagged
    return filled, {**counts, "events_not_looked_at": not_looked_at, "serialisation": history_digest(settings)}


def _written(timeline: Timeline, about: pl.DataFrame, settings: History, asked: Asked) -> tuple[Rendered, np.ndarray]:
    """Returns (the histories, how many dated events were visible to each)."""
    found = timeline.visible(
        asked.subjects, asked.times, newest=settings.max_events, strictly_before=settings.strictly_before
    )
    return render(found, about, asked.times, timeline.born(asked.subjects), settings), found.known


def _micros(moment: str) -> int:
    """Converts a time in ISO form to microseconds since 1970."""
    return (datetime.fromisoformat(moment) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
