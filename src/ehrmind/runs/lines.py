"""Append-only files of JSON objects, one per line. Each line has a digest, so damage by a crash or
a disk is found.

    {"stage": "warmup", "step": 0, "loss": 2.1, "digest": "0123456789abcdef"}

An append is flushed to the disk before it returns. A kill leaves at most a torn last line: readers
skip it, and the next append cuts it off. Any other line that is not as it was written is damaged,
and reported by its number."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrmind.files import append, write_bytes
from ehrmind.types import InputError

Row = dict[str, Any]
_END = re.compile(rb', "digest": "([0-9a-f]{16})"\}')


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file. `row` is None if the line is damaged; `whole` is False for a last line
    without an end."""

    number: int
    text: bytes
    row: Row | None
    whole: bool = True

    @property
    def is_torn(self) -> bool:
        return not self.whole and self.row is None


def line_of(row: Mapping[str, Any]) -> bytes:
    """Writes an object as a line, its digest last. The object must not be empty."""
    body = json.dumps(dict(row), ensure_ascii=False).encode("utf-8", "backslashreplace")[:-1]
    return body + f', "digest": "{_digest(body)}"}}\n'.encode()


def lines_in(path: Path) -> Iterator[Line]:
    """Yields every line of a file; none if there is no file."""
    if not path.is_file():
        return
    for number, text in enumerate(_split(path.read_bytes()), start=1):
        whole = text.endswith(b"\n")
        yield Line(number, text, _row(text.removesuffix(b"\n")), whole)


def read_lines(path: Path) -> list[Row]:
    """Reads the objects of a file, without their digests. Skips a torn last line. Raises InputError
    for a damaged line."""
    found = []
    for line in lines_in(path):
        if line.row is not None:
            found.append(line.row)
        elif not line.is_torn:
            raise InputError(damaged(path, line.number))
    return found


def damaged(path: Path, number: int) -> str:
    return (
        f"{path}, line {number}: damaged, its digest is not that of what stands there; restore the file from a copy, or"
        " remove the line if its figures may be missing."
    )


def append_line(path: Path, row: Mapping[str, Any], *, private: bool = False) -> None:
    """Adds a line and flushes it to the disk. A torn last line is cut off first, with a message."""
    mend(path)
    append(path, line_of(row), private=private)


def mend(path: Path) -> None:
    """Cuts off a torn last line with a message on standard error, or adds the missing end of a
    whole one."""
    if not path.is_file() or _ends_well(path):
        return
    *_, last = lines_in(path)
    if last.is_torn:
        os.truncate(path, path.stat().st_size - len(last.text))
        sys.stderr.write(f"{path}, line {last.number}: torn by a crash or a full disk; it is cut off\n")
    else:
        append(path, b"\n")


def keep_lines(path: Path, wanted: Callable[[Row], bool], *, private: bool = False) -> None:
    """Keeps only the lines whose object is wanted, and drops a torn last line. The file is replaced
    as a whole. Raises InputError for a damaged line."""
    if path.is_file():
        mend(path)
        read_lines(path)
        kept = [line.text for line in lines_in(path) if line.row is not None and wanted(line.row)]
        if len(kept) < sum(1 for _ in lines_in(path)):
            write_bytes(path, b"".join(kept), private=private)


def _split(content: bytes) -> list[bytes]:
    """Splits at line feeds only: JSON escapes all other line ends, and damaged bytes must not look
    like more lines."""
    parts = content.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _row(text: bytes) -> Row | None:
    end = _END.fullmatch(text, max(0, len(text) - 31))
    body = text[: max(0, len(text) - 31)]
    if end is None or end[1].decode() != _digest(body):
        return None
    try:
        row: Row = json.loads(body + b"}")
    except (ValueError, RecursionError):
        return None
    return row


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
