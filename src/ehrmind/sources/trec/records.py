"""Trial records from files, folders and archives. Only those whose NCT number is wanted are kept: a registry snapshot holds hundreds of
thousands of others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ehrmind.sources.cases import FileRead
from ehrmind.sources.each import each
from ehrmind.sources.files import sha256_of
from ehrmind.sources.trec.formats import Trial, from_files, reader_of
from ehrmind.types import InputError

FILES_AT_ONCE = 2000  # of a folder, in one task


@dataclass(frozen=True, slots=True)
class Records:
    """Trials by NCT number; `repeated` counts records of a trial that an earlier file or row had already given."""

    by_id: dict[str, Trial]
    files: tuple[FileRead, ...]
    repeated: int


def read_records(paths: Sequence[Path], wanted: Collection[str]) -> Records:
    """The records among `wanted`; of a trial given twice, the first. Raises InputError naming file and row or record."""
    trials: dict[str, Trial] = {}
    rows = [0] * len(paths)
    repeated = 0
    parts = [part for place, path in enumerate(paths) for part in _parts(place, path)]
    for part, (count, found) in zip(parts, each(partial(_wanted_in, wanted), parts), strict=True):
        rows[part.place] += count
        for trial in found:
            repeated += trials.setdefault(trial.id, trial) is not trial
    if 0 in rows:
        raise InputError(f"{paths[rows.index(0)]} holds no trial record.")
    files = [FileRead(path.name, digest, count) for path, digest, count in zip(paths, each(_digest, paths), rows, strict=True)]
    return Records(trials, tuple(files), repeated)


class _Part(NamedTuple):
    """A file, or some of a folder's, and the place of either among the paths."""

    place: int
    path: Path
    files: tuple[Path, ...] = ()


def _parts(place: int, path: Path) -> list[_Part]:
    """A file is read in one task (a zip archive too, whose directory is at its end), a folder's files some at a time."""
    if not path.is_dir():
        return [_Part(place, path)]
    files = sorted(path.rglob("*.xml"))
    return [_Part(place, path, tuple(files[start : start + FILES_AT_ONCE])) for start in range(0, len(files), FILES_AT_ONCE)]


def _wanted_in(wanted: Collection[str], part: _Part) -> tuple[int, list[Trial]]:
    """(how many records there are, those that are wanted)"""
    read = from_files(part.files, wanted) if part.files else reader_of(part.path)(part.path, wanted)
    count, found = 0, []
    for trial in read:
        count += 1
        if trial is not None and trial.id in wanted:
            found.append(trial)
    return count, found


def _digest(path: Path) -> str:
    """sha256 of a file; of a folder, over its XML files' names and sizes (a snapshot's bytes take minutes)."""
    import hashlib

    if path.is_dir():
        listing = "\n".join(f"{file.relative_to(path)} {file.stat().st_size}" for file in sorted(path.rglob("*.xml")))
        return hashlib.sha256(listing.encode()).hexdigest()
    return sha256_of(path)
