"""The index of runs: the run folders in a folder, each with its name, its stages and what it
protects."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ehrmind.documents import top_text
from ehrmind.runs.protected import linked
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
    problem: str = ""  # the reason why it cannot be read


def list_runs(root: Path) -> list[RunSummary]:
    """Lists the run folders directly under `root`, by name. Raises InputError if there is no such
    folder."""
    if not root.is_dir():
        raise InputError(f"There is no folder {root}; name the one that holds your runs.")
    return [_summary(path) for path in run_folders(root)]


def _summary(path: Path) -> RunSummary:
    """Summarizes a run folder. A broken one has a `problem`."""
    name, problem, protected = "", "", 0
    stages: tuple[str, ...] = ()
    try:
        name = recipe_name(path)
        stages = tuple(mark.stem for mark in sorted((path / "stages").glob("*.json"), key=_moment))
        protected = sum(protected_bytes(part) for part in (path, *path.glob("seeds/*")))
    except InputError as error:
        problem = str(error)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        problem = f"{path}: {getattr(error, 'strerror', None) or type(error).__name__}."
    return RunSummary(path, name, stages, (path / "results.json").is_file(), protected, problem)


def run_folders(root: Path) -> list[Path]:
    """Returns the run folders directly under `root`, by name, including those whose recipe is gone
    or broken."""
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
    """Returns the name in a run folder's recipe. Raises InputError if the recipe cannot be read or
    is none."""
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


def protected_bytes(part: Path) -> int:
    """Counts the bytes under `protected/`, on any disk. Files that disappear meanwhile do not
    count."""
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
