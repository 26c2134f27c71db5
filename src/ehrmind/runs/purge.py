"""Purging a run: removes for good what it protects; its figures stay."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ehrmind.files import write_json
from ehrmind.removal import Left, described
from ehrmind.runs import Run
from ehrmind.runs.folder import SEED
from ehrmind.runs.index import protected_bytes
from ehrmind.runs.lock import only_writer
from ehrmind.runs.protected import clear
from ehrmind.runs.start import PURGING
from ehrmind.system import is_full
from ehrmind.types import InputError


def purge(path: Path) -> int:
    """Removes everything that a run and its seeds protect: record text, rollouts, checkpoints,
    models. Returns the bytes removed. Raises InputError if something is left, after everything else
    is removed; such a run is not marked as purged."""
    if not (path / "recipe.yaml").is_file() or not ((path / "manifest.json").is_file() or (path / "stages").is_dir()):
        raise InputError(f"{path} is no run folder; `ehrmind runs list FOLDER` shows those there are.")
    with only_writer(path):
        parts = [*_seeds(path), path]
        before = sum(protected_bytes(part) for part in parts)
        for part in parts:
            _mark_begun(part)
        left = [found for part in parts[:-1] for found in _purged(part)]
        left += _purged(path, mark=not left)
        freed = before - sum(protected_bytes(part) for part in parts)
        if left:
            raise InputError(
                f"{path} still holds what it protects: {described(left)} could not be removed. Gone are {freed:,}"
                " bytes; the run is not marked as purged. Mend that and give the same command again."
            )
    return freed


def _purged(part: Path, *, mark: bool = True) -> list[Left]:
    """Clears one run folder and returns what is left. If nothing is, the folder is marked as
    purged."""
    before = protected_bytes(part)
    facts = {"time": round(time.time(), 3), "bytes": _purged_before(part) + before}
    left = clear(part / "protected", _listed(part))
    if mark and not left:
        if _has_manifest(part):
            Run(part).manifest.record_purge("protected/", facts)
        _mark(part, "purged", facts)
        if _has_manifest(part):
            Run(part).remove(f"stages/{PURGING}.json")
        (part / "stages" / f"{PURGING}.json").unlink(missing_ok=True)
    return left


def _mark_begun(part: Path) -> None:
    """Marks the purge as begun, so that the run is never resumed, even after a kill. On a full disk
    it goes on without the mark."""
    try:
        _mark(part, PURGING, {"time": round(time.time(), 3)})
    except OSError as error:
        if not is_full(error):
            raise


def _mark(part: Path, name: str, facts: dict[str, Any]) -> None:
    if _has_manifest(part):
        Run(part).write_json(f"stages/{name}.json", facts)
    else:
        (part / "stages").mkdir(exist_ok=True)
        write_json(part / "stages" / f"{name}.json", facts)


def _purged_before(part: Path) -> int:
    """Returns the bytes that an earlier purge removed."""
    mark = part / "stages" / "purged.json"
    try:
        return int(json.loads(mark.read_text(encoding="utf-8"))["bytes"]) if mark.is_file() else 0
    except (ValueError, LookupError, TypeError):
        return 0


def _has_manifest(part: Path) -> bool:
    """Tells whether there is a whole manifest. A run without one can be purged too."""
    try:
        Run(part).manifest.read()
    except InputError:
        return False
    return True


def _listed(part: Path) -> frozenset[str] | None:
    """Returns the names that the manifest lists under `protected/`; None if there is no whole
    manifest."""
    if not _has_manifest(part):
        return None
    return frozenset(name.removeprefix("protected/") for name in Run(part).manifest.names("protected/"))


def _seeds(path: Path) -> list[Path]:
    """Returns the folders of seeds, including those that a kill left without a recipe."""
    return [folder for folder in sorted(path.glob("seeds/*")) if SEED.fullmatch(folder.name) and folder.is_dir()]
