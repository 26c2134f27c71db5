"""Indexes the rollouts of a run: one frame of the columns that filters need, newest file first.

Texts and figures stay in their files until a page shows them. A run in progress adds files and a
resumed one replaces some. Each file is identified by name, size and time, and only new ones are
read. A file that disappears between listing and reading is no error; the next call looks again.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import polars as pl

from ehrmind.runs import Run
from ehrmind.runs.folder import ROLLOUTS
from ehrmind.types import InputError

Kinds = Mapping[str, type[pl.DataType]]
WORD = pl.Categorical  # few words that occur many times
NEEDED: Kinds = {
    "step": pl.Int64,
    "arm": WORD,
    "stage": WORD,
    "case": WORD,
    "stratum": WORD,
    "member": pl.Int32,
    "correct": pl.Boolean,
}
WANTED: Kinds = {
    "reason": WORD,
    "well_formed": pl.Boolean,
}
SCHEMA: Kinds = {"file": pl.UInt32, "row": pl.UInt32, **NEEDED, **WANTED}
STORED: Mapping[type[pl.DataType], type[pl.DataType]] = {WORD: pl.String, pl.Int32: pl.Int64}  # in the files
AT_ONCE = 200  # files
SLICE = 0.4  # seconds per call
UNREADABLE = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
Stamp = tuple[int, int]  # size, time of the last change


@dataclass(frozen=True)
class Rollouts:
    """All rollouts at one moment.

    `files` are names by number, `numbers` the reverse. `unread` names files that hold no rollouts,
    `left` counts files that are still to be read.
    """

    run: Run
    frame: pl.DataFrame
    files: Mapping[int, str]
    numbers: Mapping[str, int]
    unread: Sequence[str]
    version: str
    left: int = 0

    def path(self, number: int) -> Path:
        return self.run.rollouts / self.files[number]

    def number_of(self, stage: str, step: int) -> int:
        """The number of a step's file. Raises InputError where there is none (any more)."""
        number = self.numbers.get(f"{stage}-{step:06d}.parquet")
        if number is None:
            raise InputError(
                "There are no rollouts of this stage and step (any more); the filters name those there are."
            )
        return number


