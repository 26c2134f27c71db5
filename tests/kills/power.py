"""Models a loss of power: a folder keeps only what `fsync` has put on the disk.

A file's content is on the disk as it was when the file was last synced; what was written since is
there in whole, in half or not at all. A folder's names are on the disk as they were when the folder
was last synced, or as at any later moment. Which of these worlds is seen is drawn, for each file
and folder of its own. Real file systems promise more, each something else.
"""

from __future__ import annotations

import os
import random
import resource
import stat
from dataclasses import dataclass, field
from pathlib import Path

Names = dict[str, int]  # of a folder's entries, with their inodes


@dataclass
class Disk:
    """The folder `root`, whose content so far is on the disk. Keeps every inode it knows open, so
    that no number comes again."""

    root: Path
    contents: dict[int, bytes] = field(default_factory=dict)
    names: dict[int, list[Names]] = field(default_factory=dict)
    modes: dict[int, int] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        for path in (self.root, *self.root.rglob("*")):
            self._sync(path)

    def synced(self, descriptor: int) -> None:
        """After an fsync."""
        self._sync(Path(f"/proc/self/fd/{descriptor}"))

    def noted(self, paths: list[Path]) -> None:
        """Before names change there: the names so far may be what the disk has."""
        for path in paths:
            if path.parent.is_dir():
                self._note(path.parent)

    def lose_power(self, seed: int) -> None:
        """Puts a folder next to `root`, named `.after`, that holds what is left; the one who
        started the command exchanges them."""
        draw = random.Random(seed)
        for path in (self.root, *self.root.rglob("*")):
            if path.is_dir():
                self._note(path)
            else:
                self._keep(path)
        self._write(self.root.stat().st_ino, self.root.with_name(f"{self.root.name}.after"), draw)

    def _sync(self, path: Path) -> None:
        number = self._keep(path)
        if stat.S_ISDIR(self.modes[number]):
            self.names[number] = [_names(path)]
        elif stat.S_ISREG(self.modes[number]):
            self.contents[number] = path.read_bytes()

    def _note(self, folder: Path) -> None:
        number, now = self._keep(folder), _names(folder)
        worlds = self.names.setdefault(number, [{}])  # a new folder may be found empty
        if worlds[-1] != now:
            worlds.append(now)

    def _keep(self, path: Path) -> int:
        found = path.stat()
        if found.st_ino not in self.kept:
            self.kept[found.st_ino] = os.open(path, os.O_RDONLY)
        self.modes[found.st_ino] = found.st_mode
        return found.st_ino

    def _write(self, number: int, place: Path, draw: random.Random) -> None:
        mode = self.modes.get(number, stat.S_IFREG | 0o600)
        if stat.S_ISDIR(mode):
            worlds = self.names.get(number, [{}])
            place.mkdir()
            for name, entry in sorted(draw.choice((worlds[0], worlds[-1], draw.choice(worlds))).items()):
                self._write(entry, place / name, draw)
        else:
            place.write_bytes(self._content(number, draw))
        place.chmod(stat.S_IMODE(mode))

    def _content(self, number: int, draw: random.Random) -> bytes:
        if number not in self.kept:
            return b""
        now = Path(f"/proc/self/fd/{self.kept[number]}").read_bytes()
        safe = self.contents.get(number, b"")
        if now == safe:
            return now
        written = now[len(safe) :] if now.startswith(safe) else now
        start = safe if now.startswith(safe) else b""
        return draw.choice((safe, start + written[: len(written) // 2], now))


def _names(folder: Path) -> Names:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}
