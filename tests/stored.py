"""Changes a run folder as its own writer would, so that what a test puts there counts as stored."""

from __future__ import annotations

from pathlib import Path

from ehrmind.runs.manifest import Manifest


def store(path: Path, content: str | bytes) -> None:
    """Writes a file of a run folder and lists it."""
    manifest = _manifest_of(path)
    manifest.put(path.relative_to(manifest.root).as_posix(), content.encode() if isinstance(content, str) else content)


def drop(path: Path) -> None:
    """Removes a file of a run folder, which then counts as never written."""
    manifest = _manifest_of(path)
    manifest.remove(path.relative_to(manifest.root).as_posix())


def _manifest_of(path: Path) -> Manifest:
    return Manifest(next(folder for folder in path.parents if (folder / "manifest.json").is_file()))
