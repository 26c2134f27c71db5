"""Limits how much a compressed file may expand; checked before or during decompression.

Compression shrinks records to about a tenth, seldom to a fiftieth. A file that shrank to a
thousandth repeats one thing and would fill the memory. Large files of real data are not limited
here.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.parquet as pq

FREE = 64 << 20  # bytes that any file may unpack to
MOST_GROWTH = 200  # beyond `FREE`, a file may unpack to this many times its size
FREE_VALUES = 2_000_000  # values that any parquet file may announce
MOST_VALUES = 4  # beyond `FREE_VALUES`, a parquet file may announce this many values per byte
MOST_PIECES = 1_000_000  # row groups times columns of a parquet file
LONGEST_LINE = 64 << 20  # bytes in a row of a text table; a field has at most 200,000 characters
ROWS_AT_ONCE = 1024  # rows per batch; their texts may be long
_BLOCK = 4 << 20
# Exceptions that the libraries raise for broken streams. MemoryError is handled elsewhere.
BROKEN = (OSError, EOFError, zlib.error, ValueError)


def refuse_growth(packed: int, unpacked: int, name: str) -> None:
    """Raises InputError if `unpacked` bytes are too many for `packed` bytes."""
    if unpacked > FREE and unpacked > packed * MOST_GROWTH:
        raise InputError(
            f"{name} grows to {MOST_GROWTH} times its size and more when it is unpacked ({packed:,} bytes to"
            f" {unpacked >> 20:,} MiB or more), which no records do; unpack it yourself if that is meant."
        )


def refuse_grown_zip(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises InputError if a member, or all members together, would expand too much.

    Members may overlap in the archive, so the total is checked too. No member can be read beyond
    its declared size.
    """
    for member in archive.infolist():
        refuse_growth(
            min(member.compress_size, path.stat().st_size),
            member.file_size,
            f"{path}, {PurePosixPath(member.filename).name}",
        )
    refuse_growth(path.stat().st_size, sum(member.file_size for member in archive.infolist()), str(path))


def unpacked_blocks(file: IO[bytes], packed: int, name: str) -> Iterator[bytes]:
    """Decompresses a gzip, bzip2 or zstd stream of `packed` bytes, block by block.

    Raises InputError if the stream expands too much or is broken.
    """
    done = 0
    try:
        stream = _opened(file)
        while block := stream.read(_BLOCK):
            done += len(block)
            refuse_growth(packed, done, name)
            yield bytes(block)
    except InputError:
        raise
    except BROKEN:
        raise InputError(
            f"{name} cannot be read as a whole gzip, bzip2 or zstd file; it may be cut short, or not packed at all, so"
            " fetch it again."
        ) from None


def unpacked_bytes(raw: bytes, name: str, most: int) -> bytes:
    """Decompresses a file's content. Raises InputError beyond `most` bytes."""
    blocks, total = [], 0
    for block in unpacked_blocks(io.BytesIO(raw), len(raw), name):
        blocks.append(block)
        total += len(block)
        if total > most:
            raise InputError(f"{name} is larger than {most >> 20} MiB once decompressed; split it into smaller files.")
    return b"".join(blocks)


def is_packed(start: bytes) -> bool:
    """Tells whether a file begins as gzip, zstd or bzip2."""
    return start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh"))


def _opened(file: IO[bytes]) -> Any:
    start = file.read(4)
    file.seek(0)
    if start.startswith(b"BZh"):
        return bz2.open(file)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        return pa.CompressedInputStream(file, "zstd")
    return gzip.GzipFile(fileobj=file)


NO_PARQUET = "is not a parquet file, or a broken one; fetch or write it again"


def parquet_file(source: Path | bytes, name: str, *, broken: str = NO_PARQUET, **options: Any) -> pq.ParquetFile:
    """Opens a parquet file.

    Raises InputError if it is no parquet, or if its footer announces more values than its bytes can
    hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source, **options)
        about, size = file.metadata, len(source) if isinstance(source, bytes) else source.stat().st_size
        if about.num_row_groups * about.num_columns > MOST_PIECES:
            raise InputError(
                f"{name} has {about.num_row_groups:,} row groups of {about.num_columns:,} columns; write it in fewer."
            )
        values = unpacked = 0
        for number in range(about.num_row_groups):
            group = about.row_group(number)
            unpacked += group.total_byte_size
            values += max([group.num_rows, *(group.column(column).num_values for column in range(about.num_columns))])
    except InputError:
        raise
    except (pa.ArrowException, *BROKEN):
        raise InputError(f"{name} {broken}.") from None
    if values > FREE_VALUES and values > size * MOST_VALUES:
        raise InputError(
            f"{name} announces {values:,} rows or list items in {size:,} bytes, which no records do; write it again"
            " without."
        )
    refuse_growth(size, unpacked, name)
    return file


def text_batches(source: Path | bytes, name: str) -> Iterator[pl.DataFrame]:
    """Yields the rows of a parquet file of texts in batches, beginning with an empty frame.

    Texts are read as dictionaries, so a repeated one is kept in memory once. Raises InputError.
    """
    import polars as pl
    import pyarrow as pa

    texts = [
        field.name
        for field in parquet_file(source, name).schema_arrow
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    file = parquet_file(source, name, read_dictionary=texts)
    try:
        names = file.schema_arrow.names
        yield pl.DataFrame(pa.Table.from_arrays(file.schema_arrow.empty_table().columns, names))
        for batch in file.iter_batches(ROWS_AT_ONCE):
            batch.validate(full=True)  # polars assumes that texts are valid UTF-8
            yield pl.DataFrame(pa.Table.from_arrays(batch.columns, names))  # drops the file's metadata
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, *BROKEN):
        raise InputError(f"{name} {NO_PARQUET}.") from None


def csv_batches(path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """Yields a CSV file's rows as texts in batches, beginning with an empty frame.

    A compressed file is never in memory as a whole. Raises InputError, and polars' own errors.
    """
    import polars as pl

    with path.open("rb") as file:
        packed = is_packed(file.read(4))
        file.seek(0)
        if not packed:
            scan = pl.scan_csv(path, infer_schema=False)
            yield pl.DataFrame(schema=scan.collect_schema())
            yield from scan.collect_batches(chunk_size=rows, maintain_order=True)
            return
        header = b""
        for lines in _whole_rows(unpacked_blocks(file, path.stat().st_size, str(path)), str(path)):
            if not header:
                header, _, lines = lines.partition(b"\n")
                yield pl.read_csv(header + b"\n", infer_schema=False)
            if lines.strip():
                yield pl.read_csv(header + b"\n" + lines, infer_schema=False)


def _whole_rows(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Yields the same bytes in pieces that end at line ends outside of quotes."""
    rest = b""
    for block in blocks:
        rest += block
        if len(rest) < LONGEST_LINE:
            continue
        end = rest.rfind(b"\n") + 1
        quoted = rest.count(b'"', 0, end) % 2
        while end and quoted:
            before = rest.rfind(b"\n", 0, end - 1) + 1
            quoted = (quoted + rest.count(b'"', before, end)) % 2
            end = before
        if not end:
            raise InputError(
                f"{name} has a row of more than {LONGEST_LINE >> 20} MiB, which no table has; write it again."
            )
        yield rest[:end]
        rest = rest[end:]
    yield rest
