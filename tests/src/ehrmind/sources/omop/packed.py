"""Files that are packed: members of a zip and files that polars does not unpack get a plain copy; what a library says of a broken file
becomes one sentence."""

from __future__ import annotations

import bz2
import gzip
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ehrmind.types import InputError


@dataclass(frozen=True, slots=True)
class Said:
    """Turns a library's error about a broken file into one sentence without the file's content.
    Raises InputError."""

    name: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import polars as pl

        if isinstance(error, pl.exceptions.NoDataError):
            raise InputError(f"{self.name} is empty; a header at least is wanted.") from None
        if isinstance(error, pl.exceptions.PolarsError | pl.exceptions.PanicException | OSError | EOFError | zlib.error):
            form = next((form for form in ("parquet", "arrow", "feather") if self.name.lower().endswith(form[:5])), None)
            form = form or "CSV in UTF-8, whole and with quotes that close"
            raise InputError(f"{self.name} cannot be read as {form}; write it again.") from None


def unpacked(archive: zipfile.ZipFile, place: str, scratch: Path) -> Path:
    """Unpacks a file, but no more bytes than the archive announces and the disk has room for.
    Raises InputError."""
    size, room = archive.getinfo(place).file_size >> 20, shutil.disk_usage(scratch).free >> 20
    if size > room:
        raise InputError(f"{archive.filename}, {place}: {size:,} MiB when unpacked, {room:,} MiB are free beside the output; make room.")
    path = _fresh(scratch)
    with archive.open(place) as packed, path.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
    return path


def polars_can(path: Path, scratch: Path) -> Path:
    """The file, or a copy of it without a packing that polars does not read."""
    with path.open("rb") as file:
        if file.read(3) != b"BZh":
            return path
    plain = _fresh(scratch)
    with Said(str(path)), bz2.open(path) as packed, plain.open("wb") as copy:
        while block := packed.read(1 << 24):
            if shutil.disk_usage(scratch).free < 1 << 28:
                raise InputError(f"{path}: there is no room beside the output to unpack it; make room.")
            copy.write(block)
    return plain


def _fresh(scratch: Path) -> Path:
    folder = scratch / "unpacked"
    folder.mkdir(exist_ok=True)
    return folder / f"{sum(1 for _ in folder.iterdir()):06}"


def head_of(path: Path) -> bytes:
    """The first megabyte, unpacked."""
    import pyarrow as pa

    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.open(file) as plain:
                return plain.read(1 << 20)
        if magic == b"\x28\xb5\x2f\xfd":
            return bytes(pa.CompressedInputStream(file, "zstd").read(1 << 20))
        return file.read(1 << 20)


def form_of(path: Path, form: str) -> str:
    """Finds a file's form by its first bytes, else by what its name says."""
    with path.open("rb") as file:
        magic = file.read(6)
    return "parquet" if magic.startswith(b"PAR1") else "arrow" if magic == b"ARROW1" else form


def is_cut_off(path: Path, separator: str) -> bool:
    """Tells whether a plain text ends within a row: without a line's end, and with fewer columns
    than its header."""
    start = head_of(path)
    with path.open("rb") as file:
        if file.read(4) != start[:4]:  # what is packed says itself where it ends
            return False
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        last = file.read().rpartition(b"\n")[2]
    mark = separator.encode()
    return bool(last) and b'"' not in last and last.count(mark) < start.partition(b"\n")[0].count(mark)
