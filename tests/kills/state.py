"""A folder as bytes that can be compared, without what is a recorded time; and who can read the
record text in it.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

# Times and durations that are recorded, by key, in files of JSON and of JSON lines; `of`, digests
# of files that hold such times.
TIMES = ("time", "seconds", "of", "tokens_per_second", "sample_seconds", "learn_seconds", "finished", "started")
# A scoring that was begun and killed is written down as one more, so their number may differ: what
# a run says of itself.
COUNTED = ("held_out_scorings",)
FREED = ("bytes",)  # of `runs purge`: what a second one removes is less
OF_LINE = ("digest",)  # of a line with its time, in files of JSON lines
SCORINGS = "held_out_scorings.jsonl"
_CURVES = re.compile(
    r"events\.out\.tfevents\..+"
)  # TensorBoard names its files after the moment, and begins them with it


def state_of(folder: Path) -> dict[str, str]:
    """Digests by path under the folder; a folder's is "/"."""
    paths = sorted(folder.rglob("*"))
    return {_CURVES.sub("events", path.relative_to(folder).as_posix()): _digest(path) for path in paths}


def differences(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """Returns what is extra, missing or different, by path."""
    more = [f"left over: {name}" for name in found.keys() - wanted.keys()]
    less = [f"missing: {name}" for name in wanted.keys() - found.keys()]
    return sorted(
        [*more, *less, *(f"differs: {name}" for name in wanted.keys() & found.keys() if wanted[name] != found[name])]
    )


def leaks(folder: Path, given: Iterable[str], canary: str) -> list[str]:
    """Files with record text that others than their owner may read; `given` are the inputs. A
    parquet file counts as one with text, because its columns are packed."""
    known = set(given)
    open_files = (path for path in sorted(folder.rglob("*")) if path.is_file() and _open_to_others(path, folder))
    return [
        f"readable by others: {name}"
        for path in open_files
        if (name := path.relative_to(folder).as_posix()) not in known
        and (canary.encode() in path.read_bytes() or ".parquet" in name)
    ]


def _open_to_others(path: Path, folder: Path) -> bool:
    inside = [path, *(parent for parent in path.parents if parent.is_relative_to(folder) and parent != folder)]
    return all(stat.S_IMODE(part.stat().st_mode) & 0o077 for part in inside)


def _digest(path: Path) -> str:
    if path.is_dir():
        return "/"
    if _CURVES.fullmatch(path.name):
        return "curves"
    content = path.read_bytes()
    try:
        content = _compared(path, content)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # it is torn: compared as it is
    return sha256(content).hexdigest()


def _compared(path: Path, content: bytes) -> bytes:
    """Returns the part of a file that does not depend on the time."""
    if path.name == SCORINGS:
        return "\n".join(sorted(set(_plain_lines(content.decode())))).encode()
    if path.name == "manifest.json":
        return _listed(json.loads(content)).encode()
    if path.suffix == ".json":
        return _plain(content.decode()).encode()
    if path.suffix == ".jsonl":
        return "\n".join(_plain_lines(content.decode())).encode()
    if path.suffix == ".html":
        return _without_times(content.decode()).encode()
    return content


def _listed(manifest: dict[str, Any]) -> str:
    """A run folder's manifest without the digests of what holds recorded times, its own among
    them."""
    gone = manifest["purged"] or {}
    stored = {name: found["sha256"] for name, found in {**manifest["files"], **gone.get("files", {})}.items()}
    timed = {name for name in stored if name.endswith((".json", ".jsonl", ".html")) or _CURVES.search(name)}
    timeless = {_CURVES.sub("events", name): "" if name in timed else digest for name, digest in stored.items()}
    there = sorted({_CURVES.sub("events", name) for name in manifest["files"]})
    return json.dumps([sorted(timeless.items()), there, sorted(gone), manifest["replacing"]])


def _plain(text: str) -> str:
    return json.dumps(_timeless(json.loads(text)), indent=0)


def _plain_lines(text: str) -> list[str]:
    lines = [_timeless(json.loads(line)) for line in text.split("\n") if line]
    return [json.dumps({key: value for key, value in line.items() if key not in OF_LINE}) for line in lines]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in (*TIMES, *COUNTED, *FREED)}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _without_times(page: str) -> str:
    """Also without how often held-out cases were scored, which a page says as often as it was
    begun."""
    page = re.sub(r"<tr>(?:(?!</tr>).)*held-out cases scored: (?:(?!</tr>).)*</tr>\n?", "", page, flags=re.DOTALL)
    page = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?(?: UTC)?|\d+(?:\.\d+)? s\b", "TIME", page)
    return re.sub(r"<td(?: class=\"warn\")?>\d+</td><td>TIME</td>", "SCORINGS", page)
