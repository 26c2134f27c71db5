"""Folders of runs: what they hold, and what they protect removed."""

from __future__ import annotations

import json
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ehrmind.files import write_json
from ehrmind.removal import Left, told
from ehrmind.runs import Run
from ehrmind.runs.lock import only_writer
from ehrmind.runs.protected import clear, linked
from ehrmind.runs.start import PURGING
from ehrmind.types import InputError


@dataclass(frozen=True)
class RunSummary:
    """A line of `ehrmind runs list`."""

    path: Path
    name: str
    stages: tuple[str, ...]
    finished: bool
    protected_bytes: int


def list_runs(root: Path) -> list[RunSummary]:
    """The run folders directly under `root`, by name."""
    if not root.is_dir():
        raise InputError(f"There is no folder {root}; name the one that holds your runs.")
    return [_summary(stored.parent) for stored in sorted(root.glob("*/recipe.yaml"))]


def purge(path: Path) -> int:
    """Remove everything a run protects (record text, rollouts, checkpoints, models), of all its seeds; figures stay. Returns the bytes
    that are gone. Raises InputError where something is left, after all else is removed; such a run is not marked as purged."""
    if not (path / "recipe.yaml").is_file() or not ((path / "manifest.json").is_file() or (path / "stages").is_dir()):
        raise InputError(f"{path} is no run folder; `ehrmind runs list FOLDER` shows those there are.")
    with only_writer(path):
        parts = [*_seeds(path), path]
        before = sum(_bytes(part) for part in parts)
        for part in parts:
            _mark(part, PURGING, {"time": round(time.time(), 3)})  # whatever ends us, it is not resumed
        left = [found for part in parts[:-1] for found in _purged(part)]
        left += _purged(path, mark=not left)
        freed = before - sum(_bytes(part) for part in parts)
        if left:
            raise InputError(
                f"{path} still holds what it protects: {told(left)} could not be removed. Gone are {freed:,} bytes; the run is not marked "
                "as purged. Mend that and give the same command again."
            )
    return freed


def _purged(part: Path, *, mark: bool = True) -> list[Left]:
    """What is left of one run folder's protected content; where nothing is, it is marked."""
    before = _bytes(part)
    facts = {"time": round(time.time(), 3), "bytes": _purged_before(part) + before}
    left = clear(part / "protected")
    if mark and not left:
        if _has_manifest(part):
            Run(part).manifest.record_purge("protected/", facts)
        _mark(part, "purged", facts)
        if _has_manifest(part):
            Run(part).remove(f"stages/{PURGING}.json")
        (part / "stages" / f"{PURGING}.json").unlink(missing_ok=True)
    return left


def _mark(part: Path, name: str, facts: dict[str, Any]) -> None:
    if _has_manifest(part):
        Run(part).write_json(f"stages/{name}.json", facts)
    else:
        (part / "stages").mkdir(exist_ok=True)
        write_json(part / "stages" / f"{name}.json", facts)


def _purged_before(part: Path) -> int:
    """Bytes that an earlier purge removed."""
    mark = part / "stages" / "purged.json"
    try:
        return int(json.loads(mark.read_text(encoding="utf-8"))["bytes"]) if mark.is_file() else 0
    except (ValueError, LookupError, TypeError):
        return 0


def _has_manifest(part: Path) -> bool:
    """Whether there is a manifest to keep; a run of an earlier version, or a damaged one, can be purged too."""
    try:
        Run(part).manifest.read()
    except InputError:
        return False
    return True


def _seeds(path: Path) -> list[Path]:
    """The folders of seeds, those too that a kill left without a recipe."""
    return [folder for folder in sorted(path.glob("seeds/*")) if folder.name.isdecimal() and folder.is_dir()]


def _summary(path: Path) -> RunSummary:
    recipe = yaml.safe_load((path / "recipe.yaml").read_text(encoding="utf-8"))
    stages = sorted((path / "stages").glob("*.json"), key=lambda mark: mark.stat().st_mtime)
    protected = sum(_bytes(part) for part in (path, *path.glob("seeds/*")))
    return RunSummary(path, recipe["name"], tuple(m.stem for m in stages), (path / "results.json").is_file(), protected)


def _bytes(part: Path) -> int:
    """What a run folder protects, on whatever disk it lies."""
    places = {(part / "protected").resolve(), *linked(part / "protected")}
    found = (path.lstat() for place in places for path in place.rglob("*"))
    return sum(file.st_size for file in found if stat.S_ISREG(file.st_mode))
