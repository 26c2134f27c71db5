"""Comparison of two data sets of coded histories: whether they hold the same people, however their
folders are called.

A group is named after the data set and the subject's number. Two data sets are one if their names
are equal, if their files are, or if the subjects that they share by number were born at the same
time. Copies that were written anew, or in part, have the same births.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import combinations

from ehrmind.types import Case

SAME_BIRTH = 0.03  # years; ages have two digits behind the point
ALIKE = 0.9  # of the shared subjects whose birth both data sets know
YEAR = 365.2425  # days


def names_of_people(cases: Iterable[Case]) -> Mapping[str, str]:
    """{name of a data set, as groups begin with it: the name of the first data set that has the same people}."""
    digests: dict[str, set[str]] = defaultdict(set)
    members: dict[str, dict[int, float | None]] = defaultdict(dict)
    for case in cases:
        if case.family == "ehr" and "subject" in case.provenance:
            name = data_set_of(case)
            digests[name].add(str(case.provenance.get("digest")))
            members[name].setdefault(case.provenance["subject"], _born(case))
    same = {name: name for name in sorted(digests)}
    for first, second in combinations(sorted(digests), 2):
        if digests[first] & digests[second] or _alike(members[first], members[second]):
            old, new = sorted((same[first], same[second]), reverse=True)
            same = {name: new if known == old else known for name, known in same.items()}
    return same


def data_set_of(case: Case) -> str:
    """The beginning of a case's group."""
    return case.group.removesuffix(f"-{case.provenance['subject']}")


def _alike(ours: Mapping[int, float | None], theirs: Mapping[int, float | None]) -> bool:
    births = [(ours[subject], theirs[subject]) for subject in ours.keys() & theirs.keys()]
    known = [abs(one - other) < SAME_BIRTH for one, other in births if one is not None and other is not None]
    return bool(known) and sum(known) >= ALIKE * len(known)


def _born(case: Case) -> float | None:
    """The year of birth with its fraction, as near as the age tells it."""
    age = case.provenance.get("age")
    if age is None:
        return None
    at = datetime.fromisoformat(case.provenance["as_of"])
    return at.toordinal() / YEAR - float(age)
