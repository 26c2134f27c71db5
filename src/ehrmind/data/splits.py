"""Splits cases by group (patient, note or topic), and checks for leaks at every start of a run."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ehrmind.data.cells import CellError
from ehrmind.data.identity import record_key
from ehrmind.data.same_people import data_set_of, same_data_sets
from ehrmind.labels import label_key
from ehrmind.types import Case, InputError, Split

if TYPE_CHECKING:
    import polars as pl

SPLITS: tuple[Split, ...] = ("train", "tuning", "held_out")

_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("tuning", "validation", "valid", "val", "dev", "development"), "tuning"),
    **dict.fromkeys(("held out", "heldout", "test", "testing"), "held_out"),
}
_NOTE = re.compile("note-[0-9a-f]{16}")
_STRAIGHT = str.maketrans(
    {
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("“”", '"'),
        **dict.fromkeys("–—\u2010", "-"),  # NFKC turns U+2011 into U+2010
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"),
    }
)


def note_group(note: str) -> str:
    """Returns the group of a note. Line ends, curly quotes and case make no difference.

    Releases of a benchmark typeset the same note in different ways.
    """
    folded = unicodedata.normalize("NFKC", note).translate(_STRAIGHT).casefold()
    return "note-" + hashlib.sha256(" ".join(folded.split()).encode()).hexdigest()[:16]


def split_of_word(word: str) -> Split | None:
    """Returns the split that a word means, such as `test` for held_out; None for any other word."""
    return _WORDS.get(label_key(word))


def split_by_group(cases: Sequence[Case], share: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Returns (rest, part): `part` has this share of the groups, rounded, at least one and not all.

    The choice depends on the seed and the groups' names, not on the order of the cases. The cases
    keep their order and their `split` field; the caller changes that.
    """
    groups = {case.group for case in cases}
    if len(groups) < 2:
        raise InputError(
            f"{len(groups)} group(s) of cases cannot be split in two; give more notes, or a file of its own for each"
            " split."
        )
    drawn = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    part = set(drawn[: min(max(round(share * len(groups)), 1), len(groups) - 1)])
    return [case for case in cases if case.group not in part], [case for case in cases if case.group in part]


def split_of_groups(
    cases: Sequence[Case], shares: Mapping[Split, float], seed: int, *, within: Callable[[Case], Any] | None = None
) -> list[Case]:
    """Returns the cases in their order, each with the split of its group.

    Groups are ordered by a hash of seed and group, and fill the splits in the order of `shares`.
    `within` maps a case to a stratum; each stratum is divided by the same shares, so that each has
    groups in train. Raises InputError for shares that are negative or do not sum to 1.
    """
    refuse_shares(shares)
    pools: dict[Any, set[str]] = defaultdict(set)
    for case in cases:
        pools[within(case) if within else None].add(case.group)
    split: dict[str, Split] = {}
    for groups in pools.values():
        drawn = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
        ends, total = [], 0.0
        for name in shares:
            total += shares[name]
            ends.append((name, round(total * len(drawn))))
        for place, group in enumerate(drawn):
            split[group] = next(name for name, end in ends if place < end)
    return [replace(case, split=split[case.group]) for case in cases]


def split_of_subjects(subjects: pl.Series, splits: pl.Series, path: object) -> dict[int, Split]:
    """Returns {subject: split} of a file's two columns.

    Raises InputError naming file and row for an unknown split and for a subject in two splits.
    """
    found: dict[int, Split] = {}
    rows: dict[int, int] = {}
    for row, (subject, said) in enumerate(zip(subjects.to_list(), splits.to_list(), strict=True), start=1):
        split = split_of_word(said or "")
        if split is None:
            raise InputError(f"{path}, row {row}, column 'split': it is not one of {', '.join(SPLITS)}.")
        if found.setdefault(subject, split) != split:
            raise InputError(
                f"{path}, rows {rows[subject]} and {row}: one subject is in two splits; keep one of the rows."
            )
        rows.setdefault(subject, row)
    return found


