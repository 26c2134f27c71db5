"""Cases that are references get their text: each shard is read once, the histories of its cases are cut and rendered together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from ehrmind.config import History
from ehrmind.prompts.history import history_digest, render
from ehrmind.sources.ehr import open_data_set
from ehrmind.sources.meds import BIRTH
from ehrmind.types import Case, InputError

AT_ONCE = 1000  # histories cut and rendered together, which bounds the memory they take


def with_histories(cases: Sequence[Case], settings: History) -> tuple[list[Case], dict[str, int | str]]:
    """The cases in their order, those of the family `ehr` with `fields["history"]`; and counts of findings shown and cut.

    Raises InputError when a data set is not where its cases say, or is not the one they were made from.
    """
    import numpy as np

    by_folder: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        if case.family == "ehr" and "history" not in case.fields:
            by_folder[case.provenance["folder"], case.provenance["digest"]].append(place)
    filled = list(cases)
    counts: dict[str, int | str] = {}
    if by_folder:
        counts = {"histories": sum(map(len, by_folder.values())), "findings_shown": 0, "findings_cut": 0, "events_not_looked_at": 0}
        counts["serialisation"] = history_digest(settings)
    for (folder, digest), places in by_folder.items():
        data = open_data_set(Path(folder))
        if data.digest != digest:
            raise InputError(f"{folder} has changed since the cases were made from it; make them again with `ehrmind data ehr`.")
        subjects = np.array([cases[place].provenance["subject"] for place in places])
        times = np.array([micros(cases[place].provenance["as_of"]) for place in places])
        for _, timeline in data.timelines(checked=True):  # its digest says so
            here = np.flatnonzero(timeline.has(subjects))
            for rows in np.split(here, range(AT_ONCE, len(here), AT_ONCE)):
                found = timeline.visible(subjects[rows], times[rows], newest=settings.max_events, strictly_before=settings.strictly_before)
                texts = render(found.events, timeline.whats, times[rows], timeline.born(subjects[rows], BIRTH), data.names, settings)
                for row, text in zip(rows.tolist(), texts.texts, strict=True):
                    case = cases[places[row]]
                    filled[places[row]] = replace(case, fields={**case.fields, "history": text or "no record"})
                for name, figure in (
                    ("findings_shown", sum(texts.shown)),
                    ("findings_cut", sum(texts.cut)),
                    ("events_not_looked_at", int(np.maximum(found.known - settings.max_events, 0).sum())),
                ):
                    counts[name] = int(counts[name]) + figure
    return filled, counts


def micros(moment: str) -> int:
    """Microseconds since 1970 of a time in ISO form."""
    return (datetime.fromisoformat(moment) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
