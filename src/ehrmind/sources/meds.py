"""MEDS data sets (layouts 0.3 and 0.4): shards of events, names of codes, splits of subjects, label files; checked as they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehrmind.sources.each import each
from ehrmind.sources.files import sha256_of
from ehrmind.sources.splits import SPLITS
from ehrmind.sources.timeline import COLUMNS, Timeline
from ehrmind.types import InputError, Split

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


@dataclass(frozen=True, slots=True)
class Meds:
    """An opened data set. `splits` is empty where the data set has none; `names` has what codes.parquet describes, `parents` the LOINC
    codes that it names as parents of others."""

    folder: Path
    shards: tuple[Path, ...]
    name: str
    splits: Mapping[int, Split] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    def timelines(self, *, checked: bool = False) -> Iterator[tuple[Path, Timeline]]:
        """Shard by shard. Raises InputError naming shard and row; a subject in two shards is refused. What is `checked` is not checked
        again."""
        seen: set[int] = set()
        for shard in self.shards:
            timeline = Timeline(read_shard(shard, checked=checked))
            refuse_seen(shard, timeline.subjects, seen)
            yield shard, timeline

    def sited(self, column: str) -> Iterator[tuple[set[str], Timeline]]:
        """Shard by shard (its sites, its events that have a value in `column`, which stands in their column `site`); for shards that
        `timelines` has checked. Raises InputError naming the shard where it has no such column."""
        import polars as pl

        for shard in self.shards:
            events = read_shard(shard, checked=True, site_column=column).filter(pl.col("site") != "")
            yield set(events["site"].unique().to_list()), Timeline(events)


def refuse_seen(shard: Path, subjects: np.ndarray, seen: set[int]) -> None:
    """Adds a shard's subjects to those `seen` in the shards before it. Raises InputError for one that is there."""
    here = set(subjects.tolist())
    if twice := seen & here:
        raise InputError(f"{shard}: {len(twice)} subject(s), such as {min(twice)}, are in another shard too; MEDS keeps one together.")
    seen |= here


def open_meds(folder: Path) -> Meds:
    """Raises InputError when the folder is no MEDS data set or its metadata do not fit; events are read later, shard by shard."""
    shards = tuple(sorted((folder / "data").rglob("*.parquet")))
    if not shards:
        raise InputError(f"{folder} is no MEDS data set: it has no parquet file under data/.")
    metadata = folder / "metadata"
    about = _json(metadata / "dataset.json")
    name = str(about.get("dataset_name") or folder.name)
    return Meds(folder, shards, name, _splits(metadata), *_described(metadata), _digest(folder, shards))


def read_shard(path: Path, *, checked: bool = False, site_column: str | None = None) -> pl.DataFrame:
    """A shard's events as `COLUMNS`, checked: types, no null code or subject, each subject's rows together and sorted by time. The
    `site_column` is kept beside them, as texts under the name `site`."""
    import polars as pl
    import pyarrow.parquet as pq
    from meds.schema import DataSchema

    try:
        events = pl.read_parquet(path, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError):
        raise InputError(f"{path} is not a parquet file, or there is none, or it is broken; MEDS is parquet.") from None
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
        ("time", isinstance(events["time"].dtype, pl.Datetime) and events["time"].dtype.time_zone is None, "timestamps without a zone"),
        ("end", isinstance(events["end"].dtype, pl.Datetime | pl.Null), "timestamps"),
        ("code", events["code"].dtype in (pl.String, pl.Categorical), "texts"),
        ("numeric_value", events["numeric_value"].dtype.is_numeric() or events["numeric_value"].dtype == pl.Null, "numbers"),
    ):
        if not fits:
            raise InputError(f"{path}, column '{column}': {events[column].dtype} values; MEDS has {wanted} there.")
    events = events.select(COLUMNS if site_column is None else (*COLUMNS, "site")).cast(
        {
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "end": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float32,
            "text_value": pl.String,
            "unit": pl.String,
            "table": pl.String,
        }
    )
    for column in ("subject_id", "code"):
        if events[column].null_count():
            row = int(events[column].is_null().arg_max() or 0) + 1
            raise InputError(f"{path}, row {row}, column '{column}': no value; every event needs one.")
    if checked:
        return events
    _refuse_unsorted(events, path)
    _conform(pq.read_schema(path).empty_table(), DataSchema, path)
    return events


def _site(events: pl.DataFrame, column: str, path: Path) -> pl.Series:
    import polars as pl

    if column not in events.columns:
        raise InputError(f"{path} has no column '{column}' for site_column; it has {', '.join(events.columns)}.")
    dtype = events[column].dtype
    if not (dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise InputError(f"{path}, column '{column}': {dtype} values; a site is a text or an integer, so write the column as one.")
    return events[column].cast(pl.String).alias("site")


def _table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError):
        raise InputError(f"{path} is not a parquet file, or there is none; MEDS is parquet.") from None


def _conform(table: Any, schema: Any, path: Path) -> None:
    """MEDS's own classes have the last word; what has a row to name was refused before."""
    from flexible_schema import SchemaValidationError, TableValidationError

    try:
        schema.align(table)
    except (SchemaValidationError, TableValidationError) as error:
        raise InputError(f"{path} does not fit MEDS: {' '.join(str(error).split())}") from None


