"""Two data sets of the same people are one, whatever their folders are called: their patients may
not cross splits.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ehrmind.config import EhrFiles
from ehrmind.data.ehr import read_ehr
from ehrmind.data.splits import check_leaks, without_leaks
from ehrmind.types import Case, InputError, Split
from tests.meds_data import write_meds


def cases_of(folder: Path, split: Split) -> list[Case]:
    return [
        replace(case, split=split)
        for case in read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))[0]
    ]


def written_anew(folder: Path) -> None:
    for shard in (folder / "data").rglob("*.parquet"):
        pl.read_parquet(shard).write_parquet(shard, compression="snappy")


def a_year_older(folder: Path) -> None:
    for shard in (folder / "data").rglob("*.parquet"):
        birth = (
            pl.when(pl.col("code") == "MEDS_BIRTH").then(pl.col("time").dt.offset_by("-1y")).otherwise(pl.col("time"))
        )
        pl.read_parquet(shard).with_columns(birth.alias("time")).write_parquet(shard)


@pytest.mark.parametrize("change", [None, written_anew])
def test_a_copy_under_another_name_leaks(tmp_path: Path, change: object) -> None:
    first = write_meds(tmp_path / "hospital")
    second = shutil.copytree(first, tmp_path / "copy")
    if callable(change):
        change(second)
    train, held_out = cases_of(first, "train"), cases_of(second, "held_out")
    with pytest.raises(InputError, match=r"Leak: 30 group\(s\) of train \(30 cases"):
        check_leaks(train=train, tuning=[], held_out=held_out)
    assert without_leaks(train, held_out) == ([], 30)


def test_a_copy_is_known_by_its_data_sets_name(tmp_path: Path) -> None:
    first, second = write_meds(tmp_path / "a"), write_meds(tmp_path / "b")
    a_year_older(second)
    for folder in (first, second):
        (folder / "metadata" / "dataset.json").write_text(json.dumps({"dataset_name": "One"}))
    with pytest.raises(InputError, match=r"Leak: 30 group"):
        check_leaks(train=cases_of(first, "train"), tuning=[], held_out=cases_of(second, "held_out"))


def test_two_hospitals_that_number_their_patients_alike_do_not_leak(tmp_path: Path) -> None:
    first, second = write_meds(tmp_path / "a"), write_meds(tmp_path / "b")
    a_year_older(second)
    check_leaks(train=cases_of(first, "train"), tuning=[], held_out=cases_of(second, "held_out"))
