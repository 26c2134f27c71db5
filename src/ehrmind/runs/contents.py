"""The content of a manifest and its form on the disk: one line per file, and a digest of everything
after it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

from ehrmind.files import Stored
from ehrmind.types import InputError

VERSION = 1
HEAD = b'{\n "digest": "%s",\n'
Listed = dict[str, Stored]  # by name: the path within the folder, with slashes


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that is not as it was stored. `what` is "damaged" or "gone"; `verify` also finds
    "torn" (a last line), "half-written" and "unknown" (there, but not listed)."""

    name: str
    what: str


@dataclass
class Contents:
    """The content of a manifest. `replacing` maps a file or folder to its new content while it is
    replaced. `purged` has `time`, `bytes` and the `files` that were removed for good."""

    files: Listed = field(default_factory=dict)
    replacing: dict[str, Listed] = field(default_factory=dict)
    purged: dict[str, Any] | None = None


def written(contents: Contents) -> bytes:
    """Returns a manifest's bytes."""
    rest = {
        "version": VERSION,
        "purged": contents.purged,
        "replacing": {name: as_json(new) for name, new in contents.replacing.items()},
    }
    files = ",\n".join(
        f'  {encode_basestring_ascii(name)}: {{"sha256": "{there.sha256}", "bytes": {there.bytes}}}'
        for name, there in sorted(contents.files.items())
    )
    body = (
        "".join(f' "{key}": {json.dumps(value)},\n' for key, value in rest.items())
        + f' "files": {{\n{files}\n }}\n}}\n'
    )
    return HEAD % _digest(body.encode()) + body.encode()


def parsed(raw: bytes, file: Path) -> Contents:
    """Reads a manifest's bytes. Raises InputError if they are not as `written` made them."""
    body = raw[len(HEAD % b"") + 64 :]
    try:
        tree = json.loads(raw) if raw == HEAD % _digest(body) + body else None
        later = tree is not None and tree["version"] > VERSION
        if tree is not None and not later:
            return Contents(
                _listed(tree["files"]), {name: _listed(new) for name, new in tree["replacing"].items()}, tree["purged"]
            )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        later = False
    if later:
        raise InputError(f"{file} was written by a later version of ehrmind than this one; use that.")
    raise InputError(
        f"{file} is damaged, so nothing in {file.parent} can be proven any more; restore it from a copy, or choose"
        " another --out and run again."
    )


def as_json(files: Listed) -> dict[str, dict[str, Any]]:
    return {name: {"sha256": there.sha256, "bytes": there.bytes} for name, there in sorted(files.items())}


def _listed(tree: Mapping[str, Any]) -> Listed:
    return {name: Stored(there["sha256"], there["bytes"]) for name, there in tree.items()}


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
