"""Splits coded histories by subject, by time, or by site.

By time and by site, each label gets a split, and two rules take precedence. First, a subject is in
one split only: it keeps the labels of the latest split it reaches (train, tuning, held_out).
Second, a subject never moves to an earlier split than the data set gave it: held-out subjects are
not used for training or tuning, tuning subjects not for training. Moving to a later split is
allowed. Labels that these rules exclude are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from ehrmind.data.cells import CellError
from ehrmind.data.ehrshot import Ehrshot
from ehrmind.data.identity import record_key
from ehrmind.data.meds import Meds
from ehrmind.data.splits import SPLITS, refuse_shares, split_of_groups
from ehrmind.types import Case, InputError, Split

if TYPE_CHECKING:
    from ehrmind.config import EhrFiles

RESERVED = "the data set keeps the subject for a later split"
EARLIER = "the subject has labels in a later split"
NO_SITE = "no visible event has a site"
MOST_SITES_NAMED = 10

Found = tuple[list[Case], Counter[str], dict[str, int]]  # cases, what was left out and why, notes on what was kept


def split_histories(cases: Sequence[Case], data: Meds | Ehrshot, files: EhrFiles) -> Found:
    """Returns the cases with their splits, counts of excluded ones by reason, and notes.

    Cases come with the data set's own split, or `train` if it has none. Raises InputError for a
    subject that those splits do not list, and if the requested split is impossible.
    """
    unsplit = [case for case in cases if data.splits and case.provenance["subject"] not in data.splits]
    if unsplit:
        who = f"{len({case.group for case in unsplit})} labelled subject(s), the first that of {unsplit[0].place}"
        raise InputError(f"The splits of {data.folder} have no place for {who}; give each subject a split.")
    if files.split_by == "subject":
        if data.splits:
            return list(cases), Counter(), {}
        return split_of_groups(cases, dict(zip(SPLITS, files.shares, strict=True)), files.seed), Counter(), {}
    kept, left_out, notes = _by_time(cases, files) if files.split_by == "time" else _by_site(cases, data, files)
    held_out = [case for case in kept if case.split == "held_out"]
    if not held_out:
        raise InputError(
            f"Splitting by {files.split_by} leaves no label in held_out; choose other boundaries, shares or sites."
        )
    if data.splits:
        allowed = sum(data.splits[case.provenance["subject"]] != "held_out" for case in held_out)
        notes["held_out: of subjects that the data set itself does not hold out"] = allowed
    return kept, left_out, {note: count for note, count in notes.items() if count}


def kept_apart(cases: Sequence[Case], wanted: Sequence[Split]) -> tuple[list[Case], Counter[str]]:
    """Returns the cases that can be in their wanted split, and counts of the others by reason.

    A subject stays in the latest split it reaches, and in none earlier than its cases came with.
    """
    places = [SPLITS.index(split) for split in wanted]
    reached: dict[str, int] = {}
    for case, place in zip(cases, places, strict=True):
        reached[case.group] = max(place, reached.get(case.group, 0))
    kept, left_out = [], Counter[str]()
    for case, place in zip(cases, places, strict=True):
        if place < SPLITS.index(case.split):
            left_out[RESERVED] += 1
        elif place < reached[case.group]:
            left_out[EARLIER] += 1
        else:
            kept.append(replace(case, split=SPLITS[place]))
    return kept, left_out


def _by_time(cases: Sequence[Case], files: EhrFiles) -> Found:
    days = [date.fromisoformat(case.provenance["as_of"][:10]) for case in cases]
    if max(days) > date.today():
        raise InputError(
            f"Prediction times run to {max(days).year}: these dates are shifted, and time says nothing; split by"
            " subject."
        )
    tuning, held_out = files.boundaries or _quantiles(days, files.shares)
    kept, left_out = kept_apart(
        cases, ["train" if day < tuning else "tuning" if day < held_out else "held_out" for day in days]
    )
    begins = {"tuning": tuning, "held_out": held_out}
    return (
        kept,
        left_out,
        {f"{split}: from {day} on": sum(case.split == split for case in kept) for split, day in begins.items()},
    )


def _quantiles(days: Sequence[date], shares: tuple[float, float, float]) -> tuple[date, date]:
    """Computes the days on which tuning and held_out begin.

    Boundaries are whole days because reports show them; an exact time would belong to a patient.
    """
    refuse_shares(dict(zip(SPLITS, shares, strict=True)))
    ordered = [*sorted(days), date.max]
    return ordered[round(shares[0] * len(days))], ordered[round((shares[0] + shares[1]) * len(days))]


def _by_site(cases: Sequence[Case], data: Meds | Ehrshot, files: EhrFiles) -> Found:
    """Splits by site. Without `tuning_sites`, tuning subjects come from the training sites.

    They are those of the data set's own tuning split, or a seeded share if it has no splits.
    """
    sites = _sites(cases, data, files)
    with_sites = [(case, site) for case, site in zip(cases, sites, strict=True) if site is not None]
    place: dict[str, Split] = dict.fromkeys(map(_site_key, files.tuning_sites), "tuning")
    place |= dict.fromkeys(map(_site_key, files.held_out_sites), "held_out")
    wanted: list[Split] = [place.get(_site_key(site), "train") for _, site in with_sites]
    if not files.tuning_sites:
        wanted = [
            "tuning" if (split, case.split) == ("train", "tuning") else split
            for split, (case, _) in zip(wanted, with_sites, strict=True)
        ]
    kept, left_out = kept_apart([case for case, _ in with_sites], wanted)
    left_out[NO_SITE] = len(cases) - len(with_sites)
    if not files.tuning_sites and not data.splits:
        refuse_shares(dict(zip(SPLITS, files.shares, strict=True)))
        learned = files.shares[0] + files.shares[1]
        share = files.shares[1] / learned if learned > 0 else 0.0
        train = [case for case in kept if case.split == "train"]
        drawn = split_of_groups(train, {"train": 1.0 - share, "tuning": share}, files.seed)
        split = {case.group: case.split for case in drawn}
        kept = [replace(case, split=split.get(case.group, case.split)) for case in kept]
    return kept, left_out, {}


def _site_key(site: str | int) -> str:
    """Returns the key of a site: `7`, `007` and 7 are the same site."""
    try:
        return record_key(str(site))
    except CellError:
        return str(site)


def _sites(cases: Sequence[Case], data: Meds | Ehrshot, files: EhrFiles) -> list[str | None]:
    """Finds each case's site: that of the newest visible event with a site.

    Raises InputError for a site in the recipe that no event has.
    """
    import numpy as np
    import polars as pl

    assert isinstance(data, Meds) and files.site_column is not None  # the recipe was refused otherwise
    subjects = np.array([case.provenance["subject"] for case in cases])
    times = np.array([case.provenance["as_of"] for case in cases], dtype="datetime64[us]").astype(np.int64)
    there: set[str] = set()
    found: list[str | None] = [None] * len(cases)
    for sites, timeline in data.with_sites(files.site_column):
        there |= sites
        here = np.flatnonzero(timeline.has(subjects))
        if len(here):
            # Static events come first, so the last one is the newest.
            events = timeline.visible(subjects[here], times[here], newest=1).events
            newest = events.group_by("request").agg(pl.col("site").last())
            for request, site in newest.select("request", "site").iter_rows():
                found[here[request]] = site
    keys = set(map(_site_key, there))
    unknown = [str(site) for site in (*files.held_out_sites, *files.tuning_sites) if _site_key(site) not in keys]
    if unknown:
        raise InputError(
            f"No event of {data.folder} is of site '{unknown[0]}' in column '{files.site_column}', which has"
            f" {len(there):,} other sites; name one as the events do."
        )
    return found
