"""Folders for the time of a command, among the system's temporary ones, that do not outlive it by much."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ehrmind.files import clear_leftovers, held_sibling


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder that its owner alone can open, gone when the block ends. Those of this name that killed commands left go first: they may
    hold record text."""
    place = Path(tempfile.gettempdir()) / name
    clear_leftovers(place.parent, place.name)
    made, held = held_sibling(place, 0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(held)
