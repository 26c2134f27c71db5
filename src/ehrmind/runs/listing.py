"""Folders of runs: what they hold, and what they protect removed."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from ehrmind.runs import Run
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
    """Remove everything a run protects (record text, rollouts, checkpoints, models); figures stay. Returns the bytes freed."""
    if not (path / "recipe.yaml").is_file():
        raise InputError(f"{path} is no run folder; `ehrmind runs list FOLDER` shows those there are.")
    run = Run(path)
    freed = sum(purge(part.path) for part in run.seeds()) + _bytes(path / "protected")
    facts = {"time": round(time.time(), 3), "bytes": freed}
    run.manifest.record_purge("protected/", facts)
    shutil.rmtree(path / "protected", ignore_errors=True)
    run.write_json("stages/purged.json", facts)
    return freed


def _summary(path: Path) -> RunSummary:
    recipe = yaml.safe_load((path / "recipe.yaml").read_text(encoding="utf-8"))
    stages = sorted((path / "stages").glob("*.json"), key=lambda mark: mark.stat().st_mtime)
    protected = sum(_bytes(folder) for folder in (path / "protected", *path.glob("seeds/*/protected")))
    return RunSummary(path, recipe["name"], tuple(m.stem for m in stages), (path / "results.json").is_file(), protected)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