def _refuse_unsorted(events: pl.DataFrame, path: Path) -> None:
    """Static rows first, then by time, each subject's rows together."""
    import polars as pl

    same = pl.col("subject_id") == pl.col("subject_id").shift(1)
    undated_later = pl.col("time").is_null() & pl.col("time").shift(1).is_not_null()
    wrong = events.select((same & ((pl.col("time") < pl.col("time").shift(1)) | undated_later)).fill_null(False).alias("wrong"))["wrong"]
    if wrong.any():
        raise InputError(
            f"{path}, row {int(wrong.arg_max() or 0) + 1}: earlier than the subject's event before it; sort each subject by time."
        )
    changes = events.select((~same).fill_null(True).sum())["subject_id"][0]
    if changes > events["subject_id"].n_unique():
        raise InputError(f"{path}: a subject's events are not together; sort the shard by subject and time.")


def read_labels(path: Path) -> pl.DataFrame:
    """A MEDS label file, or a folder of them, as subject_id, prediction_time, value (integer) and the kind of value that was there.

    Columns that are null throughout are dropped first: ACES writes all four, three of them empty. Raises InputError naming file and row.
    """
    import polars as pl

    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no label file (*.parquet).")
    return pl.concat([_labels(file) for file in files])


def _labels(path: Path) -> pl.DataFrame:
    import polars as pl
    from meds.schema import LabelSchema

    labels = pl.DataFrame(_table(path))
    for column in ("subject_id", "prediction_time"):
        if column not in labels.columns:
            raise InputError(f"{path} has no column '{column}', which MEDS labels require.")
        if labels[column].null_count():
            raise InputError(f"{path}, row {int(labels[column].is_null().arg_max() or 0) + 1}, column '{column}': no value.")
    if not isinstance(labels["prediction_time"].dtype, pl.Datetime) or labels["prediction_time"].dtype.time_zone is not None:
        raise InputError(
            f"{path}, column 'prediction_time': {labels['prediction_time'].dtype} values; MEDS has timestamps without a zone there."
        )
    given = [name for name in ("integer_value", "boolean_value") if name in labels.columns and labels[name].null_count() < labels.height]
    if not given:
        raise InputError(f"{path} has no boolean_value or integer_value; labels of other kinds are not read.")
    value = labels[given[0]]
    if value.null_count():
        raise InputError(f"{path}, row {int(value.is_null().arg_max() or 0) + 1}, column '{given[0]}': no value.")
    _conform(labels[[name for name in labels.columns if labels[name].null_count() < labels.height]].to_arrow(), LabelSchema, path)
    return labels.select(
        pl.col("subject_id").cast(pl.Int64),
        pl.col("prediction_time").cast(pl.Datetime("us")),
        pl.col(given[0]).cast(pl.Int64).alias("value"),
        pl.lit(given[0].removesuffix("_value")).alias("kind"),
    )


def _splits(metadata: Path) -> dict[int, Split]:
    import polars as pl
    from meds.schema import SubjectSplitSchema

    path = metadata / "subject_splits.parquet"
    if not path.is_file():
        return {}
    table = _table(path)
    _conform(table, SubjectSplitSchema, path)
    frame = pl.DataFrame(table).select("subject_id", "split")
    splits: dict[int, Split] = {}
    for row, (subject, split) in enumerate(frame.iter_rows(), start=1):
        if split not in SPLITS:
            raise InputError(f"{path}, row {row}, column 'split': '{split}' is not one of {', '.join(SPLITS)}.")
        if splits.setdefault(subject, split) != split:
            raise InputError(f"{path}, row {row}: subject {subject} is in two splits.")
    return splits


def _described(metadata: Path) -> tuple[dict[str, str], dict[str, str]]:
    """({code: description}, {code: its LOINC parent}), where there are some; codes.parquet may be absent or empty."""
    import polars as pl

    path = metadata / "codes.parquet"
    if not path.is_file():
        return {}, {}
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise InputError(f"{path} is not a parquet file, or a broken one; fetch or write it again.") from None
    names, parents = {}, {}
    if {"code", "description"} <= set(frame.columns):
        names = {code: name for code, name in frame.select("code", "description").drop_nulls().iter_rows() if name.strip()}
    if frame.schema.get("parent_codes") == pl.List(pl.String):
        rows = frame.select("code", "parent_codes").drop_nulls().iter_rows()
        parents = {code: parent for code, above in rows for parent in above if parent.startswith("LOINC/")}
    return names, parents


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise InputError(f"{path} is not valid JSON; write it again.") from None
    return tree if isinstance(tree, dict) else {}


def _digest(folder: Path, shards: tuple[Path, ...]) -> str:
    """sha256 over the shards' names and bytes."""
    digest = hashlib.sha256()
    for shard, sha256 in zip(shards, each(sha256_of, shards), strict=True):
        digest.update(f"{shard.relative_to(folder)} {sha256}\n".encode())
    return digest.hexdigest()