class Index:
    """The rollouts of a run as last seen; `rollouts()` brings them up to date."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._lock = Lock()
        self._stamps: dict[str, Stamp] = {}
        self._unread: dict[str, Stamp] = {}
        self._newest = 0  # time of the newest file that was read
        self._next = itertools.count()
        self._boot = secrets.token_hex(4)  # so that no version equals one of another server
        self._seen = Rollouts(run, pl.DataFrame(schema=dict(SCHEMA)), {}, {}, (), self._boot)

    def rollouts(self, whole: bool = False) -> Rollouts:
        """Reads new files for `SLICE` seconds, newest first, or all of them if `whole`."""
        with self._lock:
            until = time.monotonic() + SLICE
            while True:
                there = stamps_of(self.run.rollouts)
                gone = [name for name, stamp in self._stamps.items() if there.get(name) != stamp]
                self._unread = {name: stamp for name, stamp in self._unread.items() if there.get(name) == stamp}
                known = {**self._stamps, **self._unread}
                new = sorted(
                    ((stamp[1], name) for name, stamp in there.items() if known.get(name) != stamp), reverse=True
                )
                left = max(0, len(new) - AT_ONCE)
                if gone or new or left != self._seen.left or tuple(self._unread) != tuple(self._seen.unread):
                    self._seen = self._changed(gone, new[:AT_ONCE], there, left)
                if not left or (time.monotonic() > until and not whole):
                    return self._seen

    def _changed(
        self, gone: Sequence[str], new: Sequence[tuple[int, str]], there: Mapping[str, Stamp], left: int
    ) -> Rollouts:
        """Drops files that are gone; puts newer ones first and older ones last."""
        seen = self._seen
        left_out = {seen.numbers[name] for name in gone}
        kept = seen.frame.filter(~pl.col("file").is_in(list(left_out))) if left_out else seen.frame
        self._stamps = {name: stamp for name, stamp in self._stamps.items() if name not in gone}
        files = {number: name for number, name in seen.files.items() if number not in left_out}
        before, behind = (
            [name for at, name in new if at > self._newest],
            [name for at, name in new if at <= self._newest],
        )
        parts = []
        changed = damaged(self.run, [*before, *behind])
        self._unread |= {name: there[name] for name in changed}
        for names in (before, behind):
            numbered = {name: next(self._next) for name in names if name not in changed}
            added, read, broken = light(self.run.rollouts, numbered)
            self._stamps |= {name: there[name] for name in read}
            self._unread |= {name: there[name] for name in broken}
            files |= {numbered[name]: name for name in read}
            parts.append(added)
        self._newest = max([self._newest, *(at for at, _ in new)])
        frame = pl.concat([parts[0], kept, parts[1]], rechunk=True)
        numbers = {name: number for number, name in files.items()}
        return Rollouts(self.run, frame, files, numbers, tuple(self._unread), f"{self._boot}-{next(self._next)}", left)


def damaged(run: Run, names: Sequence[str]) -> set[str]:
    """The files of rollouts that differ from what the run stored.

    A file that is not listed yet is accepted, and so are all where no manifest can be read.
    """
    try:
        run.manifest.read()
        return {
            name for name in names if any(run.manifest.faults(f"{ROLLOUTS}/{name}")) and (run.rollouts / name).is_file()
        }
    except (InputError, OSError):
        return set()


def stamps_of(folder: Path) -> dict[str, Stamp]:
    """Size and time of every parquet file; empty where the folder is gone.

    Raises InputError where it may not be read.
    """
    found: dict[str, Stamp] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".parquet"):
                    try:
                        stat, is_file = entry.stat(), entry.is_file()
                    except OSError:  # gone meanwhile, or a link to itself
                        continue
                    if not is_file:  # a pipe would never be read
                        continue
                    found[entry.name] = (stat.st_size, stat.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        raise InputError(
            "The rollouts of this run may be read by their owner only, and that is someone else."
        ) from None
    return found


def light(folder: Path, numbered: Mapping[str, int]) -> tuple[pl.DataFrame, list[str], list[str]]:
    """(columns of these files in order, names that were read, names that hold no rollouts)

    Reads all files at once, which takes a third of the time, or one by one where one does not fit.
    """
    try:
        if numbered:
            return _read(folder, numbered), list(numbered), []
    except UNREADABLE:
        pass
    parts, read, broken = [pl.DataFrame(schema=dict(SCHEMA))], list[str](), list[str]()
    for name, number in numbered.items():
        try:
            parts.append(_read(folder, {name: number}))
            read.append(name)
        except UNREADABLE:
            if (folder / name).is_file():
                broken.append(name)
    return pl.concat(parts), read, broken


def _read(folder: Path, numbered: Mapping[str, int]) -> pl.DataFrame:
    """Raises one of UNREADABLE for a file that is gone, is no parquet, or lacks a needed column."""
    files = [folder / name for name in numbered]
    stored = {name: STORED.get(kind, kind) for name, kind in {**NEEDED, **WANTED}.items()}
    scan = pl.scan_parquet(
        files, schema=stored, missing_columns="insert", extra_columns="ignore", include_file_paths="path", glob=False
    )
    read = scan.select(*(pl.col(name).cast(kind) for name, kind in SCHEMA.items() if name in stored), "path").collect()
    if any(read[name].null_count() for name in NEEDED):
        raise pl.exceptions.SchemaError
    numbers = {str(folder / name): number for name, number in numbered.items()}
    runs = read["path"].rle().struct.unnest()  # files in a row; one without rows is none of them
    heights = runs["len"].to_numpy()
    file = np.repeat([numbers[path] for path in runs["value"]], heights)
    row = np.arange(read.height) - np.repeat(np.cumsum(heights) - heights, heights)
    return read.select(pl.Series("file", file, pl.UInt32), pl.Series("row", row, pl.UInt32), *stored)
