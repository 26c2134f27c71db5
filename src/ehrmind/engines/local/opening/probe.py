"""A script of this room run in a process of its own, which has neither our packages nor our memory and ends in bounded time."""

from __future__ import annotations

import subprocess
import sys


def ended(script: str, content: bytes, seconds: int, *arguments: str) -> int | None:
    """Returns the exit status of a script that reads `content`, negative where the system ended it; None after three times the `seconds`
    of processor time that the script is told to allow itself."""
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
