"""Command line: reports errors that a library, a thread or the interpreter would print, without
their text.

Python prints the text of uncaught exceptions: in a thread, in a destructor, in an asyncio task
(through `logging`). Libraries put cells into warnings. Such a text may quote a record, so only type
and place are printed. EHRMIND_TRACEBACK=1 leaves everything as it is.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ehrmind.cli.errors import place_of
from ehrmind.printable import printable

OURS = "ehrmind"
WITHHELD = "its text may quote a record and is withheld: EHRMIND_TRACEBACK=1 shows it"


def withhold_texts() -> None:
    """Withholds error texts in the whole process.

    Only the command-line program calls this, never a test in its own process.
    """
    _keep_descriptors()
    # A core dump would hold the records in memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # With LANG=C a terminal shows "é" as "\xe9", and the command goes on.
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("EHRMIND_TRACEBACK") == "1":
        return
    sys.excepthook = _of_program
    threading.excepthook = _of_thread
    sys.unraisablehook = _unraisable
    warnings.showwarning = _warning
    logging.lastResort = _Handler()


def _keep_descriptors() -> None:
    """Keeps descriptors 0 to 2 open. If standard output is closed, the next opened file would take
    its number and receive our prints."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def _say(what: str) -> None:
    try:
        sys.stderr.write(f"{OURS}: {printable(what)}; {WITHHELD}\n")
    except (OSError, ValueError):
        pass


def _of_program(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    del trace
    _say(f"ended by {kind.__name__} in {place_of(error)}")


def _of_thread(about: threading.ExceptHookArgs) -> None:
    if about.exc_value is not None and not issubclass(about.exc_type, SystemExit):
        _say(f"a thread ended by {about.exc_type.__name__} in {place_of(about.exc_value)}")


def _unraisable(about: sys.UnraisableHookArgs) -> None:
    if about.exc_value is not None and not issubclass(about.exc_type, BrokenPipeError):
        _say(f"{about.exc_type.__name__} in {place_of(about.exc_value)} while something was put away")


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del message, file, line
    parts = Path(filename).parts
    package = parts[parts.index("site-packages") + 1] if "site-packages" in parts[:-1] else Path(filename).name
    _say(f"{category.__name__} of {package}, line {lineno}")


class _Handler(logging.Handler):
    """Takes log records that have no other handler. Ours are printed; of others only the logger's
    name is."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == OURS:
            try:
                sys.stderr.write(f"{printable(record.getMessage())}\n")
            except Exception:  # noqa: BLE001 - logging must not end what it tells of
                self.handleError(record)
            return
        error: Any = record.exc_info[1] if record.exc_info else None
        by = f", {type(error).__name__} in {place_of(error)}" if error is not None else ""
        _say(f"{record.levelname.lower()} of {record.name}{by}")
