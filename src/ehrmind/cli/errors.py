"""Command line: reports errors in one sentence on standard error, never as a traceback.

The text of an unexpected exception is withheld, because it may quote a record (a KeyError's key, a
cell that did not parse). Its place is reported. EHRMIND_TRACEBACK=1 shows everything to the user at
the terminal.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
import traceback
from pathlib import Path

from typer.exceptions import Abort, TyperException

from ehrmind.cluster.worker_log import WorkerError
from ehrmind.printable import printable
from ehrmind.system import chain, is_broken_library, is_full, number_of, path_of, why
from ehrmind.types import InputError

BAD_INPUT, FAULT, INTERRUPTED, CLOSED, TERMINATED = 2, 1, 130, 141, 143
# The commands that go on where they stopped, each with the option that it needs for that.
RESUMABLE = dict.fromkeys(("run", "pilot", "evaluate", "predict"), " with --resume") | {"demo": "", "resume": ""}
_PACKAGE = Path(__file__).resolve().parents[1]
_VALUE = re.compile(r"(?s)(?<=: )(?:Value error, )?(?:'([\w.-]{1,24})'|'.*') (?=is not one of )")
_EXTRA = re.compile(r"(?s)Got unexpected extra argument.*")
# Errors that a library raises about its input as a whole, never about a record's text alone.
_GIVEN = {
    "RecursionError": "something that was given is nested too deeply to be read",
    "OverflowError": "a number that was given is larger than can be computed with",
    "SecurityError": "a template that was given does what is not allowed to it",
    "UnicodeEncodeError": "a name that was given holds bytes that are no text; rename it with letters of UTF-8",
}


def end_on_sigterm() -> None:
    """Makes SIGTERM end the command like Ctrl-C: by an exception, so that everything is cleaned up.

    A second signal ends it at once. torchrun ends the workers that it started and says why, so they
    are left alone.
    """

    def leave(number: int, frame: object) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(TERMINATED)

    if "WORLD_SIZE" not in os.environ and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


def end_at_once_on_another_signal() -> None:
    """Makes a second Ctrl-C end at once, so that it does not interrupt the report of the first
    one."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_sigterm(error: SystemExit) -> bool:
    """True if SIGTERM ended the command. If Ray's handler came after ours, the code is the signal's
    number."""
    return error.code == TERMINATED or error.code == int(signal.SIGTERM)


def closed_pipe(error: BaseException) -> BaseException | None:
    """Returns the error of a pipe whose reader has gone (`| head`), which typer turns into a silent
    exit."""
    return next((found for found in chain(error) if number_of(found) == errno.EPIPE), None)


def say(error: BaseException, command: str = "run") -> int:
    """Reports an error and returns the exit code.

    `command` is the first word of the command line: only some commands can be resumed.
    """
    if os.environ.get("EHRMIND_TRACEBACK") == "1":
        traceback.print_exception(error)
    code, sentence = _sentence(error, RESUMABLE.get(command))
    try:
        sys.stderr.write(f"ehrmind: {printable(' '.join(sentence.split()))}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # nobody can read it; the exit code still tells
        pass
    return code


def _sentence(error: BaseException, option: str | None) -> tuple[int, str]:
    on = (
        f"what was finished is kept, and the same command{option} goes on"
        if option is not None
        else "nothing is left half-written, so give the same command again"
    )
    if isinstance(error, InputError):
        return BAD_INPUT, str(error)
    if isinstance(error, TyperException):
        return (
            BAD_INPUT,
            f"{_of_typer(error)}. `ehrmind --help` and `ehrmind COMMAND --help` say what there is.",
        )
    if isinstance(error, Abort):
        # typer turns any end of input into an unanswered question
        if isinstance(error.__cause__, EOFError):
            return _fault(error.__cause__)
        return INTERRUPTED, "nobody said yes, so nothing was done; --yes answers beforehand."
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, f"stopped by the keyboard; {on}."
    if isinstance(error, SystemExit):
        return TERMINATED, f"stopped by SIGTERM; {on}."
    if is_full(error):
        where = next((f" ({path})" for found in chain(error) if (path := path_of(found))), "")
        what = "quota of this disk is used up" if _has(error, errno.EDQUOT) else "disk is full"
        return BAD_INPUT, f"the {what}{where}; make room: {on}."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or number_of(error) == errno.ENOMEM:
        smaller = "a smaller sampler_rows, rlvr.tokens_per_microbatch or warmup.tokens_per_microbatch needs less"
        return (
            BAD_INPUT,
            (
                "memory ran out;"
                f" {smaller if option is not None else 'a machine with more of it, or smaller files, are needed'}."
            ),
        )
    if number_of(error) == errno.EPIPE:
        return CLOSED, f"whatever read the output has gone; {on}."
    if number_of(error) is not None:
        return BAD_INPUT, f"{path_of(error) or 'a file or a connection'} cannot be used: {why(error)}."
    if (package := _package(error)) is not None:
        return BAD_INPUT, package
    if (given := _GIVEN.get(type(error).__name__)) is not None:
        return BAD_INPUT, f"{given} ({type(error).__name__} in {place_of(error)})."
    return _fault(error)


def _fault(error: BaseException) -> tuple[int, str]:
    what = str(error) if isinstance(error, WorkerError) else f"{type(error).__name__} in {place_of(error)}"
    return (
        FAULT,
        (
            f"unexpected {what}; that is a fault of ehrmind. Its text may quote a record and is withheld: "
            "EHRMIND_TRACEBACK=1 shows it."
        ),
    )


def _has(error: BaseException, number: int) -> bool:
    return any(number_of(found) == number for found in chain(error))


def _of_typer(error: TyperException) -> str:
    """Returns Typer's sentence without the value that an option was given, unless it is one short
    word.

    Someone may have pasted a line of a record there by mistake.
    """
    said = _VALUE.sub(lambda found: f"'{found[1]}' " if found[1] else "it ", error.format_message().rstrip("."))
    return _EXTRA.sub(
        "There are more arguments than this command takes; put quotes around a text or a name that holds spaces", said
    )


def _package(error: BaseException) -> str | None:
    """Describes a package that is missing or broken; None for any other error, and for our own
    modules."""
    found: BaseException | None = error
    while found is not None and not (isinstance(found, ImportError) or is_broken_library(found)):
        # follow the declared cause only: an import that was tried and done without is not one
        found = found.__cause__
    if found is None:
        return None
    name = (found.name or "") if isinstance(found, ImportError) else ""
    package = name.partition(".")[0]
    if package == "ehrmind":
        return None
    if isinstance(found, ModuleNotFoundError) and package:
        return (
            f"this needs the package '{package}', which is not installed; `ehrmind doctor` says which extra brings it."
        )
    which = f"the package '{package}'" if package else "a package"
    remedy = "install it again, in the version of constraints.txt"
    return f"{which} is installed and cannot be loaded; {remedy} ({place_of(error)})."


def place_of(error: BaseException) -> str:
    """Returns file and line of our innermost frame."""
    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_PACKAGE)
    ]
    if not ours:
        return "a library"
    return f"{Path(ours[-1].filename).relative_to(_PACKAGE.parent).as_posix()}, line {ours[-1].lineno}"
