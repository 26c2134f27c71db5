"""What workers have to say reaches the person who started the run: lines for the terminal, and what ended the work."""

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
    """A fault in a worker: its type and its place. Its text stays behind, because it may quote a record."""


class Desk:
    """An actor beside the driver. Messages are (kind, content)."""

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
        """What was said since the last time."""
        said, self._said = self._said, []
        return said


def open_desk() -> Any:
    """A handle of the actor, which takes no worker's place and stands and falls with the driver's own node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()


class ToDesk(io.TextIOBase):
    """A worker's standard error, line by line at the desk."""

    def __init__(self, desk: Any) -> None:
        self._desk, self._line = desk, ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._desk.say.remote("line", line)
        return len(text)

    def writable(self) -> bool:
        return True


def told(error: Exception) -> Exception:
    """The error as it may leave the worker: what a person can mend as it is, of anything else the type and the place in our code."""
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
