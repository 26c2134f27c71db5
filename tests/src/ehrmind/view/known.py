"""Which runs a view serves: those that stand in its folder when they are asked for, by name. Names are looked up, never made a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ehrmind.runs import Run
from ehrmind.types import InputError


def known_runs(root: Path) -> dict[str, Run]:
    """Runs by id: the folder's name, and `NAME/seeds/SEED` for those of several seeds. `root` may be a run folder itself."""
    if (root / "recipe.yaml").is_file():
        tops = [root.resolve()]
    elif root.is_dir():
        tops = [stored.parent for stored in sorted(root.glob("*/recipe.yaml"))]
    else:
        raise InputError(f"There is no folder {root}; name the one that holds your runs, or one run.")
    found = {}
    for top in tops:
        found[top.name] = Run(top)
        found |= {f"{top.name}/seeds/{part.path.name}": part for part in Run(top).seeds()}
    return found


def run_of(root: Path, name: str) -> Run:
    """Raises InputError for a name that is not among the known ones."""
    run = known_runs(root).get(name)
    if run is None:
        raise InputError("There is no run of this name in the folder that is shown; the list of runs names those there are.")
    return run


def described(name: str, run: Run) -> dict[str, Any]:
    """A line of the list of runs."""
    stages = sorted((_moment(mark), mark.stem) for mark in (run.path / "stages").glob("*.json"))
    written = [_moment(run.path / "metrics.jsonl"), _moment(run.rollouts), *(moment for moment, _ in stages)]
    if (run.path / "stages" / "purged.json").is_file():
        state = "purged"
    else:
        state = "finished" if (run.path / "results.json").is_file() else "not finished"
    return {
        "id": name,
        "name": _name(run.path / "recipe.yaml"),
        "state": state,
        "stages": [stage for _, stage in stages if stage != "purged"],
        "seeds": [part.path.name for part in run.seeds()],
        "written": max(written) or None,
    }


def why_none(run: Run) -> str:
    """Why a run has no rollouts."""
    if (run.path / "stages" / "purged.json").is_file():
        return "This run was purged: its rollouts, cases and models are gone, its figures stay."
    if run.seeds():
        return "This run pools several seeds; the rollouts are those of each seed, named above."
    return "No rollouts are written yet."


def _moment(path: Path) -> float:
    """When it was written last, in seconds since 1970; 0 where there is nothing, or nothing any more."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _name(recipe: Path) -> str:
    """One broken recipe must not hide the other runs."""
    try:
        return str(yaml.safe_load(recipe.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return "(its recipe cannot be read)"
