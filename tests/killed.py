"""A child process that is killed before its nth change of the file system, so that every moment of
an action can be the last one.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

CHANGES = {"os.mkdir", "os.rename", "os.chmod", "os.remove", "os.rmdir", "os.truncate", "fcntl.flock"}
DONE, REFUSED = 0, 3


def in_child(act: Callable[[], object], *, killed_at: int | None = None) -> int:
    """Does it in a fork of this process: DONE, REFUSED where it raised, or minus the signal that
    ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if killed_at is not None:
            _kill_at(killed_at)
        act()
    except BaseException as error:  # noqa: BLE001 - the child must not go on with the tests
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(REFUSED)
    os._exit(DONE)


def _kill_at(nth: int) -> None:
    seen = 0

    def watch(event: str, given: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in CHANGES or writes:
            seen += 1
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
