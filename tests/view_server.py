"""The live view as its own process, started as a person starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def viewed(root: Path, *options: str) -> Iterator[str]:
    """The address that `ehrmind view` prints, token included; the process ends with the block, and
    must have said nothing more."""
    command = [sys.executable, "-c", "from ehrmind.cli import main; main()", "view", str(root), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("open http://127.0.0.1:"), process.communicate()
        yield line.removeprefix("open ").strip()
    finally:
        process.terminate()
        said = process.communicate(timeout=20)
    assert said[1] == "", "the view logs nothing of what it is asked or shows"
