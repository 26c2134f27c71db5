"""Locks a run folder in an object store, which has no locks of its own.

An object names the process that writes under the URL. That process renews it while it lives.

    URL/protected/.ehrmind-lock   owner, process, machine, since, renewed

A lease that is no longer renewed is taken over. Some stores cannot create an object only if it is
absent, so there may be two owners for a moment. Therefore an owner looks again a little later, and
before each push; the one whose name is there goes on.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ehrmind.runs.lock import LOCK, WAIT
from ehrmind.types import InputError

# seconds; a cluster's workers end within a minute of their command
RENEWED_EVERY, STALE_AFTER = 15.0, 120.0
SETTLES_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Content of the lock object. Times are seconds since 1970 on its owner's clock."""

    owner: str
    process: int
    machine: str
    since: float
    renewed: float

    def __str__(self) -> str:
        began = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        return f"process {self.process} of machine {self.machine}, since {began}"


@contextmanager
def leased(url: str, store: Any, root: str) -> Iterator[str]:
    """Holds what is under the URL until the block ends; yields the owner's name.

    Raises InputError if another process holds it.
    """
    now = time.time()
    lease = Lease(secrets.token_hex(16), os.getpid(), socket.gethostname(), now, now)
    _take(url, store, root, lease)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(RENEWED_EVERY):
            # the store may be away for a while; each kind of store has errors of its own
            with suppress(Exception):
                found = read_lease(store, root)
                if found is not None and found.owner != lease.owner:
                    return  # the next push notices and ends the run
                _write(store, root, replace(lease, renewed=time.time()))

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield lease.owner
    finally:
        over.set()
        thread.join()
        _give_back(store, root, lease)


def refuse_taken(url: str, store: Any, root: str, owner: str) -> None:
    """Raises InputError if another process has replaced the owner."""
    found = read_lease(store, root)
    if found is not None and found.owner != owner:
        raise InputError(
            f"{url} was taken over by {found}, since nothing was heard of this command for too long; it writes nothing "
            f"more."
        )


def read_lease(store: Any, root: str) -> Lease | None:
    """Reads the lease; None if there is none or the object is not a lease."""
    store.invalidate_cache()
    try:
        tree = json.loads(store.cat_file(_place(root)))
        return Lease(**{field.name: tree[field.name] for field in fields(Lease)})
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def _take(url: str, store: Any, root: str, lease: Lease) -> None:
    until = time.monotonic() + WAIT
    while (found := read_lease(store, root)) is not None and not _is_over(store, root, found):
        if time.monotonic() >= until:
            _refuse(url, root, found)
        time.sleep(SETTLES_WITHIN / 4)
    if found is not None:
        sys.stderr.write(f"{url} was left by {found}, which no longer renews its lock; this command takes its place\n")
    with suppress(FileExistsError):  # another process was faster
        _write(store, root, lease, mode="overwrite" if store.exists(_place(root)) else "create")
    time.sleep(SETTLES_WITHIN)
    now = read_lease(store, root)
    if now is None or now.owner != lease.owner:
        _refuse(url, root, now)


def _is_over(store: Any, root: str, found: Lease) -> bool:
    """True if the owner is dead on this machine, or has not renewed for long and still does not:
    clocks may differ."""
    import psutil

    if found.machine == socket.gethostname() and not psutil.pid_exists(found.process):
        return True
    if time.time() - found.renewed < STALE_AFTER:
        return False
    time.sleep(2 * RENEWED_EVERY)
    return read_lease(store, root) in (None, found)


def _refuse(url: str, root: str, found: Lease | None) -> None:
    raise InputError(
        f"{url} is in use: {found or 'another process'} writes there, and only one may. Wait until it has ended, or "
        f"end it, then give the same command again; the place of one that was killed can be taken after "
        f"{STALE_AFTER:.0f} s."
    )


def _write(store: Any, root: str, lease: Lease, mode: str = "overwrite") -> None:
    place = _place(root)
    store.makedirs(place.rpartition("/")[0], exist_ok=True)
    if getattr(store, "local_file", False):
        Path(f"{root}/protected").chmod(0o700)
    store.pipe_file(place, json.dumps(asdict(lease)).encode(), mode=mode)


def _give_back(store: Any, root: str, lease: Lease) -> None:
    with suppress(OSError):
        found = read_lease(store, root)
        if found is not None and found.owner == lease.owner:
            store.rm_file(_place(root))
        # a local folder, unlike other stores, keeps empty folders
        if getattr(store, "local_file", False):
            for made in (Path(root, "protected"), Path(root)):
                made.rmdir()


def _place(root: str) -> str:
    return f"{root}/protected/{LOCK}"
