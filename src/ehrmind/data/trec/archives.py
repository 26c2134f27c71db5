"""Reads folders and zip archives of trial records from TREC and the registry.

Every file in them is read, or listed as unread.
"""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ehrmind.data.bounds import refuse_grown_zip
from ehrmind.data.files import MAX_BYTES, read_bytes, unzipped
from ehrmind.data.trec.formats import FORMS, Content, Found, NoRecord, reader_of
from ehrmind.data.trec.keys import trial_key
from ehrmind.system import refuse_no_file, unread, why
from ehrmind.types import InputError

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar")
_SHEETS = (".csv", ".tsv", ".xlsx", ".xls")
_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error, lzma.LZMAError)


def files_of(folder: Path) -> list[Path]:
    """Lists all files of a folder and its subfolders, sorted.

    Raises InputError naming a folder that cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {why(error)}.") from None

    return sorted(Path(root) / name for root, _, names in os.walk(folder, onerror=refuse) for name in names)


def from_files(files: Sequence[Path], wanted: Collection[str]) -> Iterator[Found]:
    """Reads the records of a folder's files.

    A file named after an unwanted trial is counted without being opened.
    """
    for file in files:
        if (
            not file.is_file()
            or _is_system_file(file.name)
            or (reader_of(file.name) is None and not file.name.lower().endswith(".zip"))
        ):
            yield NoRecord("unread", file.name)
        elif _is_another(file.name, wanted):
            yield None
        else:
            yield from from_file(file, wanted)


def from_file(path: Path, wanted: Collection[str]) -> Iterator[Found]:
    """Reads the records of one file. Raises InputError naming a file of another kind."""
    if path.name.lower().endswith(".zip"):
        yield from _from_zip(path, wanted)
        return
    reader = reader_of(path.name)
    if reader is None:
        raise InputError(f"{path} {_why(path.name)}: give trial records as {', '.join(FORMS)}, or a folder of them.")
    yield from reader(Content(str(path), _bytes_of(path)), wanted)


def _bytes_of(path: Path) -> bytes:
    content = read_bytes(path)[0]
    return unzipped(content, str(path)) if path.suffix == ".GZ" else content


def _why(name: str) -> str:
    if name.lower().removesuffix(".gz").endswith(_SHEETS):
        return "is a table as ClinicalTrials.gov's download makes it, which has no eligibility criteria; download JSON"
    return "has an ending that is not known here"


def _from_zip(path: Path, wanted: Collection[str]) -> Iterator[Found]:
    """Reads members one at a time and never unpacks them to disk."""
    refuse_no_file(path)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise unread(error, path, f"{path} is not a whole zip archive; fetch it again.") from None
    with archive:
        refuse_grown_zip(archive, path)
        for member in archive.infolist():
            if not member.is_dir():
                yield from _from_member(archive, member, path, wanted)


def _from_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, wanted: Collection[str]
) -> Iterator[Found]:
    name = PurePosixPath(member.filename).name
    reader = reader_of(name)
    if _is_system_file(member.filename):
        yield NoRecord("unread", name)
    elif name.lower().endswith(_ARCHIVES):
        raise InputError(f"{path} holds another archive, {name}; unpack it into a folder and give that.")
    elif reader is None:
        yield NoRecord("unread", name)
    elif _is_another(name, wanted):
        yield None
    elif member.file_size > MAX_BYTES:
        raise InputError(
            f"{path}, {name}: larger than {MAX_BYTES >> 20} MiB; unpack the archive into a folder and give that."
        )
    else:
        try:
            content = archive.read(member)
        except _BROKEN as error:
            raise unread(
                error, f"{path}, {name}", f"{path}, {name}: cannot be read from the archive; fetch it again."
            ) from None
        shown = f"{path}, {name}"
        yield from reader(Content(shown, unzipped(content, shown) if name.lower().endswith(".gz") else content), wanted)


def _is_another(name: str, wanted: Collection[str]) -> bool:
    """Tells whether a file's name is the number of a trial that is not wanted."""
    number = trial_key(name)
    return number != "" and number not in wanted


def _is_system_file(name: str) -> bool:
    """Tells whether an operating system created the file, such as `.DS_Store`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
