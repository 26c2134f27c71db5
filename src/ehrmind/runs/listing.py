"""Folders of runs: what they hold, and what they protect removed."""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrmind.documents import top_text
from ehrmind.files import write_json
from ehrmind.removal import Left, described
from ehrmind.runs import Run
from ehrmind.runs.folder import SEED
from ehrmind.runs.lock import only_writer
from ehrmind.runs.protected import clear, linked
from ehrmind.runs.start import PURGING
from ehrmind.system import is_full
from ehrmind.types import InputError

MADE_BY_A_RUN = ("recipe.yaml", "manifest.json", "stages", "protected", "metrics.jsonl", "results.json")


@dataclass(frozen=True)
class RunSummary:
    """A line of `ehrmind runs list`."""

    path: Path
    name: str
    stages: tuple[str, ...]
    finished: bool
    protected_bytes: int
    problem: str = ""  # why it cannot be read


def list_runs(root: Path) -> list[RunSummary]:
    """The run folders directly under `root`, by name."""
    if not root.is_dir():
        raise InputError(f"There is no folder {root}; name the one that holds your runs.")
    return [_summary(path) for path in run_folders(root)]


def purge(path: Path) -> int:
    """Remove everything a run protects (record text, rollouts, checkpoints, models), of all its seeds; figures stay. Returns the bytes
    that are gone. Raises InputError where something is left, after all else is removed; such a run is not marked as purged."""
    if not (path / "recipe.yaml").is_file() or not ((path / "manifest.json").is_file() or (path / "stages").is_dir()):
        raise InputError(f"{path} is no run folder; `ehrmind runs list FOLDER` shows those there are.")
    with only_writer(path):
        parts = [*_seeds(path), path]
        before = sum(_bytes(part) for part in parts)
        for part in parts:
            _mark_begun(part)
        left = [found for part in parts[:-1] for found in _purged(part)]
        left += _purged(path, mark=not left)
        freed = before - sum(_bytes(part) for part in parts)
        if left:
            raise InputError(
                f"{path} still holds what it protects: {described(left)} could not be removed. Gone are {freed:,} bytes; the run is not marked "
                "as purged. Mend that and give the same command again."
            )
    return freed


def _purged(part: Path, *, mark: bool = True) -> list[Left]:
    """What is left of one run folder's protected content; where nothing is, it is marked."""
    before = _bytes(part)
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
    """Whatever ends us, the run is not resumed. A disk that is too full for the mark is what a purge may be for."""
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


def _listed(part: Path) -> frozenset[str] | None:
    """What the manifest lists as protected, by its name there; None where there is no whole manifest."""
    if not _has_manifest(part):
        return None
    return frozenset(name.removeprefix("protected/") for name in Run(part).manifest.names("protected/"))


def _seeds(path: Path) -> list[Path]:
    """The folders of seeds, those too that a kill left without a recipe."""
    return [folder for folder in sorted(path.glob("seeds/*")) if SEED.fullmatch(folder.name) and folder.is_dir()]


def _summary(path: Path) -> RunSummary:
    """A line of a run folder, whatever is wrong with it."""
    name, problem, protected = "", "", 0
    stages: tuple[str, ...] = ()
    try:
        name = recipe_name(path)
        stages = tuple(mark.stem for mark in sorted((path / "stages").glob("*.json"), key=_moment))
        protected = sum(_bytes(part) for part in (path, *path.glob("seeds/*")))
    except InputError as error:
        problem = str(error)
    except (OSError, RuntimeError) as error:  # the latter: a link that leads to itself
        problem = f"{path}: {getattr(error, 'strerror', None) or type(error).__name__}."
    return RunSummary(path, name, stages, (path / "results.json").is_file(), protected, problem)


def run_folders(root: Path) -> list[Path]:
    """The folders directly under `root` that a run has made, by name: those too whose recipe is gone or broken."""
    found = []
    for path in root.iterdir():
        try:
            made = any(os.path.lexists(path / part) for part in MADE_BY_A_RUN) if path.is_dir() else False
        except OSError:
            made = True
        if made and not path.name.startswith("."):
            found.append(path)
    return sorted(found)


def recipe_name(path: Path) -> str:
    """The name in a run folder's recipe. Raises InputError where the recipe cannot be read or is none."""
    stored = path / "recipe.yaml"
    name = top_text(stored, "name")
    if name is None:
        raise InputError(f"{stored} is no recipe of a run: it has no name.")
    return name


def _moment(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _bytes(part: Path) -> int:
    """What a run folder protects, on whatever disk it lies; files that go away meanwhile do not count."""
    found = 0
    for place in {
        Path(os.path.realpath(part / "protected")),
        *linked(part / "protected"),
    }:  # a link to itself is no error here
        for here, _, files in os.walk(place):
            for name in files:
                try:
                    about = Path(here, name).lstat()
                except OSError:
                    continue
                found += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return found
