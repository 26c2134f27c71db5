"""Removes files and folders that we made, and checks that they are gone. What is left is returned
with its reason."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Left = tuple[Path, str]  # what is still there, and why


def remove(path: Path) -> list[Left]:
    """Removes a file, a link (never its target) or a folder with everything in it. Returns what is
    left."""
    if not os.path.lexists(path):
        return []
    if path.is_symlink() or not path.is_dir():
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            return [(path, _why(error))]
        return []
    left = _removed(path)
    if left:
        # a folder of ours that we may not write in, such as one from a read-only copy
        _open_for_us(path)
        left = _removed(path)
    return left


def remove_contents(folder: Path) -> list[Left]:
    """Removes everything in a folder, and keeps the folder."""
    return [left for path in sorted(folder.iterdir()) for left in remove(path)]


def described(left: Sequence[Left]) -> str:
    """Names what is left: the first path with its reason, and how many more there are."""
    path, why = left[0]
    return f"{path} ({why})" + (f" and {len(left) - 1:,} more" if len(left) > 1 else "")


def say_left(left: Sequence[Left]) -> None:
    """Reports what is left on standard error, for commands that go on without it."""
    if left:
        sys.stderr.write(f"not removed: {described(left)}\n")


def _removed(folder: Path) -> list[Left]:
    """Removes a folder with `shutil.rmtree`, which follows no link that is put in its way
    meanwhile."""
    failed: list[Left] = []

    def note(_: Any, path: str, error: Any) -> None:
        why = error if isinstance(error, BaseException) else error[1]
        failed.append((Path(path), _why(why)))

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=note)
    else:
        shutil.rmtree(folder, onerror=note)
    still = [(path, why) for path, why in failed if os.path.lexists(path)]
    above = {parent for path, _ in still for parent in path.parents}
    # a folder is left because of its content, so only the content is named
    named = {path: why for path, why in still if path not in above}
    return list(named.items()) or ([(folder, "it is still there")] if os.path.lexists(folder) else [])


def _open_for_us(folder: Path) -> None:
    for place, _, _ in os.walk(folder, onerror=None):
        mode = stat.S_IMODE(os.lstat(place).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            try:
                Path(place).chmod(mode | stat.S_IRWXU)
            except OSError:
                continue


def _why(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
