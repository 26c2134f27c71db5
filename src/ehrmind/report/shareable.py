"""The part of a recipe that a shared page shows: everything but the folders of its files."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from ehrmind.config import Recipe


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML with every default, without the folders of its files."""
    import yaml

    return yaml.safe_dump(shareable(recipe), sort_keys=False, allow_unicode=True)


def shareable(recipe: Recipe) -> dict[str, JsonValue]:
    """The recipe as JSON, without the folders of its files."""
    return {key: without_folders(value) for key, value in recipe.model_dump(mode="json").items()}


def without_folders(tree: JsonValue) -> JsonValue:
    """Cuts absolute paths to their last part: a shared page must not tell where files lie."""
    if isinstance(tree, dict):
        return {key: without_folders(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_folders(value) for value in tree]
    return Path(tree).name if isinstance(tree, str) and Path(tree).is_absolute() else tree
