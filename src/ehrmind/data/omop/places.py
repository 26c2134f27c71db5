"""Finds which files of a folder or zip are which OMOP table, whatever program exported them.

A table is a file (`measurement.csv`), numbered part files (`measurement000.csv`,
`measurement-00001-of-00010.parquet`), or a folder of part files (`measurement/part-0.parquet`,
`measurement/year=2020/…`). It may lie at any depth, in upper or lower case, with or without a
schema's name as prefix. Files that are not read are listed. A table that is there twice, or only in
a format that is not read, is refused.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ehrmind.system import refuse_no_file, why
from ehrmind.types import InputError

OTHER_TABLES = (
    "attribute_definition", "care_site", "cohort", "cohort_attribute", "cohort_definition", "concept_ancestor", "concept_class",
    "concept_synonym", "condition_era", "cost", "domain", "dose_era", "drug_era", "drug_strength", "episode", "episode_event",
    "fact_relationship", "location", "location_history", "metadata", "note_nlp", "observation_period", "payer_plan_period",
    "provider", "relationship", "source_to_concept_map", "specimen", "survey_conduct", "vocabulary",
)  # fmt: skip
TEXTS, PARQUET, ARROW = ("csv", "tsv", "psv", "txt"), ("parquet", "parq", "pq"), ("arrow", "feather", "ipc")
PACKED = ("gz", "zst", "zstd", "bz2")
# Formats that may hold a table and are not read: an error if a table has no other format.
NOT_READ = (
    "7z", "accdb", "avro", "dat", "db", "dta", "dump", "duckdb", "h5", "hdf5", "json", "jsonl", "lz4", "mdb", "ndjson", "ods",
    "orc", "pkl", "rar", "rda", "rdata", "rds", "sas7bdat", "sav", "sqlite", "sqlite3", "tar", "tgz", "xls", "xlsb", "xlsx",
    "xml", "xpt", "xz", "z", "zip",
)  # fmt: skip
_SHARD = r"(?:[ ._-]*+(?:part|chunk|shard|split|slice|batch|file)?+[ ._-]*+[0-9]++)+"
_NUMBERED = re.compile(rf"(?P<base>.*?){_SHARD}(?:[ ._-]*of[ ._-]*(?P<of>[0-9]+))?")
_ENDING_THEN_SHARD = re.compile(
    rf"(?P<base>.+\.(?:{'|'.join((*TEXTS, *PARQUET))}))(?P<shard>{_SHARD}(?:[ ._-]*of[ ._-]*[0-9]+)?)(?P<packed>\.\w+)?"
)
_SCHEMA = re.compile(r"\A(?:(?:omop|cdm|omopcdm|dbo|public|ohdsi)(?:_?v?[0-9]++)*+[_-]++)++")
_PART = re.compile(r"(?:part[-_])?[0-9]{2,}[0-9a-z_-]*")  # part-00000, 000000_0, as in Hadoop and Hive
_LAYERS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_MARKERS = ("_success", "_metadata", "_common_metadata", "_committed_", "_started_", "thumbs.db", "desktop.ini")
MOST_OF_A_FOLDER = 5  # unread files of a folder that are named one by one


@dataclass(frozen=True, slots=True)
class Found:
    """Paths of a table's files, in order. `keys` has columns in folder names (`year=2020`)."""

    places: tuple[str, ...]
    keys: tuple[Mapping[str, str], ...]
    form: str  # "text", "parquet" or "arrow"


@dataclass(frozen=True, slots=True)
class _Candidate:
    table: str
    place: str
    group: str  # files of one group form one table: a file, numbered files of a folder, or a folder
    form: str
    ending: str
    of: int | None


def tables_in(source: Path, sizes: Mapping[str, int], wanted: Collection[str]) -> tuple[dict[str, Found], list[str]]:
    """Returns ({wanted table: its files}, names of everything else). `sizes` maps paths to bytes.

    Raises InputError.
    """
    known, unread, candidates, left = {*wanted, *OTHER_TABLES}, [], defaultdict(list), set()
    for place in sorted(sizes):
        if _is_nothing(place):
            _refuse_layers(source, place, wanted, known)
            left.add(place.rpartition("/")[0])
            continue
        found = _candidate(place, known)
        if found is None or found.table not in wanted or not found.form:
            unread.append(found.table if found and found.table not in wanted and found.form else place)
        else:
            candidates[found.table].append(found)
    tables = {}
    for table, members in candidates.items():
        read = [one for one in members if one.form != "not read"]
        if not read:
            raise InputError(
                f"{source / members[0].place} holds {table.upper()} in a form that is not read (.{members[0].ending});"
                " write it as CSV or parquet."
            )
        unread += [one.place for one in members if one.form == "not read"]
        tables[table] = _one_table(source, table, read, sizes)
    taken = [*unread, *(place for found in tables.values() for place in found.places)]
    for folder in sorted(left):
        named = _table(_form(PurePosixPath(folder.lower()).name)[0], known)[0] in wanted
        if named and not any(place.startswith(f"{folder}/") for place in taken):
            unread.append(f"{folder}/ (no part files)")
    return tables, _short(unread)


def listed(folder: Path) -> dict[str, int]:
    """Lists the files of a folder at any depth as {path: size}, and empty folders with a slash.

    Links are followed; a folder is entered once. Raises InputError.
    """
    found: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {why(error)}.") from None

    for here, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        stat = Path(here).stat()
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        if not folders and not files and Path(here) != folder:
            found[f"{Path(here).relative_to(folder).as_posix()}/"] = 0
        for name in files:
            path = Path(here, name)
            if path.exists():
                refuse_no_file(path)
            found[path.relative_to(folder).as_posix()] = path.stat().st_size if path.exists() else 0
    return found


