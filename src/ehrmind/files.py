"""Writes files that are whole or absent, even after a power loss. Everything permanent is written
here.

A file or folder is written under a hidden sibling name (`.NAME.1f2e3d4c.partial`), flushed to disk
and renamed; then the parent folder is flushed too. The writer holds a lock on the sibling, which a
dead process releases. So the next command can tell leftovers of a killed process from the work of a
living one.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ehrmind import removal
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

_HALF = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(partial|replaced)", re.DOTALL)
_LONGEST = 200  # bytes of a name that its sibling's name keeps; file systems allow 255


@dataclass(frozen=True, slots=True)
class Stored:
    """Digest and size of a file."""

    sha256: str
    bytes: int


def stored(path: Path) -> Stored:
    """Computes the digest of a file on disk. Raises OSError."""
    with path.open("rb") as file:
        return Stored(hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size)


def stored_bytes(content: bytes) -> Stored:
    return Stored(hashlib.sha256(content).hexdigest(), len(content))


def lines_of(text: str) -> list[str]:
    """Splits a text or JSON lines at LF, CR or both. `str.splitlines` also splits at U+2028,
    U+0085, a form feed and more, which are characters of a text, even inside a JSON string."""
    lines = re.split(r"\r\n|\n|\r", text)
    return lines if lines[-1] else lines[:-1]


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    write_bytes(path, json_bytes(value), private=private)


def json_bytes(value: Any) -> bytes:
    """Writes readable JSON. Lone surrogates are escaped and do not end a run."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    write_bytes(path, text.encode(), private=private)


def write_parquet(path: Path, frame: pl.DataFrame, *, private: bool = False) -> None:
    write_bytes(path, parquet_bytes(frame), private=private)


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    with writing(path, private=private) as file:
        file.write(content)


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that may hold record text: readable by its owner only, whole or absent. Makes
    parent folders.

    Raises InputError.
    """
    try:
        make_folder(path.parent)
        write_bytes(path, content, private=True)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InputError(f"{path} could not be written: {why}; what was there before is unchanged.") from None


@contextmanager
def writing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Opens a file to fill. It takes its name when the block ends without error and its content is
    on disk.

    A private file is readable by its owner alone from the first byte on. The old file stays until
    then. Raises OSError.
    """
    clear_leftovers(path.parent, path.name)
    partial, file = _sibling_file(path, 0o600 if private else 0o666)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(partial):
            error.filename = str(path)  # the name that the user gave
        raise
    sync_folder(path.parent)


