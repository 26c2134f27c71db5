"""The lock of a run folder or a folder of predictions: only one process at a time writes there.

    RUN/.ehrmind-lock              an empty file; the process that holds its flock may write
    RUN/protected/.ehrmind-writer  that process, its machine and the time

In a folder of predictions the second file lies next to the lock.

The kernel frees a flock when its process dies, however it dies. If there are several workers, the
first holds it. The runs of seeds lie inside the folder of their run and share its lock. Reading
needs no lock, and neither does writing a page again."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

from ehrmind.removal import remove, say_left
from ehrmind.types import InputError
from ehrmind.world import current

P = ParamSpec("P")
T = TypeVar("T")
LOCK, WRITER = ".ehrmind-lock", ".ehrmind-writer"
WAIT = 5.0  # seconds for a process that is just ending: a scheduler may stop a run and restart it at once
WAIT_FOR_WORKERS = 120.0  # a cluster's workers end within a minute of their command; NFS frees a lost node's lock later
SECONDS_BETWEEN_TRIES = 0.05
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # errors of file systems without flock


@dataclass
class _Held:
    """A lock that this process holds. `descriptor` is None while it is lent to others, or if the
    first worker holds it."""

    descriptor: int | None = None
    signed: Path | None = None


_ours: ContextVar[Mapping[Path, _Held]] = ContextVar("_ours", default={})  # noqa: B039 - never changed in place


@contextmanager
def only_writer(
    folder: Path, holds_work: Callable[[Path], bool] | None = None, *, wait: float | None = None
) -> Iterator[None]:
    """Holds the folder's lock until the block ends; makes the folder if needed. Nested use in one
    process is allowed.

    If the block ends with an error, a folder that was new or empty is restored unless it
    `holds_work` now, so that the corrected command can use it. Raises InputError if another process
    writes there for longer than `wait` seconds."""
    place = _place(folder)
    if place in _ours.get():
        yield
        return
    held, was_there = _Held(), place.exists()
    current().from_first(lambda: _take(held, place, WAIT if wait is None else wait))
    was_used = held.descriptor is not None and any(path.name != LOCK for path in place.iterdir())
    outer = _ours.set({**_ours.get(), place: held})
    try:
        yield
    except Exception:
        if held.descriptor is not None and holds_work is not None and not was_used and not holds_work(folder):
            say_left([left for path in sorted(place.iterdir()) if path.name != LOCK for left in remove(path)])
        raise
    finally:
        _ours.reset(outer)
        if held.descriptor is not None:
            _give_back(held, place)
            if not was_there:
                with suppress(OSError):  # it is not empty, so it is used now
                    place.rmdir()


@contextmanager
def lent(folder: Path, *, wait: float) -> Iterator[None]:
    """Lends the lock to a process that works for this one, such as a cluster's worker, until the
    block ends."""
    place = _place(folder)
    held = _ours.get()[place]
    _give_back(held, place)
    try:
        yield
    finally:
        _take(held, place, wait)


def writes_into(argument: str, *, make: bool = True) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a function to hold the lock of the folder that `argument` names. With `make` False
    a missing folder is left to the function."""

    def alone(act: Callable[P, T]) -> Callable[P, T]:
        @wraps(act)
        def acting(*args: P.args, **options: P.kwargs) -> T:
            folder = Path(signature(act).bind(*args, **options).arguments[argument])
            with only_writer(folder) if make or folder.is_dir() else nullcontext():
                return act(*args, **options)

        return acting

    return alone


def sign(folder: Path, where: Path) -> None:
    """Writes who holds `folder` into the private folder `where`, for the message to another
    process."""
    held = _ours.get().get(_place(folder))
    if held is None or held.descriptor is None or held.signed is not None:
        return
    about = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    held.signed = where / WRITER
    descriptor = os.open(held.signed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(about, file)


def _place(folder: Path) -> Path:
    """Returns the folder whose lock counts: that of the outermost run."""
    place = folder.resolve()
    above = place.parent.parent
    return above if place.parent.name == "seeds" and (above / "recipe.yaml").is_file() else place


def _take(held: _Held, place: Path, wait: float) -> None:
    until = time.monotonic() + wait
    while (found := _try(place)) is None:
        if time.monotonic() >= until:
            raise InputError(
                f"{place} is in use: {_holder(place)} writes there, and only one may. Wait until it has ended, or end"
                " it, then give the same command again."
            )
        time.sleep(SECONDS_BETWEEN_TRIES)
    held.descriptor, held.signed = found, None
    _close_in_children().add(found)
    for left in _signatures(place):  # left by a killed process
        left.unlink(missing_ok=True)


def _try(place: Path) -> int | None:
    """Returns a descriptor that holds the lock; None if another process holds it, or just released
    it."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # the holder removed the folder between the two calls
        return None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"{place} cannot be written to: {error.strerror}; choose another folder.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), (place / LOCK).lstat()):
            return descriptor
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno in _NO_LOCKS:
            _say_without(place)
            return descriptor
        if error.errno not in (errno.ENOENT, errno.ESTALE):  # these two: the holder removed the file when it ended
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _give_back(held: _Held, place: Path) -> None:
    """Releases the lock. The file is removed while it is held, so that no process waits on a file
    that others no longer see."""
    assert held.descriptor is not None
    say_left([left for path in (held.signed, place / LOCK) if path is not None for left in remove(path)])
    _close_in_children().discard(held.descriptor)
    os.close(held.descriptor)
    held.descriptor = held.signed = None


@cache
def _close_in_children() -> set[int]:
    """Returns the descriptors that a forked child closes, so that a child that outlives us does not
    keep the lock."""
    held: set[int] = set()

    def close() -> None:
        for descriptor in held:
            os.close(descriptor)
        held.clear()

    os.register_at_fork(after_in_child=close)
    return held


def _signatures(place: Path) -> tuple[Path, Path]:
    return place / "protected" / WRITER, place / WRITER


def _holder(place: Path) -> str:
    for file in _signatures(place):
        with suppress(OSError, ValueError, LookupError, TypeError):
            about = json.loads(file.read_text(encoding="utf-8"))
            return (
                f"process {int(about['process'])} of machine {str(about['machine'])[:100]}, since"
                f" {str(about['since'])[:40]},"
            )
    return "another process"


@cache
def _say_without(place: Path) -> None:
    sys.stderr.write(
        f"{place} lies on a file system without locks (flock), so nothing keeps a second command out: start only one"
        " there\n"
    )
