"""Finds the label files of one task. A MEDS label file, or all its part files, is one task.

If a folder holds several tasks, the user must name one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ehrmind.types import InputError

ENDINGS = (".parquet", ".pq", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
OTHER_TABLES = (
    ".arrow",
    ".feather",
    ".ipc",
    ".json",
    ".jsonl",
    ".ndjson",
    ".avro",
    ".orc",
    ".xlsx",
    ".xls",
    ".zip",
    ".gz",
    ".txt",
)
_PART = re.compile(
    r"\d+|(?:part|shard|chunk|file|batch)[-_.]?\d.*|(?:labels?|data|label_file)(?:[-_.]?\d+)?"
    r"|train|training|tuning|val|valid|validation|dev|test|held[-_]?out"
    r"|(?!task|label|outcome)[a-z_]\w*=.*",  # a folder of a partitioned data set
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(.*?)[-_.]?(\d+)(?:[-_.]of[-_.]\d+)?")
MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class LabelFiles:
    """Label files of a task. `unread` names tables in the folder whose format is not read."""

    task: str
    paths: Sequence[Path]
    unread: Sequence[str] = ()


def label_files(path: Path, task: str | None = None) -> LabelFiles:
    """Finds the label files at `path`, a file or a folder. `task` chooses one of several tasks.

    Raises InputError naming the tasks if the choice is not clear.
    """
    if not path.is_dir():
        if not path.is_file():
            raise InputError(f"There is no label file at {path}.")
        return LabelFiles(task or task_name(path), (path,))
    files = {
        file.relative_to(path): file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not _hidden(file.relative_to(path))
    }
    tables = [name for name in files if _ending(name, ENDINGS)]
    unread = tuple(str(name) for name in files if not _ending(name, ENDINGS) and _ending(name, OTHER_TABLES))
    if not tables:
        there = f"; it has {', '.join(unread[:3])}" if unread else ""
        raise InputError(f"{path} holds no label file (*.parquet or *.csv){there}.")
    tasks = _by_task(tables)
    chosen = next(iter(tasks)) if len(tasks) == 1 else _chosen(tasks, task)
    if len(tasks) > 1 and chosen is None:
        named = ", ".join(_display_name(key, tasks[key]) for key in list(tasks)[:MOST_NAMED])
        more = f" and {len(tasks) - MOST_NAMED} more" if len(tasks) > MOST_NAMED else ""
        raise InputError(
            f"{path} holds the labels of {len(tasks)} tasks ({named}{more}); name one with --task (in a recipe `task`),"
            " or give its folder."
        )
    names = tasks[chosen or ()]
    _refuse_copies(path, names)
    in_folders = all(len(name.parts) > 1 for name in names)
    return LabelFiles(
        task or (chosen[-1] if chosen and in_folders else task_name(path)), tuple(files[name] for name in names), unread
    )


def task_name(path: Path) -> str:
    """Names the task whose labels are at a path, after the folder or after the file."""
    stem = _stem(path.name)
    name = (
        path.name
        if path.is_dir()
        else path.parent.name
        if stem in ("labels", "label", "") or _PART.fullmatch(stem)
        else stem
    )
    return name or "task"


def _by_task(names: Iterable[Path]) -> dict[tuple[str, ...], list[Path]]:
    """Groups relative paths by the parts that name no split, no shard and not `labels`."""
    found: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for name in names:
        found[tuple(part for part in (*name.parts[:-1], _stem(name.name)) if not _PART.fullmatch(part))].append(name)
    numbered: dict[tuple[str, ...], dict[int, tuple[str, ...]]] = defaultdict(dict)
    for key in found:
        if key and (parts := _NUMBERED.fullmatch(key[-1])) and parts[1]:
            numbered[(*key[:-1], parts[1])][int(parts[2])] = key
    # x_0, x_1, x_2 are parts of x; risk_30d and risk_90d, or x_30 and x_90, are two tasks.
    for base, keys in numbered.items():
        if len(keys) > 1 and sorted(keys) in (list(range(len(keys))), list(range(1, len(keys) + 1))):
            for key in keys.values():
                found[base] += found.pop(key)
    return {key: sorted(found[key]) for key in sorted(found)}


def _chosen(tasks: Iterable[tuple[str, ...]], task: str | None) -> tuple[str, ...] | None:
    fits = [key for key in tasks if key and task in (key[-1], "/".join(key))]
    return fits[0] if len(fits) == 1 else None


def _display_name(key: tuple[str, ...], names: Sequence[Path]) -> str:
    return "/".join(key) or str(names[0])


def _refuse_copies(folder: Path, names: Sequence[Path]) -> None:
    """Raises InputError if one file is there in two formats."""
    seen: dict[Path, Path] = {}
    for name in names:
        bare = name.with_name(_stem(name.name))
        if bare in seen:
            raise InputError(f"{folder}: {seen[bare]} and {name} look like one file in two formats; keep one.")
        seen[bare] = name


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _ending(name: Path, endings: Sequence[str]) -> bool:
    return name.name.lower().endswith(tuple(endings))


def _stem(name: str) -> str:
    ending = max((ending for ending in ENDINGS if name.lower().endswith(ending)), key=len, default="")
    return name[: len(name) - len(ending)] if ending else name
