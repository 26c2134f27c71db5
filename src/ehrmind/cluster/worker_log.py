"""Brings the workers' output to the user: lines for the terminal, and the error that ended the
work."""

from __future__ import annotations

import io
import os
import traceback
from pathlib import Path
from typing import Any

from ehrmind.system import number_of, path_of
from ehrmind.types import InputError

_PACKAGE = Path(__file__).resolve().parents[1]


class WorkerError(RuntimeError):
    """A fault in a worker: its type and place. Its text is withheld because it may quote a
    record."""


class Mailbox:
    """An actor on the driver's node that collects messages (kind, content)."""

    def __init__(self) -> None:
        self._said: list[tuple[str, Any]] = []

    def say(self, kind: str, content: Any) -> None:
        self._said.append((kind, content))

    def is_there(self) -> bool:
        return True

    def close(self) -> None:
        import ray

        ray.actor.exit_actor()

    def heard(self) -> list[tuple[str, Any]]:
        """Returns the messages since the last call."""
        said, self._said = self._said, []
        return said


def open_mailbox() -> Any:
    """Starts the actor and returns its handle. It takes no worker's place and lives on the driver's
    own node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


class ToMailbox(io.TextIOBase):
    """A worker's standard error, sent to the mailbox line by line."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox, self._line = mailbox, ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._mailbox.say.remote("line", line)
        return len(text)

    def writable(self) -> bool:
        return True


def without_text(error: Exception) -> Exception:
    """Reduces an error to what may leave the worker.

    Errors that a user can fix stay as they are; others become type and place in our code.
    """
    if isinstance(error, InputError):
        return InputError(str(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MemoryError()
    if (number := number_of(error)) is not None:
        return OSError(number, os.strerror(number), path_of(error))
    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_PACKAGE)
    ]
    place = (
        f"{Path(ours[-1].filename).relative_to(_PACKAGE.parent).as_posix()}, line {ours[-1].lineno}"
        if ours
        else "a library"
    )
    return WorkerError(f"{type(error).__name__} in {place}")