@contextmanager
def written_whole(folder: Path, *, private: bool = False) -> Iterator[Path]:
    """Opens a folder to fill. It takes its name, and replaces the old folder, when everything in it
    is on disk.

    A private folder and everything in it belong to the owner alone, whatever permissions libraries
    set.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    make_folder(folder.parent, private=private)
    clear_leftovers(folder.parent, folder.name)
    partial, held = held_sibling(folder, 0o700 if private else 0o777)
    try:
        yield partial
        if private:
            take_from_others(partial)
        sync_tree(partial)
        replace_folder(partial, folder)
    except BaseException:
        remove(partial)
        raise
    finally:
        os.close(held)


def replace_folder(made: Path, folder: Path) -> None:
    """Renames a whole folder to its place, after renaming the old one aside.

    If the process is killed in between, `clear_leftovers` puts the old one back.
    """
    aside = _sibling(folder, "replaced")
    # an empty folder is replaced directly
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        folder.rename(aside)
    made.rename(folder)
    sync_folder(folder.parent)
    remove(aside)


def append(path: Path, content: bytes, *, private: bool = False) -> None:
    """Appends to a file and flushes it to disk. If that fails, nothing is added. Raises OSError."""
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600 if private else 0o666)
    try:
        before, rest = os.fstat(descriptor).st_size, memoryview(content)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def make_folder(folder: Path, *, private: bool = False) -> None:
    """Makes a folder and its missing parents, with all their names flushed to disk."""
    if not folder.is_dir():
        make_folder(folder.parent, private=private)
        folder.mkdir(mode=0o700 if private else 0o777, exist_ok=True)
        sync_folder(folder.parent)


def is_leftover(name: str) -> bool:
    """True if a file name (not a path) belongs to something half-written or replaced."""
    return _HALF.fullmatch(name) is not None


def clear_leftovers(folder: Path, name: str | None = None, *, alone: bool = False) -> list[str]:
    """Removes what killed commands left half-written directly in a folder; returns the names.

    `name` limits this to one target. A folder that was renamed aside gets its name back. What a
    living process writes stays. If locks do not work, everything stays, unless we are `alone`.
    """
    cleared = []
    head = None if name is None else _head(name)
    try:
        entries = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    for entry in entries:
        match = _HALF.fullmatch(entry)
        if match is None or head not in (None, match[1]):
            continue
        with _free(folder / entry, alone) as free:
            if free:
                if match[2] == "replaced" and not os.path.lexists(folder / match[1]):
                    (folder / entry).rename(folder / match[1])
                elif remove(folder / entry):
                    continue
                cleared.append(entry)
    return cleared


def file_name(name: str) -> str:
    """Encodes a name given by a user for use in a file name. Different names stay different."""
    return re.sub(r"[^A-Za-z0-9_.-]", lambda odd: "".join(f"%{byte:02x}" for byte in odd[0].encode()), name)


def take_from_others(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)


def sync_tree(folder: Path) -> None:
    """Flushes everything in a folder to disk, and the folder itself."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            sync_folder(path)


def sync_folder(path: Path) -> None:
    """Flushes a folder's list of names (or a file's content) to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _head(name: str) -> str:
    return name.encode("utf-8", "surrogateescape")[:_LONGEST].decode("utf-8", "ignore")


def _sibling(path: Path, end: str) -> Path:
    return path.with_name(f".{_head(path.name)}.{secrets.token_hex(4)}.{end}")


def _sibling_file(path: Path, mode: int) -> tuple[Path, BinaryIO]:
    """Makes a new file next to `path` that this process holds.

    If another process took it for a leftover before it was held, it is made again.
    """
    while True:
        partial = _sibling(path, "partial")
        try:
            file = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
        except OSError as error:
            error.filename = str(path)
            raise
        if _hold(file.fileno()):
            return partial, file
        file.close()


def new_sibling(path: Path, mode: int = 0o700) -> Path:
    """Makes a hidden folder next to `path` that counts as a leftover until it is renamed or
    removed. No other process may clear leftovers there meanwhile."""
    sibling = _sibling(path, "partial")
    sibling.mkdir(mode=mode)
    return sibling


def held_sibling(path: Path, mode: int) -> tuple[Path, int]:
    while True:
        partial = new_sibling(path, mode)
        descriptor = os.open(partial, os.O_RDONLY)
        if _hold(descriptor):
            return partial, descriptor
        os.close(descriptor)


def _hold(descriptor: int) -> bool:
    """Locks a new file or folder; True if it still exists then. Always True on file systems without
    such locks."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return os.fstat(descriptor).st_nlink > 0
    return True


@contextmanager
def _free(leftover: Path, alone: bool) -> Iterator[bool]:
    """Yields True if no living process holds a leftover, and holds it during the block.

    If locks do not work, it is free only if we are `alone`.
    """
    descriptor, free = None, True
    try:
        descriptor = os.open(leftover, os.O_NOFOLLOW | (os.O_RDONLY if leftover.is_dir() else os.O_RDWR))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        free = False
    except OSError:
        free = alone
    try:
        yield free
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove(path: Path) -> list[removal.Left]:
    """Removes something that we made and no longer need. Returns what is left and reports it on
    standard error."""
    left = removal.remove(path)
    removal.say_left(left)
    return left
