"""Runs a script of this room in a process of its own, without our packages and memory, for a
limited time.
"""

from __future__ import annotations

import subprocess
import sys


def ended(script: str, content: bytes, seconds: int, *arguments: str) -> int | None:
    """Runs a script that reads `content`. Returns its exit status, negative if the system ended it.

    The script limits itself to `seconds` of CPU time. Returns None if it still runs after three
    times that.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", script, str(seconds), *arguments],
            input=content,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=3 * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode
