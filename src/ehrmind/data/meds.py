"""Reads and checks MEDS data sets (layouts 0.3 and 0.4): event shards, code names, splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehrmind.data import headers
from ehrmind.data.bounds import parquet_file
from ehrmind.data.cells import is_null_text
from ehrmind.data.ehr_labels import whole_labels
from ehrmind.data.files import sha256_of
from ehrmind.data.label_files import OTHER_TABLES
from ehrmind.data.map_files import each
from ehrmind.data.meds_splits import folder_splits, metadata_splits
from ehrmind.data.sentinels import finite_or_null, is_null_spelling, without_null_texts
from ehrmind.data.static_facts import SEXES, fact_of
from ehrmind.data.subject_columns import place, subject_numbers
from ehrmind.data.timeline import COLUMNS, Timeline
from ehrmind.documents import read_json
from ehrmind.system import unread
from ehrmind.types import InputError, Split

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


PARQUET = (".parquet", ".pq")
NOT_READ = "files in another format than MEDS has, which are not read: {}"
NOT_SHOWN = "columns of the event shards that histories do not show: {}"
BY_FOLDER = "subjects whose split is that of their shard's folder, as there is no subject_splits.parquet"
MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class Meds:
    """An opened data set. `splits` is empty if the data set has none.

    `names` maps codes to their descriptions in codes.parquet, `parents` maps codes to their LOINC
    parents. `static` has the codes that need no time, as the metadata declare. `unread` lists files
    in other formats among the shards, `other_columns` the shards' columns that no history shows.
    `by_folder` says that the splits come from the folder names.
    """

    folder: Path
    shards: tuple[Path, ...]
    name: str
    splits: Mapping[int, Split] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    static: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()
    other_columns: tuple[str, ...] = ()
    by_folder: bool = False
    digest: str = ""

    def notes(self, used: str | None = None) -> dict[str, int]:
        """Counts files and columns that are not read. The column `used` is not counted."""
        others = [name for name in self.other_columns if name != used]
        said = {
            NOT_READ.format(_some(self.unread)): len(self.unread),
            NOT_SHOWN.format(headers.some(others, MOST_NAMED)): len(others),
        }
        said[BY_FOLDER] = len(self.splits) if self.by_folder else 0
        return {note: count for note, count in said.items() if count}

    def timelines(self, *, checked: bool = False) -> Iterator[tuple[Path, Timeline]]:
        """Yields each shard's path and timeline. `checked` skips checks that were made before.

        Raises InputError naming shard and row, also for a subject in two shards.
        """
        seen: set[int] = set()
        for shard in self.shards:
            timeline = Timeline(read_shard(shard, checked=checked), self.static)
            refuse_seen(shard, timeline.subjects, seen)
            yield shard, timeline

    def with_sites(self, column: str) -> Iterator[tuple[set[str], Timeline]]:
        """Yields each shard's sites and the timeline of its events that have a site.

        `column` holds the sites; in the events it is named `site`. `timelines` must have checked
        the shards. Raises InputError naming a shard that lacks the column.
        """
        import polars as pl

        for shard in self.shards:
            events = read_shard(shard, checked=True, site_column=column).filter(pl.col("site") != "")
            yield set(events["site"].unique().to_list()), Timeline(events, self.static)


def refuse_seen(shard: Path, subjects: np.ndarray, seen: set[int]) -> None:
    """Adds a shard's subjects to `seen`. Raises InputError for one of an earlier shard."""
    here = set(subjects.tolist())
    if twice := seen & here:
        raise InputError(
            f"{shard}: {len(twice)} subject(s) are in another shard too; MEDS keeps all events of one together."
        )
    seen |= here


def open_meds(folder: Path) -> Meds:
    """Opens a data set; its events are read later, shard by shard.

    Raises InputError if the folder is no MEDS data set or its metadata do not fit.
    """
    there = [path for path in sorted((folder / "data").rglob("*")) if path.is_file() and not path.name.startswith(".")]
    shards = tuple(path for path in there if path.name.lower().endswith(PARQUET))
    others = [
        path
        for path in there
        if path not in set(shards) and path.name.lower().endswith((*OTHER_TABLES, ".csv", ".tsv"))
    ]
    if not shards:
        instead = f"; MEDS is parquet, so convert {others[0].name}" if others else ""
        raise InputError(f"{folder} is no MEDS data set: it has no parquet file under data/{instead}.")
    metadata = folder / "metadata"
    about = _json(metadata / "dataset.json")
    name = str(about.get("dataset_name") or folder.name)
    others += sorted(path for path in metadata.glob("codes.*") if path.is_file() and path.suffix != ".parquet")
    unread = tuple(str(path.relative_to(folder)) for path in others)
    described = _described(metadata, about)
    splits = metadata_splits(metadata)
    folders = {} if splits else folder_splits(folder / "data", shards)
    return Meds(
        folder,
        shards,
        name,
        splits or folders,
        *described,
        unread,
        _other_columns(shards),
        bool(folders),
        _digest(folder, shards),
    )


