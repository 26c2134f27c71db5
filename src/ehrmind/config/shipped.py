"""The recipes that ship, found by name: a wheel's package data, or the checkout's `recipes/`."""

from __future__ import annotations

import os
from pathlib import Path

from ehrmind.documents import read_text
from ehrmind.system import refuse_no_file

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder() -> Path:
    """Returns the folder of the shipped recipes and of the demo's base models."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parents[1] / "recipes"


def shipped_recipes() -> dict[str, Path]:
    """Maps each name, such as `demo_ehr`, to the recipe's file."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def user_path(text: str | Path) -> Path:
    """Expands `~`, and `~/.cache` to the folder that XDG_CACHE_HOME names, where `make smollm2`
    puts its model."""
    path, cache = Path(text), os.environ.get("XDG_CACHE_HOME")
    if cache and path.parts[:2] == ("~", ".cache"):
        return Path(cache, *path.parts[2:])
    return path.expanduser()


def find_recipe(given: Path) -> Path:
    """Returns the file of a recipe that is given by its path or by its name. A file of that name
    wins. Raises InputError, with the names there are, where neither is found."""
    shipped = shipped_recipes()
    if str(given) in shipped and (given.is_dir() or not given.exists()):
        return shipped[str(given)]
    absent = f"There is no recipe at {{path}}; the names of those that ship are {', '.join(shipped)}."
    refuse_no_file(given, absent, "name the recipe's file")
    return given


def first_sentence(recipe: Path) -> str:
    """Returns the first line of the comment on top of a recipe."""
    return read_text(recipe).partition("\n")[0].lstrip("# ")