def refuse_shares(shares: Mapping[Split, float]) -> None:
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError("The shares of train, tuning and held_out must not be negative and must sum to 1.")


def splits_digest(cases: Sequence[Case]) -> str:
    """Computes a sha256 over each case's split and group, independent of their order."""
    rows = sorted([case.split, case.group, case.id] for case in cases)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def check_leaks(*, train: Sequence[Case], tuning: Sequence[Case], held_out: Sequence[Case]) -> None:
    """Raises InputError if a group is in two splits or an id occurs twice.

    The message has counts and ids, no record text.
    """
    splits = {"train": train, "tuning": tuning, "held_out": held_out}
    for (first, ours), (second, theirs) in combinations(splits.items(), 2):
        shared, leaking = _leaking(ours, theirs)
        if shared:
            droppable = (first, second) == ("train", "held_out")
            remedy = "set data.exclude_leaks=true to drop them from train" if droppable else "choose other files"
            which = f"{len(shared)} group(s) of {first} ({len(leaking)} cases, such as {_places(leaking, ours)})"
            raise InputError(f"Leak: {which} are also in {second}; {remedy}.")
    _refuse_repeated_ids(splits)


def _places(ids: Collection[str], cases: Iterable[Case]) -> str:
    """Names the places of at most three of these cases."""
    return ", ".join(
        list(dict.fromkeys(case.place for case in sorted(cases, key=lambda case: case.id) if case.id in ids))[:3]
    )


def without_leaks(train: Sequence[Case], held_out: Sequence[Case]) -> tuple[list[Case], int]:
    """Returns (the train cases whose group is not in held_out, how many were dropped)."""
    leaking = _leaking(train, held_out)[1]
    kept = [case for case in train if case.id not in leaking]
    return kept, len(train) - len(kept)


def _leaking(ours: Sequence[Case], theirs: Sequence[Case]) -> tuple[set[str], set[str]]:
    """Returns (patients and notes that both sides have, ids of `ours` that have one of them).

    If one side is grouped by text and the other by a column, only texts can be compared. Two
    patients may share a text.
    """
    by_text = any(_NOTE.fullmatch(case.group) for case in (*ours, *theirs))
    same = same_data_sets((*ours, *theirs))
    names = {case.id: _names(case, by_text, same) for case in ours}
    known_by_text = {case.group for case in (*ours, *theirs) if _NOTE.fullmatch(case.group)}
    shared = {name for found in names.values() for name in found} & {
        name for case in theirs for name in _names(case, by_text, same)
    }
    shared = {name for name in shared if name in known_by_text or not _NOTE.fullmatch(name)}
    return shared, {case for case, found in names.items() if found & shared}


def _names(case: Case, by_text: bool, same: Mapping[str, str]) -> set[str]:
    """Returns the groups that a case belongs to: its own, and its text's if texts are compared.

    `same` maps each data set of histories to the one that has the same people.
    """
    if case.family == "ehr" and "subject" in case.provenance:
        return {f"{same[data_set_of(case)]}-{case.provenance['subject']}"}
    if case.family != "table" or _NOTE.fullmatch(case.group):
        return {case.group}
    names = {_patient(case)}
    return names | {note_group(case.fields.get("record") or case.fields.get("question", ""))} if by_text else names


def _patient(case: Case) -> str:
    """Returns the group of a table's case.

    An earlier version prefixed it with the table's name, and wrote the patient as the cell did.
    """
    before = f"{case.task}-"
    is_old = "grouped_by" not in case.provenance and case.group.startswith(before)
    if not is_old:
        return case.group
    try:
        return record_key(case.group.removeprefix(before))
    except CellError:
        return case.group


def _refuse_repeated_ids(splits: dict[str, Sequence[Case]]) -> None:
    times = Counter(case.id for cases in splits.values() for case in cases)
    repeated = [name for name, count in times.items() if count > 1]
    if repeated:
        named = _places(repeated, (case for cases in splits.values() for case in cases))
        raise InputError(
            f"{len(repeated)} case id(s) are used more than once, such as {named}; ids must be unique, and tables of"
            " one file name need a `name` of their own."
        )