def _other_columns(shards: Sequence[Path]) -> tuple[str, ...]:
    """Lists the shards' columns that are not read as events."""
    import polars as pl

    found: dict[str, None] = {}
    for shard in shards:
        try:
            found |= dict.fromkeys(
                name for name in pl.read_parquet_schema(shard) if name not in (*COLUMNS, "omop_table")
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            continue  # `read_shard` raises the error
    return tuple(found)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def read_shard(path: Path, *, checked: bool = False, site_column: str | None = None) -> pl.DataFrame:
    """Reads a shard's events as `COLUMNS`. `site_column` is kept too, as texts in a column `site`.

    Raises InputError for a wrong type, a null code or subject, and for a subject whose rows are
    scattered or not sorted by time. `checked` skips the checks that were made before.
    """
    import polars as pl
    import pyarrow.parquet as pq
    from meds.schema import DataSchema

    parquet_file(path, str(path)).close()  # checks the size before reading
    try:
        events = pl.read_parquet(path, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise unread(
            error, path, f"{path} is not a parquet file, or there is none, or it is broken; MEDS is parquet."
        ) from None
    if "patient_id" in events.columns and "subject_id" not in events.columns:
        raise InputError(f"{path} is of MEDS before 0.3 (it has 'patient_id'); convert the data set to 0.3 or 0.4.")
    for column in ("subject_id", "time", "code"):
        if column not in events.columns:
            raise InputError(f"{path} has no column '{column}', which MEDS requires.")
    if site_column is not None:
        events = events.with_columns(_site(events, site_column, path))
    if "omop_table" in events.columns:
        events = events.with_columns(pl.col("omop_table").alias("table"))
    events = events.with_columns(pl.lit(None).alias(column) for column in COLUMNS if column not in events.columns)
    for column, fits, wanted in (
        ("subject_id", events["subject_id"].dtype.is_integer(), "integers"),
        ("time", _is_time(events["time"].dtype), "timestamps without a zone"),
        ("end", _is_time(events["end"].dtype), "timestamps without a zone"),
        ("code", events["code"].dtype in (pl.String, pl.Categorical), "texts"),
        (
            "numeric_value",
            events["numeric_value"].dtype.is_numeric() or events["numeric_value"].dtype == pl.Null,
            "numbers",
        ),
    ):
        if not fits:
            raise InputError(
                f"{path}, column '{column}': {headers.kind_of(events[column].dtype)} values; MEDS has {wanted} there."
            )
    events = events.with_columns(
        subject_numbers(events["subject_id"], path), _rounded_up(events["time"]), _rounded_up(events["end"])
    )
    events = events.select(COLUMNS if site_column is None else (*COLUMNS, "site")).cast(
        {
            "time": pl.Datetime("us"),
            "end": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float32,
            "text_value": pl.String,
            "unit": pl.String,
            "table": pl.String,
        }
    )
    if not checked and (where := _no_code(events["code"])).any():
        raise InputError(f"{place(path, where, 'code')}: no value; every event needs one.")
    events = events.with_columns(
        finite_or_null("numeric_value"),
        without_null_texts(events["text_value"], free_text=True),
        without_null_texts(events["unit"]),
    )
    if checked:
        return events
    _refuse_unsorted(events, path)
    _conform(pq.read_schema(path).empty_table(), DataSchema, path)
    return events


def _rounded_up(times: pl.Series) -> pl.Series:
    """Converts nanoseconds to microseconds, rounded up.

    Rounded down, an event just after the prediction time would become visible.
    """
    import polars as pl

    if times.dtype != pl.Datetime("ns"):
        return times
    return (-(-times.cast(pl.Int64) // 1000)).cast(pl.Datetime("us"))


def _is_time(dtype: pl.DataType) -> bool:
    import polars as pl

    return isinstance(dtype, pl.Null) or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None)


def _no_code(codes: pl.Series) -> pl.Series:
    """Marks codes that are null or a text for null. `NA` is a code: sodium's."""
    return codes.is_null() | (is_null_spelling(codes, free_text=True) & (codes != "NA").fill_null(True))


def _site(events: pl.DataFrame, column: str, path: Path) -> pl.Series:
    import polars as pl

    if column not in events.columns:
        raise InputError(f"{path} has no column '{column}' for site_column; {headers.there(events.columns, column)}.")
    dtype = events[column].dtype
    if not (dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise InputError(
            f"{path}, column '{column}': {headers.kind_of(dtype)} values; a site is a text or an integer, so write the"
            " column as one."
        )
    return events[column].cast(pl.String).alias("site")


def _conform(table: Any, schema: Any, path: Path) -> None:
    """Checks the types with MEDS's own schema. Errors that name a row were raised before."""
    from flexible_schema import SchemaValidationError, TableValidationError

    try:
        schema.align(table)
    except (SchemaValidationError, TableValidationError) as error:
        raise InputError(
            f"{path} does not fit MEDS: the types of its columns are not those of DataSchema ({type(error).__name__})."
        ) from None


def _refuse_unsorted(events: pl.DataFrame, path: Path) -> None:
    """Raises InputError unless a subject's rows are together, static rows first, then by time."""
    import polars as pl

    same = pl.col("subject_id") == pl.col("subject_id").shift(1)
    undated_later = pl.col("time").is_null() & pl.col("time").shift(1).is_not_null()
    wrong = events.select(
        (same & ((pl.col("time") < pl.col("time").shift(1)) | undated_later)).fill_null(False).alias("wrong")
    )["wrong"]
    if wrong.any():
        raise InputError(
            f"{path}, row {int(wrong.arg_max() or 0) + 1}: earlier than the subject's event before it; sort each"
            " subject by time."
        )
    changes = events.select((~same).fill_null(True).sum())["subject_id"][0]
    if changes > events["subject_id"].n_unique():
        raise InputError(f"{path}: a subject's events are not together; sort the shard by subject and time.")


def _described(metadata: Path, about: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str], frozenset[str]]:
    """Returns ({code: description}, {code: LOINC parent}, static codes); each may be empty.

    A code is static if its column `static` or `is_static` says so, if its description or parent is
    a sex, race or ethnicity, or if `static_codes` of dataset.json names it.
    """
    import polars as pl

    said = about.get("static_codes", [])
    if not isinstance(said, list) or not all(isinstance(code, str) for code in said):
        raise InputError(f"{metadata / 'dataset.json'}, key 'static_codes': a list of codes is wanted.")
    path, declared = metadata / "codes.parquet", set(said)
    if not path.is_file():
        return {}, {}, frozenset(declared)
    parquet_file(path, str(path)).close()
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise unread(error, path, f"{path} is not a parquet file, or a broken one; fetch or write it again.") from None
    names, parents = {}, {}
    if {"code", "description"} <= set(frame.columns):
        names = {
            code: name
            for code, name in frame.select("code", "description").drop_nulls().iter_rows()
            if not is_null_text(name)
        }
        declared |= {code for code, name in names.items() if fact_of(name) is not None or name.strip().lower() in SEXES}
    if frame.schema.get("parent_codes") == pl.List(pl.String):
        rows = frame.select("code", "parent_codes").drop_nulls().rows()
        parents = {
            code: parent
            for code, above in rows
            for parent in above
            if parent is not None and parent.startswith("LOINC/")
        }
        declared |= {
            code for code, above in rows if any(parent is not None and fact_of(parent) is not None for parent in above)
        }
    for column in ("static", "is_static"):
        if column in frame.columns:
            values, _ = whole_labels(frame[column], path, boolean=True)
            declared |= set(frame.filter(values == 1)["code"].drop_nulls().to_list())
    return names, parents, frozenset(declared)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    tree = read_json(path)
    return tree if isinstance(tree, dict) else {}


def _digest(folder: Path, shards: tuple[Path, ...]) -> str:
    """Computes one sha256 over the shards' names and bytes."""
    digest = hashlib.sha256()
    for shard, sha256 in zip(shards, each(sha256_of, shards), strict=True):
        digest.update(f"{shard.relative_to(folder)} {sha256}\n".encode())
    return digest.hexdigest()
