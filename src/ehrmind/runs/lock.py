"""One process at a time writes into a run folder or a folder of predictions.

    RUN/.ehrmind-lock              an empty file; who holds its flock may write
    RUN/protected/.ehrmind-writer  process, machine and time of who does; in a folder of predictions beside the lock

The kernel frees a flock when its process dies, by whatever death. Of several workers the first alone holds it. Seeds lie in the folder of
their run and have its lock. Reading needs none, and neither does writing a page anew.
"""

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
WAIT = 5.0  # seconds, for one that was just told to end: a scheduler stops a run and starts it again at once
WAIT_FOR_WORKERS = 120.0  # a cluster's workers end within a minute of their command; NFS frees a lost node's lock later
SECONDS_BETWEEN_TRIES = 0.05
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # what file systems without flock say


@dataclass
class _Held:
    """A lock that this process holds. None: lent to others, or held by the first worker."""

    descriptor: int | None = None
    signed: Path | None = None


_ours: ContextVar[Mapping[Path, _Held]] = ContextVar("_ours", default={})  # noqa: B039 - never changed in place


@contextmanager
def only_writer(
    folder: Path, holds_work: Callable[[Path], bool] | None = None, *, wait: float | None = None
) -> Iterator[None]:
    """Makes the folder if need be and holds it until the block ends; within itself it may be opened again. If the block ends by an
    error, a folder that was new or empty is given back as it was unless it `holds_work` now, so that the corrected command finds
    none in its way. Raises InputError where another process writes there for longer than `wait` seconds."""
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
                with suppress(OSError):  # not empty: it is used now
                    place.rmdir()


@contextmanager
def lent(folder: Path, *, wait: float) -> Iterator[None]:
    """Gives the folder to a process that works for this one, such as a worker of a cluster, until the block ends."""
    place = _place(folder)
    held = _ours.get()[place]
    _give_back(held, place)
    try:
        yield
    finally:
        _take(held, place, wait)


def writes_into(argument: str, *, make: bool = True) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A function that is the only writer of the folder which this argument of it names, and which it makes, or looks for itself."""

    def alone(act: Callable[P, T]) -> Callable[P, T]:
        @wraps(act)
        def acting(*args: P.args, **options: P.kwargs) -> T:
            folder = Path(signature(act).bind(*args, **options).arguments[argument])
            with only_writer(folder) if make or folder.is_dir() else nullcontext():
                return act(*args, **options)

        return acting

    return alone


def sign(folder: Path, where: Path) -> None:
    """Writes into the folder `where`, which is its owner's alone, who holds `folder`: another one is told it."""
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
    """The folder whose lock counts: the outermost run's."""
    place = folder.resolve()
    above = place.parent.parent
    return above if place.parent.name == "seeds" and (above / "recipe.yaml").is_file() else place


def _take(held: _Held, place: Path, wait: float) -> None:
    until = time.monotonic() + wait
    while (found := _try(place)) is None:
        if time.monotonic() >= until:
            raise InputError(
                f"{place} is in use: {_holder(place)} writes there, and only one may. Wait until it has ended, or end it, then give the "
                "same command again."
            )
        time.sleep(SECONDS_BETWEEN_TRIES)
    held.descriptor, held.signed = found, None
    _close_in_children().add(found)
    for left in _signatures(place):  # of one that was killed
        left.unlink(missing_ok=True)


def _try(place: Path) -> int | None:
    """A descriptor that holds the lock, or None where another one's does, or did a moment ago."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # freed by its first user between the two
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
        if error.errno not in (errno.ENOENT, errno.ESTALE):  # those: the holder took the file away when it ended
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _give_back(held: _Held, place: Path) -> None:
    """The file goes while it is held, so that nobody waits at one that others no longer see."""
    assert held.descriptor is not None
    say_left([left for path in (held.signed, place / LOCK) if path is not None for left in remove(path)])
    _close_in_children().discard(held.descriptor)
    os.close(held.descriptor)
    held.descriptor = held.signed = None


@cache
def _close_in_children() -> set[int]:
    """Descriptors that a forked child closes: one that outlives us must not keep the lock."""
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
            return f"process {int(about['process'])} of machine {str(about['machine'])[:100]}, since {str(about['since'])[:40]},"
    return "another process"


@cache
def _say_without(place: Path) -> None:
    sys.stderr.write(
        f"{place} lies on a file system without locks (flock), so nothing keeps a second command out: start only one there\n"
    )
