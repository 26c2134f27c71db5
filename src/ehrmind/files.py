"""Files that are whole or absent: everything is written beside its place and renamed, so a crash leaves no half of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ehrmind.types import InputError


def lines_of(text: str) -> list[str]:
    """The lines of a text or of JSON lines, without their ends: LF, CR or both.

    `str.splitlines` also ends a line at U+2028, U+0085, a form feed and more, which are characters of a text, also inside a JSON string.
    """
    lines = re.split(r"\r\n|\n|\r", text)
    return lines if lines[-1] else lines[:-1]


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_private(path: Path, content: bytes) -> None:
    """A file that may hold record text: readable by its owner only, whole or not there. Raises InputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, sibling = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(sibling).replace(path)
        except BaseException:
            Path(sibling).unlink()
            raise
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InputError(f"{path} could not be written: {why}; what was there before is unchanged.") from None


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill; it takes its name only when everything in it is on the disk. What stood there before is replaced."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                _sync(path)
        _sync(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def free_if_refused(folder: Path, holds_work: Callable[[Path], bool], errors: type[BaseException] = Exception) -> Iterator[None]:
    """Frees the folder if the block ends by an error, so that the corrected command finds no folder
    in its way. The folder must have been new or empty before, and hold no work now."""
    was_there = folder.exists()
    was_used = was_there and (not folder.is_dir() or any(folder.iterdir()))
    try:
        yield
    except errors:
        if not was_used and folder.is_dir() and not holds_work(folder):
            empty(folder)
            if not was_there:
                folder.rmdir()
        raise


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def file_name(name: str) -> str:
    """A name that comes from a person as part of a file's; no two names share one."""
    return re.sub(r"[^A-Za-z0-9_.-]", lambda odd: "".join(f"%{byte:02x}" for byte in odd[0].encode()), name)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_json(path: Path) -> bool:
    """Whether a whole JSON file is there: one that something else has torn can be made again."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def is_leftover(name: str) -> bool:  # STUB
    return re.fullmatch(r"\.(.+)\.(partial|replaced)", name) is not None


def clear_leftovers(folder: Path, name: str | None = None, *, alone: bool = False) -> list[str]:  # STUB
    return []
