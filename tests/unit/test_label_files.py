"""A folder of label files: the parts of a task are one task, several tasks are none until one is
named.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ehrmind.data.label_files import label_files, task_name
from ehrmind.types import InputError


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "labels" / name).write_bytes(b"")
    return root / "labels"


@pytest.mark.parametrize(
    "names",
    [
        ("labels.parquet",),
        ("0.parquet", "1.parquet", "10.parquet"),
        ("train/0.parquet", "tuning/0.parquet", "held_out/0.parquet"),
        ("split=train/0.parquet", "split=test/0.parquet"),
        ("part-00000-0a1b.snappy.parquet", "part-00001-0a1b.snappy.parquet"),
        ("shard_0.csv", "shard_1.csv"),
        ("labels_1.parquet", "labels_2.parquet"),
        ("risk_0.parquet", "risk_1.parquet", "risk_2.parquet"),
        ("anything.parquet",),
    ],
)
def test_parts_are_one_task(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = label_files(folder(tmp_path, *names))
    assert found.task == "labels" and len(found.paths) == len(names) and found.unread == ()


@pytest.mark.parametrize(
    ("names", "said", "one", "files"),
    [
        (("guo_los/labels.parquet", "guo_icu/labels.parquet"), "2 tasks (guo_icu, guo_los)", "guo_icu", 1),
        (("guo_los.parquet", "guo_icu.parquet"), "2 tasks (guo_icu, guo_los)", "guo_los", 1),
        (("los/train/0.parquet", "los/held_out/0.parquet", "icu/train/0.parquet"), "2 tasks (icu, los)", "los", 2),
        (("train/los.parquet", "held_out/los.parquet", "train/icu.csv"), "2 tasks (icu, los)", "los", 2),
        (("risk_30.parquet", "risk_90.parquet"), "2 tasks (risk_30, risk_90)", "risk_90", 1),
    ],
)
def test_several_tasks_are_refused_by_name_until_one_is_chosen(
    tmp_path: Path, names: tuple[str, ...], said: str, one: str, files: int
) -> None:
    path = folder(tmp_path, *names)
    with pytest.raises(InputError) as error:
        label_files(path)
    assert said in str(error.value) and "--task" in str(error.value)
    with pytest.raises(InputError, match="holds the labels of 2 tasks"):
        label_files(path, "readmission")
    assert (label_files(path, one).task, len(label_files(path, one).paths)) == (one, files)


def test_one_task_in_a_folder_of_its_own_has_its_name_or_the_one_that_is_given(tmp_path: Path) -> None:
    path = folder(tmp_path, "guo_los/labels.parquet")
    assert label_files(path).task == "guo_los" and label_files(path, "mine").task == "mine"
    assert task_name(path / "guo_los" / "labels.parquet") == "guo_los" == task_name(path / "guo_los")


def test_what_lies_beside_the_labels_is_named_and_a_copy_in_another_format_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, "0.parquet", "1.feather", ".2.parquet", "README.md")
    assert label_files(path).unread == ("1.feather",) and len(label_files(path).paths) == 1
    with pytest.raises(InputError, match=r"0.csv and 0.parquet look like one file in two formats"):
        label_files(folder(tmp_path, "0.csv"))


def test_a_folder_without_labels_and_an_absent_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no label file \(\*.parquet or \*.csv\); it has a.jsonl"):
        label_files(folder(tmp_path, "a.jsonl"))
    with pytest.raises(InputError, match="There is no label file at"):
        label_files(tmp_path / "absent.parquet")
