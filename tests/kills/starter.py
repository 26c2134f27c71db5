"""Starts commands quickly: one process does the slow imports, and every command is a fork of it, in
a session of its own.

As a program (`python -m tests.kills.starter`) it reads one start a line from its input, as JSON,
and writes the number of the process it has started and then how that ended.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 240.0  # seconds of one command, beyond which it hangs


@dataclass(frozen=True)
class Ended:
    """How a command ended: its code (negative: a signal), what it said, its file events by kind,
    and its seconds."""

    code: int
    out: str
    err: str
    counts: dict[str, int]
    seconds: float


@dataclass
class Starter:
    """The process that forks. `folder` is for what commands say; nothing of theirs lies there."""

    folder: Path
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])
        quiet = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        quiet["TORCHINDUCTOR_CACHE_DIR"] = str(self.folder)  # which torch makes in the folder for temporary files
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.kills.starter"],
            env={**os.environ, **quiet},
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: list[str], cwd: Path, strike: dict[str, Any] | None = None, after: float | None = None
    ) -> Ended:
        """Runs one command in `cwd`; `strike` is what the layer is to do, `after` kills it by the
        clock."""
        assert self.process.stdin is not None and self.process.stdout is not None
        asked = {"arguments": arguments, "cwd": str(cwd), "folder": str(self.folder), "strike": strike or {}}
        (self.folder / "counts.json").unlink(missing_ok=True)
        started = time.monotonic()
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        timer = threading.Timer(LIMIT if after is None else after, _kill, [child])
        timer.start()
        code = int(self.process.stdout.readline())
        timer.cancel()
        seconds = time.monotonic() - started
        counts = self.folder / "counts.json"
        said = [(self.folder / name).read_text(errors="replace") for name in ("out", "err")]
        return Ended(code, *said, json.loads(counts.read_text()) if counts.is_file() else {}, seconds)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def _kill(group: int) -> None:
    try:
        os.killpg(group, SIGKILL)
    except ProcessLookupError:
        pass


def _import_too(names: Path) -> None:
    """Imports what a command has imported, so that the next need not. Imports alone start no
    threads, which no fork would have."""
    for name in json.loads(names.read_text()) if names.is_file() else []:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    names.unlink(missing_ok=True)


def _serve() -> None:
    import ehrmind.cli.app  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(asked)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        _import_too(Path(asked["folder"]) / "modules.json")


def _become(asked: dict[str, Any]) -> None:
    """Turns this fork into the command; returns never."""
    from ehrmind.cli import main
    from tests.kills.layer import Layer

    os.setsid()
    atexit._clear()  # polars's own handler waits for a thread that no fork has
    folder = Path(asked["folder"])
    for number, name in enumerate(("out", "err"), start=1):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(asked["cwd"])
    tempfile.tempdir = os.environ["TMPDIR"] = str(Path(asked["cwd"]) / "tmp")
    layer = Layer(Path(asked["cwd"]), **asked["strike"])
    layer.install()
    code = 1
    try:
        main(asked["arguments"])
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
    layer.close(folder / "counts.json")
    (folder / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
