"""Verifying a whole folder: every file in its manifest, every line of its append-only files, and
files that are not listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ehrmind.files import is_leftover
from ehrmind.runs.contents import Fault
from ehrmind.runs.lines import lines_in
from ehrmind.runs.lock import LOCK, WRITER
from ehrmind.runs.manifest import NAME, Manifest
from ehrmind.runs.protected import entered
from ehrmind.types import InputError

EDITED = ("protected/review.csv",)  # files that users edit
LOCKS = (LOCK, WRITER, f"protected/{WRITER}")


def verify(folder: Path, told: Callable[[str, int], None] | None = None) -> Iterator[Fault]:
    """Yields every fault of a folder with a manifest, and of the runs of its seeds. `told` is
    called with each name and size before the file is read. Raises InputError if there is no
    manifest, or a damaged one."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; `ehrmind runs list FOLDER` shows the runs there are.")
    manifest = Manifest(folder)
    listed = set(manifest.names())
    yield from manifest.faults(told=told)
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name in listed:
            continue
        if name.endswith(".jsonl"):
            yield from (
                Fault(f"{name}, line {line.number}", "torn" if line.is_torn else "damaged")
                for line in lines_in(path)
                if line.row is None
            )
        elif any(is_leftover(part) for part in name.split("/")):
            yield Fault(name, "half-written")
        elif name not in (NAME, *EDITED, *LOCKS):
            yield Fault(name, "unknown")
    for seed in sorted(folder.glob("seeds/*")):
        yield from (Fault(f"seeds/{seed.name}/{fault.name}", fault.what) for fault in verify(seed, told))


def _files(folder: Path) -> list[Path]:
    """Lists all files, on any disk, except those of seeds, which are runs of their own."""
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            if path == folder / "seeds":
                continue
            (waiting if entered(path) else found).append(path)
    return sorted(found)
