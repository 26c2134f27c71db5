"""Command line: how things that go wrong are said, in one sentence on standard error, never as a traceback.

The text of an unexpected exception is withheld, because it may quote a record (a KeyError's key, a cell that did not
parse); where it happened is not. EHRMIND_TRACEBACK=1 shows all of it to the person at the terminal.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from typer.exceptions import Abort, TyperException

from ehrmind.cluster.desk import WorkerError
from ehrmind.types import InputError

BAD_INPUT, FAULT, INTERRUPTED, TERMINATED = 2, 1, 130, 143
RESUMABLE = ("run", "pilot", "evaluate", "predict")  # the commands that have --resume
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = ("No space left on device", "os error 28", "Disk quota exceeded")
_PACKAGE = Path(__file__).resolve().parents[1]


def end_on_sigterm() -> None:
    """Leave as Ctrl-C does, by an exception that lets everything be put away. A second signal ends at once. Workers that torchrun started
    are ended by it, which says why."""

    def leave(number: int, frame: object) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(TERMINATED)

    if "WORLD_SIZE" not in os.environ and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


def is_sigterm(error: SystemExit) -> bool:
    """Tells whether SIGTERM ended the command. If Ray's handler came after ours, the code is the
    signal's number."""
    return error.code == TERMINATED or error.code == int(signal.SIGTERM)


def say(error: BaseException, command: str = "run") -> int:
    """Say what went wrong; the exit code. `command` is the first word of what was given: only some can go on where they were."""
    if os.environ.get("EHRMIND_TRACEBACK") == "1":
        traceback.print_exception(error)
    code, sentence = _sentence(error, command in RESUMABLE)
    sys.stderr.write(f"ehrmind: {' '.join(sentence.split())}\n")
    return code


def _sentence(error: BaseException, resumable: bool) -> tuple[int, str]:
    on = (
        "what was finished is kept, and the same command with --resume goes on"
        if resumable
        else "nothing is left half-written, so give the same command again"
    )
    if isinstance(error, InputError):
        return BAD_INPUT, str(error)
    if isinstance(error, TyperException):
        return (
            BAD_INPUT,
            f"{error.format_message().rstrip('.')}. `ehrmind --help` and `ehrmind COMMAND --help` say what there is.",
        )
    if isinstance(error, Abort):
        return INTERRUPTED, "nobody said yes, so nothing was done; --yes answers beforehand."
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, f"stopped by the keyboard; {on}."
    if isinstance(error, SystemExit):
        return TERMINATED, f"stopped by SIGTERM; {on}."
    if _disk_is_full(error):
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return BAD_INPUT, f"the disk is full{where}; make room: {on}."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        smaller = "a smaller sampler_rows, rlvr.tokens_per_microbatch or warmup.tokens_per_microbatch needs less"
        return BAD_INPUT, f"memory ran out; {smaller if resumable else 'a machine with more of it, or smaller files, are needed'}."
    if isinstance(error, OSError) and error.filename and error.strerror:
        return BAD_INPUT, f"{error.filename} cannot be used: {error.strerror}."
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("ehrmind"):
        package = error.name.partition(".")[0]
        return BAD_INPUT, f"this needs the package '{package}', which is not installed; `ehrmind doctor` says which extra brings it."
    what = str(error) if isinstance(error, WorkerError) else f"{type(error).__name__} in {_place(error)}"
    return FAULT, (
        f"unexpected {what}; that is a fault of ehrmind. Its text may quote a record and is withheld: EHRMIND_TRACEBACK=1 shows it."
    )


def _disk_is_full(error: BaseException | None) -> bool:
    """Also where a library wraps the operating system's error in one of its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(text in str(error) for text in _FULL_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(error: BaseException) -> str:
    """File and line of our innermost frame."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_PACKAGE)]
    if not ours:
        return "a library"
    return f"{Path(ours[-1].filename).relative_to(_PACKAGE.parent).as_posix()}, line {ours[-1].lineno}"
