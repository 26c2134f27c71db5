"""Folders that only their user can open and that live as long as a run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_folder(name: str, place: Path) -> Iterator[Path]:
    """Makes a folder of this process in `place`, mode 0700, and removes it when the block ends.

    It also removes folders of this name that killed processes of ours left there, because they may
    hold record text.
    """
    import psutil

    for left in place.glob(f"{name}-*-*"):
        pid = left.name.removeprefix(f"{name}-").partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)) and left.stat().st_uid == os.getuid():
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-", dir=place))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
