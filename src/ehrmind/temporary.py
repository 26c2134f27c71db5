"""Folders in the system's temporary directory that live as long as a command."""

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
    """Makes a folder that only its owner can open, and removes it when the block ends.

    It first removes folders of this name that killed commands left, because they may hold record
    text.
    """
    place = Path(tempfile.gettempdir()) / name
    clear_leftovers(place.parent, place.name)
    made, held = held_sibling(place, 0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(held)