def _candidate(place: str, known: Collection[str]) -> _Candidate | None:
    """Finds the table that a file's name, otherwise its folders' names, refer to.

    `form` is empty if the file's format is no data format.
    """
    path = PurePosixPath(place.lower())
    base, form, ending = _form(path.name)
    table, of = _table(base, known)
    folders = [part for part in path.parts[:-1] if "=" not in part]
    for depth in range(len(folders), 0, -1):
        above, _ = _table(_form(folders[depth - 1])[0], known)
        if above and table in (None, above):
            group = "/".join(path.parts[: path.parts.index(folders[depth - 1]) + 1])
            return _Candidate(above, place, group, form, ending, None)
    if table is None:
        return None
    numbered = _table(base, known, numbered=False)[0] is None
    return _Candidate(table, place, f"{path.parent}/{table}-*.{ending}" if numbered else place, form, ending, of)


def _form(name: str) -> tuple[str, str, str]:
    """Returns (name without its endings, format, ending)."""
    if moved := _ENDING_THEN_SHARD.fullmatch(name):  # measurement.csv-00000-of-00010, measurement.csv.000.gz
        stem, _, ending = moved["base"].rpartition(".")
        name = f"{stem}{moved['shard']}.{ending}{moved['packed'] or ''}"
    stem, dot, ending = name.rpartition(".")
    if not dot:
        return name, "text" if _PART.fullmatch(name) else "", ""
    inner, _, before = stem.rpartition(".")
    if ending in PACKED and before in TEXTS:
        return inner.removesuffix(".c000"), "text", f"{before}.{ending}"
    if ending in TEXTS:
        return stem.removesuffix(".c000"), "text", ending
    if ending in PARQUET:
        return re.sub(r"\.(?:snappy|gz|zstd|lz4|brotli)$", "", stem).removesuffix(".c000"), "parquet", ending
    if ending in ARROW:
        return stem, "arrow", ending
    packed = ending in NOT_READ or ending in PACKED
    return (
        (inner if packed and before in (*TEXTS, *PARQUET, *ARROW, *NOT_READ) else stem),
        "not read" if packed else "",
        ending,
    )


def _table(base: str, known: Collection[str], *, numbered: bool = True) -> tuple[str | None, int | None]:
    """Returns (the table in a name without endings, the number of part files it mentions)."""
    for name in (
        base,
        base.rpartition(".")[2],
        _SCHEMA.sub("", base, count=1),
        _SCHEMA.sub("", base.rpartition(".")[2], count=1),
    ):
        if name.strip() in known:
            return name.strip(), None
    if numbered and (part := _NUMBERED.fullmatch(base)):
        return _table(part["base"], known, numbered=False)[0], int(part["of"]) if part["of"] else None
    return None, None


def _one_table(source: Path, table: str, members: Sequence[_Candidate], sizes: Mapping[str, int]) -> Found:
    first = members[0]
    for other in members[1:]:
        if (other.group, other.ending) != (first.group, first.ending):
            raise InputError(
                f"{source / first.place} and {source / other.place} are the same table; leave one, or put all part"
                f" files of a form into a folder {table}."
            )
    if (of := {one.of for one in members if one.of is not None}) and of != {len(members)}:
        raise InputError(
            f"{source / first.place}: {len(members)} of {max(of)} part files are there; give all of them, and of one"
            " export."
        )
    kept = [one for one in members if sizes[one.place]] or members[:1]  # Spark writes empty parts
    keys = tuple(dict(_key(part) for part in PurePosixPath(one.place).parts[:-1] if "=" in part) for one in kept)
    return Found(tuple(one.place for one in kept), keys, first.form)


def _key(folder: str) -> tuple[str, str]:
    """Splits the name of a Hive partition's folder into column and value."""
    name, _, value = folder.partition("=")
    plain = re.sub(r"%([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), value)
    return name.strip().lower(), "" if plain == "__HIVE_DEFAULT_PARTITION__" else plain


def _is_nothing(place: str) -> bool:
    """Tells whether a path holds no data: an empty folder, a hidden file, a checksum, a marker."""
    path = PurePosixPath(place.lower())
    if place.endswith("/"):
        return True
    hidden = any(part.startswith(".") or part in ("__macosx", "_delta_log") for part in path.parts)
    return hidden or path.name.startswith(_MARKERS) or path.suffix in (".crc", ".md5", ".sha256")


def _refuse_layers(source: Path, place: str, wanted: Collection[str], known: Collection[str]) -> None:
    parts = PurePosixPath(place.lower()).parts
    for mark, layer in _LAYERS.items():
        if mark in parts[1:] and _table(_form(parts[parts.index(mark) - 1])[0], known)[0] in wanted:
            folder = source / "/".join(PurePosixPath(place).parts[: parts.index(mark)])
            raise InputError(
                f"{folder} is a {layer} table, whose files hold removed rows as well; write it out as plain parquet."
            )


def _short(unread: Iterable[str]) -> list[str]:
    """Lists each name once; many files of one folder become one entry."""
    names = sorted(set(unread))
    folders = Counter(str(PurePosixPath(name).parent) for name in names if "/" in name)
    crowded = {folder: n for folder, n in folders.items() if n > MOST_OF_A_FOLDER}
    kept = [name for name in names if str(PurePosixPath(name).parent) not in crowded or "/" not in name]
    return sorted([*kept, *(f"{folder}/ ({n:,} files)" for folder, n in crowded.items())])
