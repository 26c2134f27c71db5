"""The runs that a view serves, by name. A name is looked up and never becomes a path."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TypedDict

from ehrmind.runs import Run
from ehrmind.runs.index import recipe_name, run_folders
from ehrmind.types import InputError


class ListedRun(TypedDict):
    """A line of the list of runs; `written` is in seconds since 1970."""

    id: str
    name: str
    state: str
    stages: list[str]
    seeds: list[str]
    written: float | None


def known_runs(root: Path) -> dict[str, Run]:
    """Runs by id, `NAME` or `NAME/seeds/SEED`. `root` may be a run folder itself."""
    return {name: run for top, path in _tops(root).items() for name, run in _with_seeds(top, path).items()}


def _tops(root: Path) -> dict[str, Path]:
    """Run folders by id, a text that browsers can send whatever bytes the name has."""
    if (root / "recipe.yaml").is_file():
        paths = [root.resolve()]
    elif root.is_dir():
        paths = run_folders(root)
    else:
        raise InputError(f"There is no folder {root}; name the one that holds your runs, or one run.")
    return {path.name.encode("utf-8", "backslashreplace").decode(): path for path in paths}


def _with_seeds(top: str, path: Path) -> dict[str, Run]:
    try:
        parts = Run(path).seeds()
    except OSError:
        parts = []
    return {top: Run(path), **{f"{top}/seeds/{part.path.name}": part for part in parts}}


def run_of(root: Path, name: str) -> Run:
    """The run of this name. Raises InputError for an unknown one."""
    top, tops = name.partition("/seeds/")[0], _tops(root)
    run = _with_seeds(top, tops[top]).get(name) if top in tops else None
    if run is None:
        raise InputError(
            "There is no run of this name in the folder that is shown; the list of runs names those there are."
        )
    return run


def described(name: str, run: Run) -> ListedRun:
    stages = sorted((_moment(mark), mark.stem) for mark in (run.path / "stages").glob("*.json"))
    written = [_moment(run.path / "metrics.jsonl"), _moment(run.rollouts), *(moment for moment, _ in stages)]
    if (run.path / "stages" / "purged.json").is_file():
        state = "purged"
    else:
        state = "finished" if (run.path / "results.json").is_file() else "not finished"
    called, problem = _name(run.path, *_stamp(run.path / "recipe.yaml"))
    return {
        "id": name,
        "name": called,
        "state": f"cannot be read: {problem}" if problem else state,
        "stages": [stage for _, stage in stages if stage != "purged"],
        "seeds": [part.path.name for part in run.seeds()],
        "written": max(written) or None,
    }


def why_none(run: Run) -> str:
    """The reason why a run has no rollouts."""
    if (run.path / "stages" / "purged.json").is_file():
        return "This run was purged: its rollouts, cases and models are gone, its figures stay."
    if run.seeds():
        return "This run pools several seeds; the rollouts are those of each seed, named above."
    return "No rollouts are written yet."


def _moment(path: Path) -> float:
    """The time of the last change, in seconds since 1970; 0 where there is nothing (any more)."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@lru_cache(20_000)
def _name(path: Path, *stamp: int) -> tuple[str, str]:
    """(name, reason why the recipe cannot be read): one broken recipe must not hide other runs."""
    del stamp
    try:
        return recipe_name(path), ""
    except InputError as error:
        return "(its recipe cannot be read)", str(error).removeprefix(f"{path}/")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_size, about.st_mtime_ns
