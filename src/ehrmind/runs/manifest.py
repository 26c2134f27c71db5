"""The manifest of a folder: digest and size of every stored file, and a digest of the manifest
itself.

    {"digest": "…", "version": 1, "purged": null, "replacing": {},
     "files": {"results.json": {"sha256": "…", "bytes": 812}}}

A file is written first, then the whole manifest. A file that is not listed counts as never written.
Before a listed file is replaced, `replacing` names the new content, so that a kill leaves either
the old or the new file, and `settle` finds out which. A removal unlists first. A write costs two
flushes to the disk, however many files are listed: no old file is read again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ehrmind.files import (
    Stored,
    clear_leftovers,
    make_folder,
    replace_folder,
    stored,
    stored_bytes,
    sync_tree,
    take_from_others,
    write_bytes,
    writing,
)
from ehrmind.removal import remove as remove_path
from ehrmind.removal import say_left
from ehrmind.runs.contents import Contents, Fault, Listed, as_json, parsed, written
from ehrmind.types import InputError

NAME = "manifest.json"


@dataclass
class Manifest:
    """Reads and writes the manifest of the folder `root`. Only the owner can read files whose name
    begins with one of `private`."""

    root: Path
    private: tuple[str, ...] = ("protected/",)
    _seen: tuple[tuple[int, ...], Contents] | None = field(default=None, repr=False)
    _held: list[int] | None = field(default=None, repr=False)  # descriptors that hold the lock, inside `_alone`

    @property
    def file(self) -> Path:
        return self.root / NAME

    def create(self, *names: str) -> None:
        """Begins a manifest that lists the files and folders of these names."""
        self._write(Contents({name: found for name in names for name, found in self._lying(name).items()}))

    def read(self) -> Contents:
        """Reads the manifest. Raises InputError if there is none, or a damaged one."""
        try:
            if self._seen is not None and self._seen[0] == _stamp(self.file):
                return self._seen[1]
            if not self.file.is_file() and os.path.lexists(self.file):
                raise InputError(f"{self.file} is no regular file; restore it from a copy, or choose another --out.")
            with self.file.open("rb") as file:
                stamp, raw = _stamp(file.fileno()), file.read()
        except FileNotFoundError:
            raise InputError(
                f"{self.root} has no {NAME}: it was made by an earlier version of ehrmind, which stored no digests, or"
                " the file was removed. Restore it from a copy, go on with the version that made the folder, or choose"
                " another --out."
            ) from None
        self._seen = stamp, parsed(raw, self.file)
        return self._seen[1]

    def names(self, prefix: str = "") -> list[str]:
        """Lists the names in order."""
        return sorted(name for name in self.read().files if name.startswith(prefix))

    def holds(self, name: str) -> bool:
        return name in self.read().files

    def put(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all, and lists it. Replaces what was listed there."""
        path, new = self.root / name, {name: stored_bytes(content)}
        with self._alone():
            self._announce(name, new)
            private = name.startswith(self.private)
            make_folder(path.parent, private=private)
            write_bytes(path, content, private=private)
            self._list(name, new)

    def put_folder(self, name: str, made: Path) -> None:
        """Renames a whole folder on the same disk to its place and lists its files. Replaces what
        was there."""
        new = {f"{name}/{part}": found for part, found in _files(made)}
        if name.startswith(self.private):
            take_from_others(made)
        sync_tree(made)
        with self._alone():
            self._announce(name, new)
            make_folder((self.root / name).parent, private=name.startswith(self.private))
            replace_folder(made, self.root / name)
            self._list(name, new)

    def add(self, *names: str) -> None:
        """Lists files and folders that others wrote."""
        new = {name: self._lying(name) for name in names}  # read before others have to wait
        for name in names:
            if name.startswith(self.private):
                take_from_others(self.root / name)
        with self._alone():
            self._change(lambda found: _place_all(found, new))

    def remove(self, *names: str) -> None:
        """Unlists files and folders, then removes them."""
        with self._alone():
            if any(_under(name, listed) for name in names for listed in self.read().files):
                self._change(lambda found: _place_all(found, {name: {} for name in names}))
            say_left([left for name in names for left in remove_path(self.root / name)])

    def record_purge(self, prefix: str, facts: Mapping[str, Any]) -> None:
        """Records that everything listed under `prefix` was removed for good."""

        def purge(found: Contents) -> None:
            gone = {name: there for name, there in found.files.items() if name.startswith(prefix)}
            before = (found.purged or {}).get("files", {})
            found.purged = {**facts, "files": {**before, **as_json(gone)}}
            found.files = {name: there for name, there in found.files.items() if name not in gone}
            found.replacing = {name: new for name, new in found.replacing.items() if not name.startswith(prefix)}

        with self._alone():
            self._change(purge)

    def settle(self) -> None:
        """Finds out, after a kill, whether the old or the new file stands where one was being
        replaced. Leftovers must be cleared before."""
        pending = self.read().replacing
        if pending:
            lying = {name: _safely(self._lying, name) for name in pending}

            def choose(found: Contents) -> None:
                for name, new in list(found.replacing.items()):
                    if lying[name] == new:
                        _place(found, name, new)
                found.replacing = {}

            with self._alone():
                self._change(choose)

    def read_bytes(self, name: str) -> bytes:
        """Reads a listed file. Raises InputError if it is not what was stored."""
        for last in (False, True):
            expected = self._expected(name)
            content = _regular(self.root / name, {one.bytes for one in expected})
            if content is not None and stored_bytes(content) in expected:
                return content
            if last:
                raise InputError(self.said(Fault(name, "damaged" if os.path.lexists(self.root / name) else "gone")))
            self._seen = None  # a living run may just have replaced it
        raise AssertionError

    def prove(self, *names: str, told: Callable[[str, int], None] | None = None) -> None:
        """Raises InputError naming the first listed file, among these files and folders, that is
        not what was stored."""
        for name in names:
            for fault in self.faults(name, told=told):
                raise InputError(self.said(fault))

    def faults(self, under: str = "", told: Callable[[str, int], None] | None = None) -> Iterator[Fault]:
        """Yields every listed file that is gone or damaged, of all or `under` a folder. `told` is
        called with each name and size before the file is read."""
        files = self.read().files
        for name, there in [(under, files[under])] if under in files else sorted(files.items()):
            if under and not _under(under, name):
                continue
            if told:
                told(name, there.bytes)
            fault = self._fault(name)
            if fault is not None and self._changed_meanwhile(name):
                fault = self._fault(name)
            if fault is not None:
                yield fault

    def said(self, fault: Fault) -> str:
        """Describes a fault in a sentence, for commands that only read."""
        what = {"gone": "is gone", "damaged": "is damaged: its content is not what was stored"}.get(
            fault.what, "is not listed"
        )
        return (
            f"{self.root / fault.name} {what}; restore it from a copy, or go on with the command that made it and"
            " --resume, which makes again what can be made again."
        )

    def _fault(self, name: str) -> Fault | None:
        path, expected = self.root / name, self._expected(name)
        if not expected:
            return None
        try:
            if path.is_symlink() or not path.is_file():
                return Fault(name, "gone" if not os.path.lexists(path) else "damaged")
            whole = path.stat().st_size in {one.bytes for one in expected} and stored(path) in expected
        except FileNotFoundError:
            return Fault(name, "gone")
        return None if whole else Fault(name, "damaged")

    def _expected(self, name: str) -> list[Stored]:
        """Returns the contents that the file may have: two while it is being replaced, none if it
        is not listed (any more)."""
        found = self.read()
        new = [files[name] for files in found.replacing.values() if name in files]
        return [*([found.files[name]] if name in found.files else []), *new]

    def _changed_meanwhile(self, name: str) -> bool:
        before, self._seen = self._expected(name), None
        return self._expected(name) != before

    def _announce(self, name: str, new: Listed) -> None:
        if any(_under(name, listed) for listed in self.read().files):
            self._change(lambda found: found.replacing.update({name: new}))

    def _list(self, name: str, new: Listed) -> None:
        self._change(lambda found: _place(found, name, new))

    def _lying(self, name: str) -> Listed:
        path = self.root / name
        return {f"{name}/{part}": found for part, found in _files(path)} if path.is_dir() else {name: stored(path)}

    def _change(self, act: Callable[[Contents], object]) -> None:
        found = self.read()
        copy = Contents(dict(found.files), dict(found.replacing), found.purged)
        act(copy)
        self._write(copy)

    def _write(self, contents: Contents) -> None:
        with writing(self.file, private=NAME.startswith(self.private)) as file:
            file.write(written(contents))
            if self._held is not None:  # `writing` locks its file; a second descriptor keeps that lock
                self._held.append(os.dup(file.fileno()))
        self._seen = _stamp(self.file), contents

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Allows one writer at a time: the run itself, or a command that adds a page meanwhile. The
        lock is on the manifest's file. A write replaces that file and holds the new one too until
        the block ends; a process that waited opens it again."""
        clear_leftovers(self.root, NAME)
        while True:
            self.read()
            descriptor = os.open(self.file, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:  # a file system without such locks; the run's own lock must suffice
                pass
            if self.file.exists() and _stamp(descriptor) == _stamp(self.file):
                break
            os.close(descriptor)
        self._held = [descriptor]
        try:
            yield
        finally:
            held, self._held = self._held, None
            for one in held:
                os.close(one)


def _place_all(found: Contents, new: Mapping[str, Listed]) -> None:
    for name, files in new.items():
        _place(found, name, files)


def _place(contents: Contents, name: str, new: Listed) -> None:
    """Lists `new` in place of everything listed as `name` or under it."""
    for listed in [listed for listed in contents.files if _under(name, listed)]:
        del contents.files[listed]
    contents.replacing.pop(name, None)
    contents.files.update(new)


def _under(name: str, listed: str) -> bool:
    return listed == name or listed.startswith(name.rstrip("/") + "/")


def _files(folder: Path) -> Iterable[tuple[str, Stored]]:
    return [(path.relative_to(folder).as_posix(), stored(path)) for path in sorted(folder.rglob("*")) if path.is_file()]


def _safely(find: Callable[[str], Listed], name: str) -> Listed | None:
    try:
        return find(name)
    except OSError:
        return None


def _regular(path: Path, sizes: Iterable[int]) -> bytes | None:
    """Reads a regular file that has one of the sizes. A pipe, a link to itself or a file that has
    grown is not even opened."""
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size in sizes else None
    except (FileNotFoundError, RuntimeError):
        return None


def _stamp(file: Path | int) -> tuple[int, ...]:
    found = os.fstat(file) if isinstance(file, int) else file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
