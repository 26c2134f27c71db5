"""Cases that are references get their text: each shard is read once, the histories of its cases are cut and rendered together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ehrmind.config import History
from ehrmind.prompts.history import history_digest, render
from ehrmind.sources.ehr import open_data_set
from ehrmind.sources.meds import BIRTH
from ehrmind.types import Case, InputError

if TYPE_CHECKING:
    import numpy as np

    from ehrmind.sources.ehrshot import Ehrshot
    from ehrmind.sources.meds import Meds
    from ehrmind.sources.timeline import Timeline

AT_ONCE = 1000  # histories looked at together, which bounds the memory they take


class Asked(NamedTuple):
    """Some cases whose subjects are in one shard: their places among the cases, subjects, and times in microseconds since 1970."""

    data: Meds | Ehrshot
    timeline: Timeline
    places: np.ndarray
    subjects: np.ndarray
    times: np.ndarray


def by_shard(cases: Sequence[Case]) -> Iterator[Asked]:
    """All cases, at most `AT_ONCE` together, each shard read once. Raises InputError when a data set is not where its cases say, or is
    not the one they were made from."""
    import numpy as np

    by_folder: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        by_folder[case.provenance["folder"], case.provenance["digest"]].append(place)
    for (folder, digest), members in by_folder.items():
        data = open_data_set(Path(folder))
        if data.digest != digest:
            raise InputError(f"{folder} has changed since the cases were made from it; make them again with `ehrmind data ehr`.")
        places = np.array(members)
        subjects = np.array([cases[place].provenance["subject"] for place in members])
        times = np.array([_micros(cases[place].provenance["as_of"]) for place in members])
        for _, timeline in data.timelines(checked=True):  # its digest says so
            here = np.flatnonzero(timeline.has(subjects))
            for rows in np.split(here, range(AT_ONCE, len(here), AT_ONCE)):
                yield Asked(data, timeline, places[rows], subjects[rows], times[rows])


def with_histories(cases: Sequence[Case], settings: History) -> tuple[list[Case], dict[str, int | str]]:
    """The cases in their order, those of the family `ehr` with `fields["history"]`; and counts of findings shown and cut. Raises what
    `by_shard` raises."""
    import numpy as np

    references = [place for place, case in enumerate(cases) if case.family == "ehr" and "history" not in case.fields]
    filled = list(cases)
    if not references:
        return filled, {}
    shown = cut = not_looked_at = 0
    for asked in by_shard([cases[place] for place in references]):
        found = asked.timeline.visible(asked.subjects, asked.times, newest=settings.max_events, strictly_before=settings.strictly_before)
        born = asked.timeline.born(asked.subjects, BIRTH)
        written = render(found.events, asked.timeline.whats, asked.times, born, asked.data.names, settings)
        for place, text in zip(asked.places.tolist(), written.texts, strict=True):
            case = cases[references[place]]
            filled[references[place]] = replace(case, fields={**case.fields, "history": text or "no record"})
        shown, cut = shown + sum(written.shown), cut + sum(written.cut)
        not_looked_at += int(np.maximum(found.known - settings.max_events, 0).sum())
    counts: dict[str, int | str] = {"histories": len(references), "findings_shown": shown, "findings_cut": cut}
    return filled, {**counts, "events_not_looked_at": not_looked_at, "serialisation": history_digest(settings)}


def _micros(moment: str) -> int:
    """Microseconds since 1970 of a time in ISO form."""
    return (datetime.fromisoformat(moment) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
