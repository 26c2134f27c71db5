"""A file layer inside the process of a command: counts what the command does to its files, and
strikes at the n-th.

Python tells an audit hook of every open, mkdir, rename, remove and chmod before it happens;
`os.fsync` is wrapped, since it has no such event. Writes of libraries in Rust and C++ are not seen;
kills by the clock and a really full disk reach those.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kills.power import Disk

KINDS = ("open", "mkdir", "rename", "remove", "chmod", "fsync", "exit")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NEEDS_ROOM = ("open", "mkdir", "fsync", "rename")


@dataclass
class Layer:
    """`act` strikes at the `when`-th event of `kind` under `root`; None only counts."""

    root: Path
    act: str | None = None
    kind: str = ""
    when: int = 0
    seed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    disk: Disk | None = None
    full: bool = False
    busy: bool = False
    closed: bool = False

    def install(self) -> None:
        if self.act == "power":
            self.disk = Disk(self.root)
        synced = os.fsync
        os.fsync = lambda descriptor: self._fsync(synced, descriptor)  # type: ignore[assignment]
        sys.addaudithook(self._hook)

    def close(self, report: Path) -> None:
        """At the command's end: the last event, and the counts for the one who started it."""
        self._event("exit", [self.root])
        self.closed = True
        report.write_text(json.dumps(self.counts))

    def _fsync(self, synced: Callable[[Any], None], descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = Path(f"/proc/self/fd/{number}").readlink()
        self._event("fsync", [path])
        synced(descriptor)
        if self.disk is not None and self._ours(path):
            self._quietly(lambda disk: disk.synced(number))

    def _hook(self, event: str, given: tuple[Any, ...]) -> None:
        if self.closed or self.busy:
            return
        if event == "open" and isinstance(given[2], int) and given[2] & _WRITES and not isinstance(given[0], int):
            self._event("open", [_place(given[0], -1)])
        elif event == "os.rename":
            self._event("rename", [_place(given[0], given[2]), _place(given[1], given[3])])
        elif event in ("os.mkdir", "os.chmod"):
            self._event(event[3:], [_place(given[0], given[2])])
        elif event in ("os.remove", "os.rmdir"):
            self._event("remove", [_place(given[0], given[1])])

    def _event(self, kind: str, paths: list[Path]) -> None:
        if self.closed or self.busy or not any(map(self._ours, paths)):
            return
        self.counts[kind] += 1
        if self.disk is not None:
            self._quietly(lambda disk: disk.noted(paths))
        if self.full and kind in NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(paths[0]))
        if self.act is not None and (kind, self.counts[kind]) == (self.kind, self.when):
            self._strike(paths[0])

    def _strike(self, path: Path) -> None:
        if self.act == "ENOSPC":
            self.full = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if self.act == "power":
            self._quietly(lambda disk: disk.lose_power(self.seed))
        number = signal.SIGKILL if self.act in ("power", "SIGKILL") else signal.Signals[str(self.act)]
        if number == signal.SIGKILL:
            os.killpg(os.getpgrp(), number)
        os.kill(os.getpid(), number)

    def _quietly(self, act: Callable[[Disk], None]) -> None:
        assert self.disk is not None
        self.busy = True
        try:
            act(self.disk)
        finally:
            self.busy = False

    def _ours(self, path: Path) -> bool:
        return path.is_relative_to(self.root)


def _place(path: Any, folder: Any) -> Path:
    if isinstance(path, int):
        return Path(f"/proc/self/fd/{path}").readlink()
    above = Path(f"/proc/self/fd/{folder}").readlink() if isinstance(folder, int) and folder >= 0 else Path.cwd()
    return above / os.fsdecode(path)
