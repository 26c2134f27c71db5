"""The layer that loses unsynced writes loses them, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kills.power import Disk

OLD, NEW = b"old", b"a new content"


def worlds(root: Path, write: Callable[[Path, Disk], None]) -> set[bytes | None]:
    """Returns what stands under the name `file` after 40 losses of power, each after the same
    writes."""
    found = set()
    for seed in range(40):
        root.mkdir()
        (root / "file").write_bytes(OLD)
        disk = Disk(root)
        write(root, disk)
        disk.lose_power(seed)
        after = root.with_name(f"{root.name}.after")
        found.add((after / "file").read_bytes() if (after / "file").is_file() else None)
        for descriptor in disk.kept.values():
            os.close(descriptor)
        shutil.rmtree(root)
        shutil.rmtree(after)
    return found


def sync(disk: Disk, path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    disk.synced(descriptor)
    os.close(descriptor)


def replace(root: Path, disk: Disk, *, content: bool, folder: bool) -> None:
    partial = root / ".partial"
    disk.noted([partial])
    partial.write_bytes(NEW)
    if content:
        sync(disk, partial)
    disk.noted([partial, root / "file"])
    partial.replace(root / "file")
    if folder:
        sync(disk, root)


@pytest.mark.parametrize(
    ("content", "folder", "seen"),
    [
        pytest.param(True, True, {NEW}, id="both synced"),
        pytest.param(True, False, {OLD, NEW}, id="the folder is not: the old name"),
        pytest.param(False, True, {b"", NEW[:6], NEW}, id="the content is not: empty or torn"),
    ],
)
def test_a_replaced_file_is_what_was_synced(tmp_path: Path, content: bool, folder: bool, seen: set[bytes]) -> None:
    assert worlds(tmp_path / "disk", lambda root, disk: replace(root, disk, content=content, folder=folder)) == seen


def test_a_line_that_was_added_and_not_synced_may_be_torn(tmp_path: Path) -> None:
    def add(root: Path, disk: Disk) -> None:
        with (root / "file").open("ab") as file:
            file.write(NEW)

    assert worlds(tmp_path / "disk", add) == {OLD, OLD + NEW[:6], OLD + NEW}
