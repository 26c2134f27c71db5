"""Folders that hold record text: only their owner can open them, and a removal reports everything
that is left."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ehrmind.files import is_leftover
from ehrmind.removal import Left, remove, remove_contents
from ehrmind.runs.lock import WRITER
from ehrmind.runs.records.stage_key import SCORINGS
from ehrmind.types import InputError

FOLDER, FILE, OTHERS = 0o700, 0o600, 0o077
# The files that a run writes under `protected/`. By them the target of a link is recognised as
# ours.
_HALF = r"\.[^/]+\.[0-9a-f]{8}\.(?:partial|replaced)"
_KINDS = {
    "cases": rf"[^/]+\.parquet|{_HALF}",
    "rollouts": rf"[^/]+-[0-9]{{6,}}\.parquet|{_HALF}",
    "checkpoints": rf"[^/]+/(?:step-[0-9]+|{_HALF})/.+",
    "models": rf"(?:base|sft|rlvr|sft_rlvr|{_HALF})/.+",  # a kill may leave unlisted files in these four
    "predictions": rf"[^/]+\.parquet|{_HALF}",
    "teacher": rf"warmup\.jsonl|{_HALF}",
    "endpoints": rf"(?:{'|'.join(SCORINGS)})-[^/]+\.jsonl|{_HALF}",
}
_ALONE = (
    rf"baselines\.json|contamination\.json|review\.csv|review\.json|report-with-text\.html|{re.escape(WRITER)}|{_HALF}"
)
_OURS = re.compile("|".join([_ALONE, *(f"{kind}/(?:{form})" for kind, form in _KINDS.items())]))
_OURS_OF = {kind: re.compile(form) for kind, form in _KINDS.items()}
LISTED = (
    "cases/",
    "predictions/",
)  # other files may have such names too: only those that the manifest lists are ours


def keep_private(folder: Path) -> None:
    """Makes a private folder for record text. If the folder exists, others lose their permissions
    in it (it may have been unpacked or copied), with a message. Raises InputError if that fails,
    because the folder belongs to another user or is a broken link."""
    with suppress(FileExistsError):
        folder.mkdir(mode=FOLDER)
    if folder.is_symlink() and not folder.exists():
        raise InputError(
            f"{folder} links to {folder.readlink()}, which is not there; mount that disk, or make that folder."
        )
    mended, still = 0, 0
    for path, found in _entries(folder):
        mode = stat.S_IMODE(found.st_mode)
        if not mode & OTHERS:
            continue
        try:
            path.chmod(mode & (FOLDER if stat.S_ISDIR(found.st_mode) else FILE))
        except PermissionError:
            if found.st_uid != os.geteuid():
                raise InputError(
                    f"{path} belongs to another user and is open to others (mode {mode:04o}), so no record text is"
                    " written there; copy the folder, so that it is yours."
                ) from None
        if stat.S_IMODE(path.stat().st_mode) & OTHERS:
            still += 1
        else:
            mended += 1
    if mended:
        sys.stderr.write(
            f"{folder} holds record text and was open to others ({mended:,} files and folders); it is its owner's alone"
            " now\n"
        )
    if still:
        sys.stderr.write(
            f"{folder} holds record text and stays open to others ({still:,} files and folders): its file system keeps"
            " no modes, so say by its mount's options who may read there\n"
        )


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields the folder, its parts even if they are links, and everything in them except links,
    each with its state. Skips files that disappear meanwhile."""
    for start in (folder, *(part for part in map(folder.joinpath, _KINDS) if part.is_symlink() and part.is_dir())):
        yield start, start.stat()
        for place, folders, files in os.walk(start):
            for name in (*folders, *files):
                path = Path(place, name)
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue
                if not stat.S_ISLNK(found.st_mode):
                    yield path, found


def entered(path: Path) -> bool:
    """Tells whether a path is a folder of the run: a folder inside it, or a link of `protected/` or
    of a part of that to another disk."""
    part = path.name == "protected" or (path.parent.name == "protected" and path.name in _KINDS)
    return path.is_dir() and (part or not path.is_symlink())


def clear(protected: Path, listed: frozenset[str] | None = None) -> list[Left]:
    """Removes a `protected/` with everything in it, and returns what is left.

    The target of a link is emptied too if it holds only such files; the link stays, to an empty
    folder. `listed` has the names that the run's manifest lists there, if it has a whole one."""
    if protected.is_symlink():
        return _clear_linked(protected, _OURS, "", listed) or _clear(protected, listed)
    return _clear(protected, listed) or ([] if _is_mount(protected) else remove(protected))


def linked(protected: Path) -> list[Path]:
    """Returns the places that `protected/` and its folders link to."""
    parts = sorted(protected.iterdir()) if protected.is_dir() else []
    return [path.resolve() for path in (protected, *parts) if path.is_symlink() and path.is_dir()]


def _clear(folder: Path, listed: frozenset[str] | None) -> list[Left]:
    left: list[Left] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_symlink():
            left += _clear_linked(path, _OURS_OF.get(path.name), f"{path.name}/", listed) or _emptied(path)
        else:
            left += _kept_links(path) or remove(path)
    return left


def _clear_linked(link: Path, ours: re.Pattern[str] | None, part: str, listed: frozenset[str] | None) -> list[Left]:
    """Returns what keeps a link's content from being removed as this `part` of the run."""
    if not link.exists():
        return [(link, f"it links to {link.readlink()}, which is not there: mount that disk, or remove the link")]
    target = link.resolve()
    if target.is_file() and ours is None:
        return [(link, f"it links to {target}, which may not be of this run: remove both")]
    for path in target.rglob("*"):
        name = path.relative_to(target).as_posix()
        if path.is_symlink() or (not path.is_dir() and not _is_ours(name, ours, part, listed)):
            return [
                (link, f"it links to {target}, where {name} is not known to be of this run: remove by hand what is")
            ]
    return []


def _is_ours(name: str, ours: re.Pattern[str] | None, part: str, listed: frozenset[str] | None) -> bool:
    if ours is None or not ours.fullmatch(name):
        return False
    named = part + name
    return listed is None or named in listed or not named.startswith(LISTED) or any(map(is_leftover, name.split("/")))


def _emptied(link: Path) -> list[Left]:
    return remove_contents(link.resolve()) or remove(link)


def _kept_links(folder: Path) -> list[Left]:
    """Returns links deeper down that lead to something: removing a link would leave its target
    behind unnoticed."""
    found = (path for path in folder.rglob("*") if path.is_symlink() and path.exists())
    return [(path, f"it links to {path.resolve()}, which may not be of this run: remove both") for path in found]


def _is_mount(folder: Path) -> bool:
    """Tells whether a disk is mounted there, such as an encrypted one. Its folder stays, empty."""
    return os.path.ismount(folder)
