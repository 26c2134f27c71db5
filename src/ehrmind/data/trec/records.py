"""Reads trial records from files, folders and archives, and keeps those with a wanted NCT number.

A registry snapshot holds hundreds of thousands of others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ehrmind.data.cases import FileRead
from ehrmind.data.files import sha256_of
from ehrmind.data.map_files import each
from ehrmind.data.trec.archives import files_of, from_file, from_files
from ehrmind.data.trec.formats import NoRecord, Trial
from ehrmind.types import InputError

FILES_AT_ONCE = 2000  # of a folder, in one task
_SHOWN = 3  # names of files that were not read


@dataclass(frozen=True, slots=True)
class Records:
    """Trials by NCT number. `repeated` counts records of trials that were read before.

    `notes` counts remarks about the files for the user.
    """

    by_id: dict[str, Trial]
    files: tuple[FileRead, ...]
    repeated: int
    notes: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, number: str) -> Trial | None:
        """Returns the record of a trial, also by a former number."""
        return self.by_id.get(number) or self.by_id.get(self.aliases.get(number, ""))


def read_records(paths: Sequence[Path], wanted: Collection[str]) -> Records:
    """Reads the records of `wanted` trials; the first record of a trial counts.

    Raises InputError naming file and row or record.
    """
    trials: dict[str, Trial] = {}
    aliases: dict[str, str] = {}
    no_records: list[NoRecord] = []
    rows = [0] * len(paths)
    repeated, differing = 0, list[str]()
    parts = [part for place, path in enumerate(paths) for part in _parts(place, path)]
    for part, (count, found, others) in zip(parts, each(partial(_wanted_in, wanted), parts), strict=True):
        rows[part.place] += count
        no_records += others
        for trial in found:
            first = trials.setdefault(trial.id, trial)
            repeated += first is not trial
            differing += [trial.id] * (first != trial)
            aliases |= {alias: trial.id for alias in trial.aliases if alias in wanted}
    notes = _notes(no_records, repeated, differing)
    if 0 in rows:
        unread = next((f"; {note}" for note in notes if note.startswith("files")), "")
        raise InputError(f"{paths[rows.index(0)]} holds no trial record{unread}.")
    files = [
        FileRead(path.name, digest, count)
        for path, digest, count in zip(paths, each(_digest, paths), rows, strict=True)
    ]
    return Records(trials, tuple(files), repeated, notes, aliases)


def _notes(no_records: Sequence[NoRecord], repeated: int, differing: Sequence[str]) -> dict[str, int]:
    unread = [found.name for found in no_records if found.what == "unread"]
    pages = [found.name for found in no_records if found.what == "page with a next one"]
    more = ", …" if len(set(unread)) > _SHOWN else ""
    notes = {"trial records given twice, the first one kept": repeated}
    if differing:
        notes[f"of them with other content, such as {differing[0]}"] = len(differing)
    if unread:
        notes[f"files next to the records that were not read: {', '.join(sorted(set(unread))[:_SHOWN])}{more}"] = len(
            unread
        )
    if pages and not any(found.what == "last page" for found in no_records):
        notes[
            "pages that say more follow (nextPageToken), and the last page is not among the files: the download is"
            " incomplete"
        ] = len(pages)
    return {note: count for note, count in notes.items() if count}


class _Part(NamedTuple):
    """File, or some files of a folder. `place` is the index of the file or folder in the paths."""

    place: int
    path: Path
    files: tuple[Path, ...] = ()


def _parts(place: int, path: Path) -> list[_Part]:
    """Divides a path into tasks: a file is one task, a folder's files are several.

    A zip archive is one task too, because its directory is at its end.
    """
    if not path.is_dir():
        return [_Part(place, path)]
    files = files_of(path)
    return [
        _Part(place, path, tuple(files[start : start + FILES_AT_ONCE])) for start in range(0, len(files), FILES_AT_ONCE)
    ]


def _wanted_in(wanted: Collection[str], part: _Part) -> tuple[int, list[Trial], list[NoRecord]]:
    """Returns (number of records, wanted records, results that are no records)."""
    read = from_files(part.files, wanted) if part.files else from_file(part.path, wanted)
    count, found, no_records = 0, list[Trial](), list[NoRecord]()
    for item in read:
        if isinstance(item, NoRecord):
            no_records.append(item)
            continue
        count += 1
        if item is not None and (item.id in wanted or any(alias in wanted for alias in item.aliases)):
            found.append(item)
    return count, found, no_records


def _digest(path: Path) -> str:
    """Computes the sha256 of a file; for a folder, of its files' names and sizes.

    Hashing the bytes of a snapshot would take minutes.
    """
    import hashlib

    if path.is_dir():
        listing = "\n".join(f"{file.relative_to(path)} {file.stat().st_size}" for file in files_of(path))
        return hashlib.sha256(listing.encode()).hexdigest()
    return sha256_of(path)
