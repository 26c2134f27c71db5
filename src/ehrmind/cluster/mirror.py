"""Keeps a run folder in an object store (any URL that fsspec reaches), from which a new cluster can
start.

Whole files are uploaded first, then the manifest that lists them; removed files are deleted last.
Before a listed file is replaced, the manifest announces its new content. So whatever is under the
URL at any time can be resumed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from ehrmind.cluster.lease import leased, refuse_taken
from ehrmind.cluster.listing import is_manifest, manifests, replacing, steady
from ehrmind.cluster.private import private_folder
from ehrmind.files import write_bytes, writing
from ehrmind.runs.contents import Contents, written
from ehrmind.types import InputError

SECONDS_BETWEEN_LOOKS = 0.5
ROUNDS = 3  # rounds of looking for changes during the upload; the rest waits for the next push


def is_url(out: str) -> bool:
    return "://" in out


class Mirror:
    """The files under a URL. Raises InputError if its kind of store cannot be used here."""

    def __init__(self, url: str, owner: str = "") -> None:
        from fsspec.core import url_to_fs

        try:
            self._store, self._root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"{url} cannot be used: {' '.join(str(error).split())}.") from None
        self.url = url
        self._owner = owner  # owner of the lease that we write under
        # by name: size and time of the files that are there
        self._known: dict[str, tuple[int, int]] = {}
        self._listed: dict[str, Contents] = {}  # by name: the manifests that are there
        self._lock = threading.Lock()

    @contextmanager
    def leased(self) -> Iterator[str]:
        """Keeps other processes from writing there until the block ends; yields the owner's name,
        for the workers. Raises InputError."""
        with leased(self.url, self._store, self._root) as owner:
            self._owner = owner
            yield owner

    def is_empty(self) -> bool:
        return not self._names()

    def pull(self, folder: Path, under: str = "") -> None:
        """Fetches everything that is there, or what is `under` a name."""
        for name in self._names():
            if name.startswith(under):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                self._store.get_file(f"{self._root}/{name}", str(folder / name))
                self._known[name] = _stamp(folder / name)
        self._listed |= {name: found for name, found in manifests(folder).items() if name.startswith(under)}
        # a store has no empty folders
        for stored in (folder / "recipe.yaml", *folder.glob("seeds/*/recipe.yaml")):
            for made in ("stages", *(f"protected/{kind}" for kind in ("cases", "rollouts", "checkpoints", "models"))):
                (stored.parent / made).mkdir(parents=True, exist_ok=True)
            (stored.parent / "protected").chmod(0o700)

    def push(self, folder: Path) -> None:
        """Makes the copy equal to the folder: uploads what is new or changed, removes what is
        gone."""
        with self._lock:
            if self._owner:
                refuse_taken(self.url, self._store, self._root, self._owner)
            for _ in range(ROUNDS):
                before = manifests(folder)
                for name, pending in replacing(self._listed, before).items():
                    self._put_manifest(name, pending)
                here = self._put_files(folder)
                after = manifests(folder)
                if after == before:
                    break
            for name, found in steady(before, after, self._known.keys()).items():
                if self._listed.get(name) != found:
                    self._put_manifest(name, found)
            gone = (self._known.keys() | self._listed.keys()) - here
            for _, name in sorted(((_counts(name), name) for name in gone), reverse=True):
                with suppress(FileNotFoundError):  # it was removed by a push whose answer was lost
                    self._store.rm_file(f"{self._root}/{name}")
                self._known.pop(name, None)
                self._listed.pop(name, None)

    def _put_files(self, folder: Path) -> set[str]:
        """Uploads every new or changed file except manifests; returns all names."""
        names = {name for path in folder.rglob("*") if path.is_file() and (name := _name(path, folder))}
        for _, name in sorted((_counts(name), name) for name in names if not is_manifest(name)):
            try:
                stamp = _stamp(folder / name)
                if self._known.get(name) != stamp:
                    self._put(folder / name, name)
                    self._known[name] = stamp
            except FileNotFoundError:  # an old checkpoint, removed meanwhile
                continue
        return names

    def _put_manifest(self, name: str, contents: Contents) -> None:
        """Writes a manifest whole: an object store shows an object whole or not at all; a local
        folder needs a rename."""
        there = f"{self._root}/{name}"
        self._store.makedirs(there.rpartition("/")[0], exist_ok=True)
        if getattr(self._store, "local_file", False):
            write_bytes(Path(there), written(contents))
        else:
            self._store.pipe_file(there, written(contents))
        self._listed[name] = contents

    def _put(self, file: Path, name: str) -> None:
        there, (run, protected, _) = f"{self._root}/{name}", name.partition("protected/")
        self._store.makedirs(there.rpartition("/")[0], exist_ok=True)
        if protected and getattr(self._store, "local_file", False):
            # As in a run folder. In an object store, its own rules say who may read.
            Path(f"{self._root}/{run}protected").chmod(0o700)
        if not getattr(self._store, "local_file", False):
            self._store.put_file(str(file), there)
            return
        with file.open("rb") as source, writing(Path(there), private=bool(protected)) as target:
            while block := source.read(1 << 20):
                target.write(block)

    def _names(self) -> list[str]:
        self._store.invalidate_cache()
        names = (found.removeprefix(self._root).strip("/") for found in self._store.find(self._root))
        return sorted(name for name in names if _is_whole(name))


@contextmanager
def kept(mirror: Mirror, folder: Path) -> Iterator[None]:
    """Pushes the folder at each checkpoint and stage end, in parallel with the work, and once more
    when the block ends without error."""
    over, before, failed = threading.Event(), _milestones(folder), ""

    def watch() -> None:
        # another process has replaced us; the next push in the main thread reports it
        with suppress(InputError):
            look()

    def look() -> None:
        nonlocal before, failed
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            now = _milestones(folder)
            if now != before or failed:
                try:
                    mirror.push(folder)
                    before, failed = now, ""
                except InputError:
                    raise
                except Exception as error:  # noqa: BLE001 - each kind of store has errors of its own
                    if not failed:
                        sys.stderr.write(
                            f"{mirror.url} could not be written ({type(error).__name__}); it is tried again\n"
                        )
                    failed = type(error).__name__

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        over.set()
        thread.join()
        if before:  # a run that is refused at its start leaves nothing there
            with suppress(Exception):
                mirror.push(folder)
        raise
    over.set()
    thread.join()
    mirror.push(folder)


@contextmanager
def staged(url: str, owner: str | None = None) -> Iterator[tuple[Path, Mirror, str]]:
    """Yields a private folder on this machine with a copy of what is under the URL; gone when the
    block ends.

    A command leases the URL; its workers get the `owner` of that lease. Raises InputError if
    another command has it.
    """
    mirror = Mirror(url, owner or "")
    # RAY_TMPDIR is a local cluster's own folder, which is removed with it
    place = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    with (
        mirror.leased() if owner is None else nullcontext(owner) as named,
        private_folder("ehrmind-run", Path(place)) as made,
    ):
        folder = made / "run"
        folder.mkdir()
        if not mirror.is_empty():
            mirror.pull(folder)
        yield folder, mirror, named


def _milestones(folder: Path) -> frozenset[tuple[Path, int]]:
    """Returns what the run, or one of its seeds, can be resumed from, and the scorings of held-out
    cases.

    Scorings count even if the run is killed.
    """
    runs, marks = (folder, *folder.glob("seeds/*")), ("stages/*.json", "protected/checkpoints/*/step-*/progress.json")
    found = {(path, 0) for run in runs for mark in marks for path in run.glob(mark)}
    scorings = (run / "held_out_scorings.jsonl" for run in runs)
    return frozenset(found | {(path, path.stat().st_size) for path in scorings if path.is_file()})


def _counts(name: str) -> int:
    """1 for files that must be uploaded after the files they vouch for, else 0."""
    parts = name.split("/")
    return int(parts[-1] == "progress.json" or "stages" in parts[:-1] or parts[-1] in ("results.json", "recipe.yaml"))


def _name(path: Path, folder: Path) -> str:
    """Returns the name within the folder; "" for what is not whole yet."""
    name = path.relative_to(folder).as_posix()
    return name if _is_whole(name) else ""


def _is_whole(name: str) -> bool:
    return ".partial" not in name and not any(part.startswith(".") for part in name.split("/"))


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
