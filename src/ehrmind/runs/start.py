"""The state of a run folder before it holds work: whether a kill left it bare, and whether a
refused start may remove it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ehrmind.files import is_leftover
from ehrmind.runs.lock import LOCK, WRITER

FOLDERS = (
    "",
    "stages",
    "protected",
    "protected/cases",
    "protected/rollouts",
    "protected/checkpoints",
    "protected/models",
)
_MADE = r"recipe\.yaml|manifest\.json|provenance\.json|stages/(?:data|model)\.json|protected/cases/[^/]+\.parquet|protected/models/base/.+"
_HELD = rf"{re.escape(LOCK)}|protected/{re.escape(WRITER)}"
_FIRST = r"\.(?:recipe\.yaml|manifest\.json)\..+"
_IDLE = re.compile(rf"(?:seeds/-?[0-9]+/)?(?:{_MADE}|{_HELD})")
PURGING = "purging"  # a stage's mark: a purge has begun


def is_bare(folder: Path) -> bool:
    """Tells whether the folder holds only our empty folders: a kill came before the recipe was
    listed in a manifest, so that it counts as never written."""
    folders = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir()}
    files = set(_files(folder))
    unlisted = (
        {"recipe.yaml"} if (folder / "recipe.yaml").is_file() and not (folder / "manifest.json").is_file() else set()
    )
    made = (
        name in unlisted or re.fullmatch(_HELD, name) or (re.fullmatch(_FIRST, name) and is_leftover(name))
        for name in files
    )
    return bool(files | folders) and all(made) and folders <= set(FOLDERS)


def holds_work(folder: Path) -> bool:
    """Tells whether the folder holds more than the recipe, the cases and the starting model. Those
    are made in a moment, or are of no use to another recipe."""
    return any(not _IDLE.fullmatch(name) and not any(map(is_leftover, name.split("/"))) for name in _files(folder))


def _files(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
