"""Opening a run folder: a new one, or one to resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ehrmind.config import Recipe, differing_keys, parse_recipe
from ehrmind.files import clear_leftovers, make_folder, write_text
from ehrmind.runs.folder import Run
from ehrmind.runs.lock import sign
from ehrmind.runs.protected import keep_private
from ehrmind.runs.recovery import recover
from ehrmind.runs.start import FOLDERS, PURGING, is_bare
from ehrmind.types import InputError
from ehrmind.world import on_first


def open_run(path: Path, recipe: Recipe, *, resume: bool) -> Run:
    """Makes a run folder, or opens one to resume it. Refuses a used folder without `resume`, and a
    resume under another recipe."""
    _open(path, recipe, resume)
    return Run(path)


@on_first
def _open(path: Path, recipe: Recipe, resume: bool) -> None:
    resolved = recipe.model_dump(mode="json")
    stored = path / "recipe.yaml"
    run = Run(path)
    if path.exists() and any(path.iterdir()) and not is_bare(path):
        if not stored.is_file() and not run.manifest.file.is_file():
            raise InputError(f"{path} is not empty and is no run folder; choose another --out.")
        if not resume:
            raise InputError(f"{path} already holds a run; go on with it by --resume, or choose another --out.")
        clear_leftovers(path, alone=True)
        before = _as_known_here(run.recipe())
        differing = differing_keys(_of_the_result(before), _of_the_result(resolved))
        if differing:
            raise InputError(
                f"{path} was made with another recipe, so it cannot be resumed; these keys differ:"
                f" {', '.join(differing)}."
            )
        if run.done(PURGING) is not None:
            raise InputError(
                f"{path} is purged in part; `ehrmind runs purge {path}` goes on with that. Choose another --out."
            )
        if run.manifest.read().purged is not None or run.done("purged") is not None:
            raise InputError(
                f"{path} was purged: its cases, rollouts and models are gone, its figures stay; choose another --out."
            )
        _make_folders(run)  # a kill may have come before the last folder
        recover(run)
        return
    _make_folders(run)
    write_text(stored, yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))
    run.manifest.create("recipe.yaml")


def _make_folders(run: Run) -> None:
    make_folder(run.path)
    keep_private(run.protected)
    for folder in FOLDERS:
        make_folder(run.path / folder, private=folder.startswith("protected"))
    sign(run.path, run.protected)


def _of_the_result(tree: dict[str, Any]) -> dict[str, Any]:
    """Leaves out who runs a recipe and whether it may go online. Both may change on resume."""
    return {**tree, "cluster": None, "data": {**(tree.get("data") or {}), "online": False}}


def _as_known_here(tree: dict[str, Any]) -> dict[str, Any]:
    """Adds to a stored recipe the defaults of keys that its version did not have. Returns it
    unchanged if this version cannot read it."""
    try:
        return parse_recipe(tree).model_dump(mode="json")
    except InputError:
        return tree
