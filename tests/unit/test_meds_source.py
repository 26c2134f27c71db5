"""MEDS data sets and label files: what is read, and what is said of those that do not fit."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ehrmind.data.meds import open_meds, read_shard
from ehrmind.data.timeline import Timeline
from ehrmind.types import InputError

T = [datetime(2020, 1, day) for day in range(1, 10)]
PLAIN: dict[str, Any] = {"subject_id": [1, 1, 2], "time": [None, T[0], T[1]], "code": ["GENDER//F", "A", "B"]}


def a_data_set(folder: Path, events: dict[str, Any] | None = None, **schema: Any) -> Path:
    (folder / "data" / "train").mkdir(parents=True)
    (folder / "metadata").mkdir()
    frame = pl.DataFrame(events or PLAIN).with_columns(
        pl.col("time").cast(schema.get("time", pl.Datetime("us")), strict=False)
    )
    frame.write_parquet(folder / "data" / "train" / "0.parquet")
    pl.DataFrame({"code": ["A", "B"], "description": ["Asthma", None]}).write_parquet(
        folder / "metadata" / "codes.parquet"
    )
    pl.DataFrame({"subject_id": [1, 2], "split": ["train", "held_out"]}).write_parquet(
        folder / "metadata" / "subject_splits.parquet"
    )
    (folder / "metadata" / "dataset.json").write_text(json.dumps({"dataset_name": "Tiny", "meds_version": "0.3.3"}))
    return folder


def test_a_data_set_has_its_shards_names_and_splits(tmp_path: Path) -> None:
    found = open_meds(a_data_set(tmp_path))
    assert (found.name, dict(found.names), dict(found.splits)) == ("Tiny", {"A": "Asthma"}, {1: "train", 2: "held_out"})
    ((shard, timeline),) = found.timelines()
    assert shard.name == "0.parquet" and timeline.has(pl.Series([1, 2, 3]).to_numpy()).tolist() == [True, True, False]


def test_metadata_may_be_absent_and_codes_empty(tmp_path: Path) -> None:
    folder = a_data_set(tmp_path / "set")
    for name in ("subject_splits.parquet", "dataset.json"):
        (folder / "metadata" / name).unlink()
    pl.DataFrame(schema={"code": pl.String, "description": pl.String}).write_parquet(
        folder / "metadata" / "codes.parquet"
    )
    found = open_meds(folder)
    assert (found.name, dict(found.names), dict(found.splits)) == ("set", {}, {})


def test_the_digest_changes_with_the_events(tmp_path: Path) -> None:
    first = open_meds(a_data_set(tmp_path / "a")).digest
    other = open_meds(a_data_set(tmp_path / "b", {**PLAIN, "code": ["GENDER//F", "A", "C"]})).digest
    assert first == open_meds(tmp_path / "a").digest != other


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ({**PLAIN, "code": ["A", None, "B"]}, "row 2, column 'code': no value"),
        ({**PLAIN, "subject_id": [None, 1, 2]}, "row 1, column 'subject_id': no value"),
        ({**PLAIN, "subject_id": ["1", "1", "2"]}, "column 'subject_id': String values"),
        ({**PLAIN, "code": [1, 2, 3]}, "column 'code': Int64 values"),
        ({**PLAIN, "numeric_value": ["1", "2", "3"]}, "column 'numeric_value': String values"),
        (
            {"subject_id": [1, 1], "time": [T[1], T[0]], "code": ["A", "B"]},
            "row 2: earlier than the subject's event before it",
        ),
        (
            {"subject_id": [1, 1], "time": [T[1], None], "code": ["A", "B"]},
            "row 2: earlier than the subject's event before it",
        ),
        ({"subject_id": [1, 2, 1], "time": [T[1], T[2], T[3]], "code": ["A", "B", "C"]}, "are not together"),
        ({"patient_id": [1], "time": [T[0]], "code": ["A"]}, "MEDS before 0.3"),
        ({"subject_id": [1], "time": [T[0]]}, "no column 'code'"),
    ],
)
def test_events_that_do_not_fit_are_refused_by_name(tmp_path: Path, events: dict[str, Any], says: str) -> None:
    folder = a_data_set(tmp_path, events)
    with pytest.raises(InputError, match=says):
        read_shard(folder / "data" / "train" / "0.parquet")


@pytest.mark.parametrize("kind", [pl.Date, pl.String, pl.Datetime("us", "UTC"), pl.Int64])
def test_a_time_of_another_type_is_refused(tmp_path: Path, kind: Any) -> None:
    folder = a_data_set(tmp_path, time=kind)
    with pytest.raises(InputError, match=r"column 'time'.*without a zone"):
        read_shard(folder / "data" / "train" / "0.parquet")


def test_a_subject_in_two_shards_and_in_two_splits_is_refused(tmp_path: Path) -> None:
    folder = a_data_set(tmp_path)
    (folder / "data" / "train" / "1.parquet").write_bytes((folder / "data" / "train" / "0.parquet").read_bytes())
    with pytest.raises(InputError, match="are in another shard too"):
        list(open_meds(folder).timelines())
    pl.DataFrame({"subject_id": [1, 1], "split": ["train", "tuning"]}).write_parquet(
        folder / "metadata" / "subject_splits.parquet"
    )
    with pytest.raises(InputError, match="rows 1 and 2: one subject is in two splits"):
        open_meds(folder)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no parquet file under data/"):
        open_meds(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not a parquet file"):
        list(open_meds(tmp_path).timelines())


def test_splits_are_of_one_subject_however_the_number_is_spelled_and_may_have_other_names(tmp_path: Path) -> None:
    folder = a_data_set(tmp_path)
    for subjects in (["1.0", "002"], [1.0, 2.0], pl.Series([1, 2], dtype=pl.UInt32)):
        pl.DataFrame({"subject_id": subjects, "split": ["train", "test"]}).write_parquet(
            folder / "metadata" / "subject_splits.parquet"
        )
        assert dict(open_meds(folder).splits) == {1: "train", 2: "held_out"}
    pl.DataFrame({"subject_id": [1, 2], "split": ["train", "later"]}).write_parquet(
        folder / "metadata" / "subject_splits.parquet"
    )
    with pytest.raises(InputError, match="row 2, column 'split': it is not one of train, tuning, held_out"):
        open_meds(folder)


def test_a_folder_of_events_in_another_format_says_which(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.csv").write_text("subject_id\n")
    with pytest.raises(InputError, match=r"no parquet file under data/; MEDS is parquet, so convert 0.csv"):
        open_meds(tmp_path)


def test_a_subject_number_too_large_for_meds_is_refused(tmp_path: Path) -> None:
    folder = a_data_set(tmp_path, {**PLAIN, "subject_id": pl.Series([1, 1, 2**63 + 1], dtype=pl.UInt64)})
    with pytest.raises(InputError, match="row 3, column 'subject_id': not a whole number"):
        read_shard(folder / "data" / "train" / "0.parquet")


def a_shard(folder: Path, name: str, *subjects: int) -> None:
    events = {"subject_id": subjects, "time": [T[0]] * len(subjects), "code": ["A"] * len(subjects)}
    (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(events).with_columns(pl.col("time").cast(pl.Datetime("us"))).write_parquet(folder / "data" / name)


def test_without_a_file_of_splits_the_folders_of_the_shards_say_them(tmp_path: Path) -> None:
    for name, subject in (("train/0.parquet", 1), ("tuning/0.parquet", 2), ("held_out/0.parquet", 3)):
        a_shard(tmp_path, name, subject)
    found = open_meds(tmp_path)
    assert dict(found.splits) == {1: "train", 2: "tuning", 3: "held_out"}
    assert (
        found.notes()["subjects whose split is that of their shard's folder, as there is no subject_splits.parquet"]
        == 3
    )


@pytest.mark.parametrize(
    "names", [("0.parquet", "1.parquet"), ("train/0.parquet", "train/1.parquet"), ("train/0.parquet", "more/0.parquet")]
)
def test_folders_that_do_not_divide_all_the_shards_say_no_split(tmp_path: Path, names: tuple[str, str]) -> None:
    for subject, name in enumerate(names):
        a_shard(tmp_path, name, subject)
    assert not open_meds(tmp_path).splits and not open_meds(tmp_path).notes()


def test_splits_in_another_format_are_refused_and_names_of_codes_in_one_are_named(tmp_path: Path) -> None:
    a_shard(tmp_path, "train/0.parquet", 1, 2)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "codes.csv").write_text("code,description\nA,Asthma\n")
    assert open_meds(tmp_path).notes() == {
        "files in another format than MEDS has, which are not read: metadata/codes.csv": 1
    }
    (tmp_path / "metadata" / "subject_splits.csv").write_text("subject_id,split\n1,train\n2,held_out\n")
    with pytest.raises(InputError, match=r"subject_splits\.csv has the splits in a form that is not read"):
        open_meds(tmp_path)


def test_nanoseconds_are_rounded_up_so_that_nothing_is_known_early(tmp_path: Path) -> None:
    at = 1_577_836_800_000_000_000  # 2020-01-01, in nanoseconds
    times = pl.Series("time", [at - 1, at, at + 1, at + 999]).cast(pl.Datetime("ns"))
    events = pl.DataFrame({"subject_id": [1] * 4, "code": ["before", "at", "after", "later"]}).with_columns(times)
    events.write_parquet(tmp_path / "0.parquet")
    timeline = Timeline(read_shard(tmp_path / "0.parquet"))
    found = timeline.visible(np.array([1]), np.array([at // 1000]))
    assert len(found.events) == 2
