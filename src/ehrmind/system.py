"""Puts errors of the operating system into words, even if a library wraps them.

polars, pyarrow, safetensors and others hide the error number in a text of their own. Such a text is
trusted only if a library of this list wrote it and if it starts with the error. A record may quote
"No space left on device" too, and libraries quote records. Nothing here returns a library's text.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ehrmind.types import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)
REMEDIES = {
    errno.EACCES: "ask its owner for access, or name another",
    errno.EPERM: "ask its owner for access, or name another",
    errno.EROFS: "name a place that can be written",
    errno.EMFILE: "raise the limit of open files (`ulimit -n 4096`)",
    errno.ENFILE: "close other programs, or raise the system's limit of open files",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of the path is a file, so no folder",
    errno.ELOOP: "its links lead in a circle; name the file itself",
    errno.ENXIO: "name a file, not a pipe or a device",
    errno.ESTALE: "mount the network's file system again",
    errno.EIO: "check the disk or the network's file system, and copy the file from elsewhere",
    errno.EFBIG: "write it to a file system that takes larger files",
    errno.EBUSY: "close the program that uses it",
    errno.EINTR: "give the command again",
}
# Packages whose errors about files carry the system's error only as text.
_LIBRARIES = frozenset({"polars", "pyarrow", "safetensors", "safetensors_rust", "tokenizers", "torch", "ray", "fsspec"})
_BARE = (OSError, Exception)  # Rust's I/O errors arrive as these, without a number
_SAID = re.compile(
    r"(?:[A-Za-z][A-Za-z/ ]{0,60}: ){0,4}(?:[A-Z][A-Za-z /,-]{3,60} \(os error (\d{1,3})\)"
    r"|(?:[A-Za-z]{1,30}\()?Os \{ code: (\d{1,3}), )"
    r"|(?:\[Errno \d{1,3}\] )?[A-Z][A-Za-z ]{3,60}\. Detail: \[errno (\d{1,3})\] "  # pyarrow
)
_PATH = re.compile(r"(?!.*//)[^\s/]{0,255}(?:/[^\s/]{1,255})+")  # no blank in it, and a folder
_LOADER = re.compile(
    r"[\w.+-]{1,80}: (?:cannot open shared object file|undefined symbol|cannot enable executable stack"
    r"|invalid ELF header)"
)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the error and its causes, newest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def number_of(error: BaseException) -> int | None:
    """Returns the system's number of an error: its own, or the one that a library's text starts
    with."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if type(error).__name__ == "OutOfDiskError":
        return errno.ENOSPC
    if type(error).__module__.partition(".")[0] not in _LIBRARIES and not (
        isinstance(error, OSError) or type(error) in _BARE
    ):
        return None
    said = _SAID.match(str(error)[:1000])
    return int(next(filter(None, said.groups()))) if said else None


def is_full(error: BaseException | None) -> bool:
    """True if a full disk or a used-up quota caused an error."""
    return any(number_of(found) in FULL for found in chain(error))


def is_broken_library(error: BaseException) -> bool:
    """True if a shared library of the installation cannot be loaded."""
    return isinstance(error, OSError) and error.errno is None and _LOADER.match(str(error)[:1000]) is not None


def why(error: BaseException) -> str:
    """Returns the system's words for an error and what to do about it; for any other error its
    type."""
    number = number_of(error)
    if number is None:
        return type(error).__name__
    remedy = f"; {REMEDIES[number]}" if number in REMEDIES else ""
    return f"{os.strerror(number)}{remedy}"


def unread(error: BaseException, path: object, otherwise: str) -> InputError:
    """Makes the error for a file that could not be read.

    It gives the system's reason if there is one, or else `otherwise`, which is about the content.
    """
    number = number_of(error)
    if number is None or number in (errno.ENOENT, errno.EINVAL):
        return InputError(otherwise)
    return InputError(f"{path} cannot be read: {why(error)}.")


def path_of(error: BaseException) -> str | None:
    """Returns the path that an OSError names. None if it is not a path but a text taken for one,
    which may be a record."""
    name = error.filename if isinstance(error, OSError) else None
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if not isinstance(name, str) or not name or len(name) > 4096 or "\n" in name:
        return None
    if _PATH.fullmatch(name):
        return name
    try:
        there = os.path.lexists(name) or (os.sep in name and Path(name).parent.is_dir())
    except (OSError, ValueError):
        return None
    return name if there else None


def refuse_no_file(
    path: Path, absent: str = "There is no file at {path}.", folder: str = "name the files in it"
) -> None:
    """Raises InputError for what cannot be read as a file.

    This is a missing file, a folder, a broken link, a pipe or a device (reading one may never end).
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise InputError(f"{path} is a link to a file that is not there; name the file itself.") from None
        raise InputError(absent.format(path=path)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {why(error)}.") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder; {folder}.")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is a pipe or a device, no file; write what it gives into a file, and name that.")
