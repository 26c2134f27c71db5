"""Tells whether two data sets of coded histories hold the same people, whatever their names.

A group is named after the data set and the subject's number. Two data sets count as one if their
names or files are equal, or if the subjects with the same numbers have the same births. Rewritten
and partial copies keep the births.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import combinations

from ehrmind.types import Case

SAME_BIRTH = 0.03  # years; ages have two decimals
ALIKE = 0.9  # share of equal births, among shared subjects whose birth both data sets know
YEAR = 365.2425  # days


def same_data_sets(cases: Iterable[Case]) -> Mapping[str, str]:
    """Maps each data set's name to the first data set, by name, that has the same people."""
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
    """Returns the data set's name, with which a case's group begins."""
    return case.group.removesuffix(f"-{case.provenance['subject']}")


def _alike(ours: Mapping[int, float | None], theirs: Mapping[int, float | None]) -> bool:
    births = [(ours[subject], theirs[subject]) for subject in ours.keys() & theirs.keys()]
    known = [abs(one - other) < SAME_BIRTH for one, other in births if one is not None and other is not None]
    return bool(known) and sum(known) >= ALIKE * len(known)


def _born(case: Case) -> float | None:
    """Computes the year of birth with its fraction, as precisely as the age allows."""
    age = case.provenance.get("age")
    if age is None:
        return None
    at = datetime.fromisoformat(case.provenance["as_of"])
    return at.toordinal() / YEAR - float(age)
