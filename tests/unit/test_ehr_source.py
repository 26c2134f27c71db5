"""Labels over a MEDS data set become Cases: references, split by subject, with what cannot be used
refused or counted.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.cli import main
from ehrmind.config import EhrFiles
from ehrmind.data.ehr import read_ehr
from ehrmind.data.splits import check_leaks
from ehrmind.tasks.ehr import QUESTIONS
from ehrmind.types import Case, InputError
from ehrmind.verify.audit import check_cases
from tests.meds_data import START, write_meds
from tests.unit.test_ages import whole_years


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_meds(tmp_path / "meds")


def labels(folder: Path, rows: list[tuple[int, datetime, Any]], column: str = "boolean_value") -> Path:
    path = folder / "labels" / "mine.parquet"
    pl.DataFrame(rows, schema=["subject_id", "prediction_time", column], orient="row").write_parquet(path)
    return path


def in_splits(cases: list[Case]) -> dict[str, list[Case]]:
    return {split: [case for case in cases if case.split == split] for split in ("train", "tuning", "held_out")}


def test_a_case_is_a_reference_and_holds_no_event(folder: Path) -> None:
    case = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))[0][0]
    assert case.fields == {} and case.truth["labels"] == ["no", "yes"]
    assert (case.task, case.stratum, case.provenance["subject"]) == ("high_potassium", "ehr/meds/high_potassium", 1)


def test_a_case_knows_the_subjects_age_at_the_prediction_time_and_sex_where_the_data_say_them(folder: Path) -> None:
    events = pl.concat([pl.read_parquet(shard) for shard in sorted((folder / "data").rglob("*.parquet"))])
    born = dict(events.filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", "time").iter_rows())
    female = set(events.filter(pl.col("code") == "GENDER//F")["subject_id"])
    cases, _ = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))
    for case in cases:
        about = case.provenance
        day, birth = datetime.fromisoformat(about["as_of"]).date(), born[about["subject"]].date()
        assert int(about["age"]) == whole_years(birth, day) and about["age"] == pytest.approx(
            (day - birth).days / 365.25, abs=0.02
        )
        assert about["sex"] == ("female" if about["subject"] in female else "male")
    for shard in (folder / "data").rglob("*.parquet"):
        pl.read_parquet(shard).filter(~pl.col("code").is_in(["MEDS_BIRTH", "GENDER//F", "GENDER//M"])).write_parquet(
            shard
        )
    unknown, _ = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))
    assert not any({"age", "sex"} & case.provenance.keys() for case in unknown)


def test_the_data_sets_own_splits_are_kept(folder: Path) -> None:
    cases, counts = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))
    stored = dict(pl.read_parquet(folder / "metadata" / "subject_splits.parquet").iter_rows())
    assert all(case.split == stored[case.provenance["subject"]] for case in cases)
    assert {split: sum(found.values()) for split, found in counts.by_split.items()} == {
        "train": 18,
        "tuning": 6,
        "held_out": 6,
    }


def test_without_splits_subjects_are_split_by_seed_and_never_cross(folder: Path) -> None:
    (folder / "metadata" / "subject_splits.parquet").unlink()
    twice = labels(
        folder, [(subject, START.replace(month=month), True) for subject in range(1, 31) for month in (2, 3)]
    )
    splits = in_splits(read_ehr(EhrFiles(meds=folder, labels=twice))[0])
    check_leaks(train=splits["train"], tuning=splits["tuning"], held_out=splits["held_out"])
    assert [len(cases) for cases in splits.values()] == [42, 6, 12]


WRONG = [
    ((99, START, True), "the subject has no events"),
    ((1, datetime(1800, 1, 1), True), "the prediction time is before birth"),
    ((2, START, True), "the same subject and time twice"),
]


@pytest.mark.parametrize(("row", "reason"), WRONG)
def test_a_label_that_cannot_be_used_is_refused_with_its_row_or_counted(
    folder: Path, row: tuple[int, datetime, bool], reason: str
) -> None:
    path = labels(folder, [(1, START, True), (2, START, False), row])
    with pytest.raises(InputError, match=rf"mine.parquet, row 3: {reason} \(1 such\)"):
        read_ehr(EhrFiles(meds=folder, labels=path))
    cases, counts = read_ehr(EhrFiles(meds=folder, labels=path, unusable="leave_out"))
    assert len(cases) == 2 and counts.left_out == {reason: 1}


def test_a_subject_without_a_split_is_refused(folder: Path) -> None:
    path = folder / "metadata" / "subject_splits.parquet"
    pl.read_parquet(path).filter(pl.col("subject_id") != 7).write_parquet(path)
    with pytest.raises(
        InputError, match=r"have no place for 1 labelled subject.*, the first that of row 7 of labels.parquet"
    ):
        read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))


def test_grades_are_words_of_laboratory_tasks_and_other_classes_are_numbers(folder: Path) -> None:
    path = labels(folder, [(1, START, 0), (2, START, 3)], "integer_value")
    graded = read_ehr(EhrFiles(meds=folder, labels=path, task="lab_anemia"))[0]
    assert graded[1].truth == {"kind": "label", "value": 3, "labels": ["normal", "mild", "moderate", "severe"]}
    numbered, counts = read_ehr(
        EhrFiles(meds=folder, labels=path)
    )  # a count, a stage, a score: nobody said that 0 is normal
    assert numbered[1].truth == {"kind": "label", "value": 3, "labels": ["0", "1", "2", "3"]}
    assert any("numbers from 0 to 3" in note for note in counts.notes)
    with pytest.raises(InputError, match="run from -1 to 3"):
        read_ehr(EhrFiles(meds=folder, labels=labels(folder, [(1, START, -1), (2, START, 3)], "integer_value")))


def test_classes_that_begin_at_1_are_themselves_and_grades_that_do_are_refused_until_it_is_said(folder: Path) -> None:
    path = labels(folder, [(1, START, 1), (2, START, 4)], "integer_value")
    cases, _ = read_ehr(EhrFiles(meds=folder, labels=path))
    assert [case.truth["labels"][case.truth["value"]] for case in cases] == ["1", "4"]
    with pytest.raises(InputError, match="never are 0: say --labels-from 1"):
        read_ehr(EhrFiles(meds=folder, labels=path, task="lab_anemia"))
    graded, _ = read_ehr(EhrFiles(meds=folder, labels=path, task="lab_anemia", labels_from=1))
    assert [case.truth["labels"][case.truth["value"]] for case in graded] == ["normal", "severe"]
    with pytest.raises(InputError, match="there are four, from 0"):
        read_ehr(EhrFiles(meds=folder, labels=path, task="lab_anemia", labels_from=0))


def test_two_labels_of_one_subject_within_a_second_are_two_cases(folder: Path) -> None:
    from datetime import timedelta

    path = labels(folder, [(1, START, True), (1, START + timedelta(microseconds=500), False)])
    cases, _ = read_ehr(EhrFiles(meds=folder, labels=path))
    assert len({case.id for case in cases}) == 2 and cases[0].id.endswith("-1-20200101T000000")


def test_labels_of_another_data_set_are_refused_even_where_unusable_ones_are_left_out(folder: Path) -> None:
    path = labels(folder, [(subject, START, True) for subject in (1, *range(1001, 1020))])
    with pytest.raises(InputError, match="1 of its 20 subjects have events in"):
        read_ehr(EhrFiles(meds=folder, labels=path, unusable="leave_out"))


def test_a_task_whose_labels_are_all_alike_is_said_to_teach_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = labels(folder, [(1, START, False), (2, START, False)])
    with pytest.raises(SystemExit):
        main(
            ["data", "ehr", "--meds", str(folder), "--labels", str(path), "--out", str(folder.parent / "cases.parquet")]
        )
    assert "note 2: labels, and all of them are 'no': nothing can be learned" in capsys.readouterr().out


def test_a_person_born_at_the_number_0_has_an_age_and_no_label_before_birth(folder: Path) -> None:
    for shard in (folder / "data").rglob("*.parquet"):
        epoch = pl.when(pl.col("code") == "MEDS_BIRTH").then(pl.lit(datetime(1970, 1, 1))).otherwise(pl.col("time"))
        pl.read_parquet(shard).with_columns(epoch.alias("time")).write_parquet(shard)
    (case,), _ = read_ehr(EhrFiles(meds=folder, labels=labels(folder, [(1, datetime(2019, 6, 1), True)])))
    assert int(case.provenance["age"]) == 49
    with pytest.raises(InputError, match="before birth"):
        read_ehr(EhrFiles(meds=folder, labels=labels(folder, [(1, datetime(1969, 12, 31), True)])))
    (newborn,), _ = read_ehr(
        EhrFiles(meds=folder, labels=labels(folder, [(1, datetime(1970, 1, 1), True)]))
    )  # at the number 0 itself
    assert newborn.provenance["age"] == 0.0


def test_a_label_without_a_value_is_refused_with_its_row_or_counted(folder: Path) -> None:
    path = labels(folder, [(1, START, True), (2, START, None)])
    with pytest.raises(
        InputError, match=r"mine.parquet, row 2: there is no label \(1 such\); .*--leave-out-unusable \(in a recipe"
    ):
        read_ehr(EhrFiles(meds=folder, labels=path))
    cases, counts = read_ehr(EhrFiles(meds=folder, labels=path, unusable="leave_out"))
    assert len(cases) == 1 and counts.left_out == {"there is no label": 1}


def test_an_age_that_nobody_reaches_is_counted(folder: Path) -> None:
    shard = folder / "data" / "1" / "0.parquet"
    long_ago = (
        pl.when((pl.col("code") == "MEDS_BIRTH") & (pl.col("subject_id") == 1))
        .then(datetime(1720, 1, 1))
        .otherwise(pl.col("time"))
    )
    pl.read_parquet(shard).with_columns(long_ago.cast(pl.Datetime("us")).alias("time")).write_parquet(shard)
    _, counts = read_ehr(EhrFiles(meds=folder, labels=labels(folder, [(1, START, True), (2, START, False)])))
    (note,) = [note for note in counts.notes if "older than 120 years" in note]
    assert counts.notes[note] == 1


def test_a_file_beside_the_shards_and_a_column_that_is_not_shown_are_named(folder: Path) -> None:
    (folder / "data" / "3").mkdir()
    (folder / "data" / "3" / "0.csv").write_text("subject_id,time,code\n")
    shard = folder / "data" / "0" / "0.parquet"
    pl.read_parquet(shard).with_columns(pl.lit(7).alias("visit_id")).write_parquet(shard)
    _, counts = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))
    assert counts.notes["files in another format than MEDS has, which are not read: data/3/0.csv"] == 1
    assert counts.notes["columns of the event shards that histories do not show: visit_id"] == 1


def test_all_cases_are_proven(folder: Path) -> None:
    assert check_cases(read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))[0]).ok
    path = labels(folder, [(s, START, s % 4) for s in range(1, 31)], "integer_value")
    graded = read_ehr(EhrFiles(meds=folder, labels=path, task="lab_anemia"))[0]
    assert check_cases(graded).ok


def test_every_ehrshot_task_has_its_question(data_dir: Path) -> None:
    import json

    tasks = json.loads((data_dir / "ehrshot-schema" / "tasks.json").read_text())
    assert QUESTIONS.keys() - tasks.keys() == {"next_hemoglobin_low"}  # the demo's
    assert tasks.keys() <= QUESTIONS.keys()
