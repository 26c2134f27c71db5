"""Unpacks members of a zip, and compressed files that polars cannot read, into plain copies.

An error that a library raises for a broken file becomes one sentence.
"""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ehrmind.data.bounds import LONGEST_LINE, is_packed, unpacked_blocks
from ehrmind.system import is_full, unread
from ehrmind.types import InputError

HEAD = 1 << 20  # bytes that are inspected before a file is read


@dataclass(frozen=True, slots=True)
class LibraryErrors:
    """Turns a library's error about a broken file into an InputError without the file's content."""

    name: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import polars as pl

        if isinstance(error, pl.exceptions.NoDataError):
            raise InputError(f"{self.name} is empty; a header at least is wanted.") from None
        if isinstance(
            error, pl.exceptions.PolarsError | pl.exceptions.PanicException | OSError | EOFError | zlib.error
        ):
            form = next(
                (form for form in ("parquet", "arrow", "feather") if self.name.lower().endswith(form[:5])), None
            )
            form = form or "CSV in UTF-8, whole and with quotes that close"
            if is_full(error):
                raise error  # the copy had no room
            raise unread(error, self.name, f"{self.name} cannot be read as {form}; write it again.") from None


def unpacked(archive: zipfile.ZipFile, place: str, scratch: Path) -> Path:
    """Unpacks a member, at most its declared size. Raises InputError if the disk has no room."""
    member = archive.getinfo(place)
    size, room = member.file_size >> 20, shutil.disk_usage(scratch).free >> 20
    if size > room:
        raise InputError(
            f"{archive.filename}, {place}: {size:,} MiB when unpacked, {room:,} MiB are free next to the output; make"
            " room."
        )
    path = _fresh(scratch)
    with archive.open(place) as packed, path.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
    return path


def plain_copy(path: Path, scratch: Path) -> Path:
    """Returns the file, or a plain copy if it is compressed.

    Polars cannot read bzip2, and reads gzip and zstd whole into memory.
    """
    with path.open("rb") as file:
        if not is_packed(file.read(4)):
            return path
    plain, line = _fresh(scratch), 0
    with path.open("rb") as packed, plain.open("wb") as copy:
        for block in unpacked_blocks(packed, path.stat().st_size, str(path)):
            if shutil.disk_usage(scratch).free < 1 << 28:
                raise InputError(f"{path}: there is no room next to the output to unpack it; make room.")
            line = len(block) - block.rfind(b"\n") - 1 if b"\n" in block else line + len(block)
            if line > LONGEST_LINE:
                raise InputError(
                    f"{path} has a line of more than {LONGEST_LINE >> 20} MiB, which no table has; write it again."
                )
            copy.write(block)
    return plain


def _fresh(scratch: Path) -> Path:
    folder = scratch / "unpacked"
    folder.mkdir(exist_ok=True)
    return folder / f"{sum(1 for _ in folder.iterdir()):06}"


def head_of(path: Path) -> bytes:
    """Reads the first megabyte, decompressed."""
    import pyarrow as pa

    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.open(file) as plain:
                return plain.read(HEAD)
        if magic == b"\x28\xb5\x2f\xfd":
            return bytes(pa.CompressedInputStream(file, "zstd").read(HEAD))
        return file.read(HEAD)


def form_of(path: Path, form: str) -> str:
    """Returns a file's format by its first bytes, otherwise `form`, the format by its name."""
    with path.open("rb") as file:
        magic = file.read(6)
    return "parquet" if magic.startswith(b"PAR1") else "arrow" if magic == b"ARROW1" else form


def is_cut_off(path: Path, separator: str) -> bool:
    """Tells whether a plain text ends within a row: without a line end and with too few columns."""
    start = head_of(path)
    with path.open("rb") as file:
        if file.read(4) != start[:4]:  # compressed formats detect truncation themselves
            return False
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        last = file.read().rpartition(b"\n")[2]
    mark = separator.encode()
    return bool(last) and b'"' not in last and last.count(mark) < start.partition(b"\n")[0].count(mark)
