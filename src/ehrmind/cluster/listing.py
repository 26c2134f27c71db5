"""Manifests for a copy in an object store, while the run goes on writing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from ehrmind.runs.contents import Contents, Listed
from ehrmind.runs.manifest import NAME, Manifest

# by name within the folder: the run's manifest and those of its seeds
Manifests = Mapping[str, Contents]


def is_manifest(name: str) -> bool:
    return name.rpartition("/")[2] == NAME


def manifests(folder: Path) -> dict[str, Contents]:
    """Reads the manifests of a run and of its seeds. Raises InputError for a damaged one."""
    roots = (folder, *sorted(folder.glob("seeds/*")))
    return {
        root.relative_to(folder).joinpath(NAME).as_posix(): Manifest(root).read()
        for root in roots
        if (root / NAME).is_file()
    }


def replacing(there: Manifests, now: Manifests) -> dict[str, Contents]:
    """Returns the manifests to write there before any file they list is replaced: the old entries
    and the coming ones."""
    found = {}
    for name, contents in now.items():
        old = there.get(name, Contents()).files
        changed = {_whole(listed) for listed, stored in contents.files.items() if old.get(listed, stored) != stored}
        if changed:
            found[name] = Contents(
                dict(old), {whole: _under(whole, contents.files) for whole in changed}, contents.purged
            )
    return found


def steady(before: Manifests, after: Manifests, there: Collection[str]) -> dict[str, Contents]:
    """Returns the final manifests: files listed before the upload that are there and have not
    changed meanwhile."""
    found = {}
    for name, contents in before.items():
        root, now = name.removesuffix(NAME), after.get(name, Contents())
        unsteady = {
            _whole(listed)
            for listed, stored in contents.files.items()
            if now.files.get(listed) != stored or root + listed not in there
        }
        unsteady |= set(now.replacing)
        kept = {listed: stored for listed, stored in contents.files.items() if _whole(listed) not in unsteady}
        found[name] = Contents(kept, {}, contents.purged)
    return found


def _whole(listed: str) -> str:
    """Returns the unit that is replaced as one: a model's or a checkpoint's folder, or else the
    file."""
    parts = listed.split("/")
    depth = {"models": 3, "checkpoints": 4}.get(parts[1], 0) if parts[0] == "protected" and len(parts) > 3 else 0
    return "/".join(parts[:depth]) if depth else listed


def _under(whole: str, files: Listed) -> Listed:
    return {listed: stored for listed, stored in files.items() if listed == whole or listed.startswith(f"{whole}/")}
