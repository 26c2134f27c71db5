"""Finds the split of each MEDS subject: from the metadata, otherwise from the shards' folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ehrmind.data.bounds import parquet_file
from ehrmind.data.splits import split_of_subjects, split_of_word
from ehrmind.data.subject_columns import subject_numbers
from ehrmind.system import unread
from ehrmind.types import InputError, Split


def metadata_splits(metadata: Path) -> dict[int, Split]:
    """Reads subject_splits.parquet; the result is empty without the file.

    Raises InputError if the file does not fit or is not parquet.
    """
    import polars as pl

    path = metadata / "subject_splits.parquet"
    if not path.is_file():
        others = sorted(file.name for file in metadata.glob("subject_splits*") if not file.name.startswith("."))
        if others:
            raise InputError(
                f"{metadata / others[0]} has the splits in a form that is not read; write it as {path.name}, as MEDS"
                " has it."
            )
        return {}
    frame = pl.DataFrame(_table(path))
    for column in ("subject_id", "split"):
        if column not in frame.columns:
            raise InputError(f"{path} does not fit MEDS: it has no column '{column}'.")
    return split_of_subjects(subject_numbers(frame["subject_id"], path), frame["split"].cast(pl.String), path)


def folder_splits(data: Path, shards: Sequence[Path]) -> dict[int, Split]:
    """Reads splits from the names of folders or shard files: train, tuning or held_out.

    The result is empty unless every shard has such a name and at least two names occur.
    """
    import polars as pl

    words = [shard.relative_to(data).parts[0] for shard in shards]
    splits = [
        split_of_word(word.rpartition(".")[0] if word == shard.name else word)
        for word, shard in zip(words, shards, strict=True)
    ]
    if None in splits or len(set(splits)) < 2:
        return {}
    found: dict[int, Split] = {}
    for shard, split in zip(shards, splits, strict=True):
        try:
            parquet_file(shard, str(shard)).close()
            subjects = pl.read_parquet(shard, columns=["subject_id"], hive_partitioning=False)["subject_id"].unique()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            return {}  # `read_shard` raises the error
        assert split is not None
        found |= dict.fromkeys(subjects.to_list(), split)
    return found


def _table(path: Path) -> Any:
    import pyarrow as pa

    try:
        return parquet_file(path, str(path)).read()
    except (pa.ArrowException, OSError) as error:
        raise unread(error, path, f"{path} is not a parquet file, or there is none; MEDS is parquet.") from None
