"""Compares finished runs: every arm on every set of cases that one of the runs was scored on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ehrmind.report.reading import Figures, read_run
from ehrmind.runs import Run
from ehrmind.runs.records import Accuracy, HeldOutSet, Interval95, PairResult, Record
from ehrmind.types import InputError

HELD_OUT = "held_out"


class Gain(Record):
    """The difference of an arm from the run's own base on the same cases."""

    difference: float
    ci95: Interval95
    p: float


class Scored(Record):
    """An arm on a set of cases; `gain` is there for trained arms whose base was scored too."""

    n: int
    accuracy: float
    ci95: Interval95
    gain: Gain | None = None


class CaseSet(Record):
    """A set of cases, identified by the digest of their ids."""

    n: int
    families: tuple[str, ...]
    digest: str
    name: str


class MatrixRow(Record):
    """An arm of a run, with its figures by digest of the cases.

    `own` is the digest of the run's own held-out cases; the other sets are transfer sets.
    """

    run: str
    folder: str
    arm: str
    own: str
    cells: Mapping[str, Scored]


class Matrix(Record):
    """Arms and sets of cases; `unread` says why other folders could not be read."""

    decoding: str
    tests: tuple[CaseSet, ...]
    rows: tuple[MatrixRow, ...]
    unread: tuple[str, ...]


@dataclass
class _Found:
    """A set of cases with the name that a recipe gives it as a transfer set, or else its run."""

    cases: HeldOutSet
    transfer_name: str = ""
    own_name: str = ""


def matrix(folders: Sequence[Path]) -> Matrix:
    """Raises InputError where no folder is a finished run."""
    sets: dict[str, _Found] = {}
    rows: list[MatrixRow] = []
    runs, unread = _read(folders)
    for folder, figures in runs:
        name, results = figures.recipe.name, figures.results
        scored = {HELD_OUT: (results.arms, results.pairs)}
        scored |= {place: (found.arms, found.pairs) for place, found in results.transfer.items()}
        for place in scored:
            found = sets.setdefault(results.test_sets[place].digest, _Found(results.test_sets[place]))
            if place == HELD_OUT:
                found.own_name = found.own_name or f"{name}: held-out"
            else:
                found.transfer_name = found.transfer_name or place
        for arm in results.arms:
            cells = {
                results.test_sets[place].digest: _scored(arms[arm], pairs.get(f"{arm}-base"))
                for place, (arms, pairs) in scored.items()
                if arm in arms
            }
            own = results.test_sets[HELD_OUT].digest
            rows.append(MatrixRow(run=name, folder=folder.name, arm=arm, own=own, cells=cells))
    tests = tuple(
        CaseSet(n=found.cases.n, families=found.cases.families, digest=digest, name=name)
        for (digest, found), name in zip(sets.items(), _names(list(sets.values())), strict=True)
    )
    return Matrix(decoding="each run's first", tests=tests, rows=tuple(rows), unread=tuple(unread))


def _scored(found: Accuracy, pair: PairResult | None) -> Scored:
    if pair is None:
        return Scored(n=found.n, accuracy=found.accuracy, ci95=found.ci95)
    gain = Gain(difference=pair.difference, ci95=pair.ci95, p=pair.p)
    return Scored(n=found.n, accuracy=found.accuracy, ci95=found.ci95, gain=gain)


def _read(folders: Sequence[Path]) -> tuple[list[tuple[Path, Figures]], list[str]]:
    """The runs that can be read, and why the others cannot. Raises InputError where none can."""
    runs, unread = [], []
    for folder in folders:
        try:
            figures = read_run(Run(folder))
            if not figures.results.arms or HELD_OUT not in figures.results.test_sets:
                raise InputError(f"{folder / 'results.json'} compares no arms; run its recipe again into a new folder.")
        except InputError as error:
            unread.append(str(error))
            if len(unread) == len(folders):
                raise
        else:
            runs.append((folder, figures))
    return runs, unread


def _names(sets: Sequence[_Found]) -> list[str]:
    """Names a set as a recipe names its transfer set, or else after the run that holds it out.

    Two sets of one name get the beginning of their digests.
    """
    times = Counter(found.transfer_name for found in sets)
    names = [
        found.own_name
        if not found.transfer_name or (times[found.transfer_name] > 1 and found.own_name)
        else found.transfer_name
        for found in sets
    ]
    return [
        f"{name} ({found.cases.digest[:6]})" if names.count(name) > 1 else name
        for name, found in zip(names, sets, strict=True)
    ]
