"""The EHRSHOT release's files, read as if they were MEDS."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from ehrmind.config import EhrFiles, History
from ehrmind.data import ehrshot
from ehrmind.data.ehr import read_ehr
from ehrmind.data.ehrshot import CHEXPERT, open_ehrshot, read_ehrshot_labels
from ehrmind.prompts.records import with_histories
from ehrmind.types import InputError

HEADER = ",patient_id,start,end,code,value,unit,visit_id,omop_table\n"
PERSON = "0,{p},1960-05-01 00:00:00,,SNOMED/3950001,,,,person\n1,{p},1960-05-01 00:00:00,,Gender/F,,,,person\n"
VISIT = "2,{p},2020-01-05 10:00:00,2020-01-09 10:00:00,Visit/IP,,,7,visit_occurrence\n"
LAB = (
    "3,{p},2020-01-05 11:00:00,,LOINC/2823-3,5.6,mmol/L,7,measurement\n4,{p},2020-01-05"
    " 12:00:00,,LOINC/5778-6,yellow,,7,measurement\n"
)


def release(
    folder: Path, events: str | None = None, labels: str | None = None, task: str = "guo_los", splits: str | None = None
) -> Path:
    data = folder / "EHRSHOT_ASSETS"
    for name in ("data", f"benchmark/{task}", "splits"):
        (data / name).mkdir(parents=True, exist_ok=True)
    every = "".join((PERSON + VISIT + LAB).format(p=patient) for patient in (1, 2, 3))
    (data / "data" / "ehrshot.csv").write_text(HEADER + (every if events is None else events))
    rows = (
        "1,2020-01-05T23:59:00,boolean,True\n2,2020-01-05T23:59:00,boolean,False\n3,2020-01-05T23:59:00,boolean,False\n"
    )
    (data / "benchmark" / task / "labeled_patients.csv").write_text(
        "patient_id,prediction_time,label_type,value\n" + (labels or rows)
    )
    (data / "splits" / "person_id_map.csv").write_text(
        "split,omop_person_id\n" + (splits or "train,1\nval,2\ntest,3\n")
    )
    return folder


def test_a_task_of_the_release_becomes_cases_in_its_canonical_splits(tmp_path: Path) -> None:
    cases, counts = read_ehr(EhrFiles(ehrshot=release(tmp_path), task="guo_los"))
    assert [(case.provenance["subject"], case.split, case.truth["value"]) for case in cases] == [
        (1, "train", 1),
        (2, "tuning", 0),
        (3, "held_out", 0),
    ]
    assert counts.by_stratum == {"ehr/ehrshot/guo_los": 3}


def test_a_history_hides_the_discharge_and_keeps_words_and_numbers(tmp_path: Path) -> None:
    cases, _ = read_ehr(EhrFiles(ehrshot=release(tmp_path), task="guo_los"))
    filled, _ = with_histories(cases, History(kinds=["visits", "labs"]))
    assert (
        filled[0].fields["history"]
        == "59 years old, female\ntoday: Visit/IP, no end known; LOINC/2823-3 5.6 mmol/L high; LOINC/5778-6 yellow"
    )


def test_batches_never_part_a_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_ehrshot(release(tmp_path))
    found = {}
    for rows in (1, 4, 100):
        monkeypatch.setattr(ehrshot, "ROWS_AT_ONCE", rows)
        found[rows] = sorted(
            (int(patient), int(timeline.visible(np.array([patient]), np.array([2**62])).known[0]))
            for _, timeline in whole.timelines()
            for patient in (1, 2, 3)
            if timeline.has(np.array([patient]))[0]
        )
    assert found[1] == found[4] == found[100] == [(1, 4), (2, 4), (3, 4)]


def test_a_chest_radiograph_label_is_one_finding_of_fourteen(tmp_path: Path) -> None:
    first_and_edema = 2**13 + 2 ** (13 - CHEXPERT.index("edema"))
    rows = f"1,2020-01-05T23:59:00,categorical,{first_and_edema}\n2,2020-01-05T23:59:00,categorical,0\n"
    folder = release(tmp_path, labels=rows, task="chexpert")
    for finding, values in (("edema", [1, 0]), ("no_finding", [1, 0]), ("fracture", [0, 0])):
        assert read_ehrshot_labels(folder, f"chexpert_{finding}")[1]["value"].to_list() == values
    with pytest.raises(InputError, match="chexpert is 14 tasks; name one of chexpert_no_finding"):
        read_ehrshot_labels(folder, "chexpert")
    with pytest.raises(InputError, match="'cough' is no finding"):
        read_ehrshot_labels(folder, "chexpert_cough")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("EHRSHOT_ASSETS/data/ehrshot.csv.gz", "ehrshot.csv and .*ehrshot.csv.gz are both there; leave one"),
        ("old/ehrshot.csv", "old/ehrshot.csv and .*ehrshot.csv are both there; leave one"),
        ("EHRSHOT_ASSETS/data/ehrshot-00001.csv", "ehrshot-00001.csv lies next to it; join them"),
        ("EHRSHOT_ASSETS/data/ehrshot_2.parquet", "ehrshot_2.parquet lies next to it; join them"),
        ("old/benchmark/guo_los/labeled_patients.csv", "labeled_patients.csv are both there"),
        ("old/person_id_map.csv", "person_id_map.csv are both there"),
    ],
)
def test_no_file_of_a_release_is_lost_beside_another(tmp_path: Path, name: str, says: str) -> None:
    folder = release(tmp_path)
    other = folder / name
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("other")
    with pytest.raises(InputError, match=says):
        read_ehr(EhrFiles(ehrshot=folder, task="guo_los"))


def test_a_copy_of_a_file_of_a_release_is_no_second_one(tmp_path: Path) -> None:
    folder = release(tmp_path)
    (folder / "copy").mkdir()
    (folder / "copy" / "ehrshot.csv").write_bytes((folder / "EHRSHOT_ASSETS" / "data" / "ehrshot.csv").read_bytes())
    assert read_ehr(EhrFiles(ehrshot=folder, task="guo_los"))[1].kept == 3


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (PERSON.format(p="x"), "row 1, column 'patient_id': not a whole number"),
        ("0,1,yesterday,,Gender/F,,,,person\n", "row 1, column 'start': no time without a zone"),
        (
            PERSON.format(p=1) + "2,1,2020-01-05 10:00:00,later,Visit/IP,,,7,visit_occurrence\n",
            "row 3, column 'end': no time without a zone",
        ),
        ("0,1,1960-05-01 00:00:00,,,,,,person\n", "row 1, column 'code': no value"),
        (PERSON.format(p=1) + PERSON.format(p=2) + PERSON.format(p=1), r"the rows of 1 patient\(s\) are not together"),
        ("", "no rows"),
    ],
)
def test_events_that_do_not_fit_are_refused_with_file_and_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: str, says: str
) -> None:
    monkeypatch.setattr(ehrshot, "ROWS_AT_ONCE", 2)
    with pytest.raises(InputError, match=says):
        list(open_ehrshot(release(tmp_path, events)).timelines())


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("1,2020-01-05T23:59:00,boolean,maybe\n", "row 1, column 'value'"),
        ("1,soon,boolean,True\n", "row 1, column 'prediction_time'"),
        ("one,2020-01-05T23:59:00,boolean,True\n", "row 1, column 'patient_id'"),
        ("1,2020-01-05T23:59:00,essay,True\n", "row 1, column 'label_type': boolean or categorical is wanted"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_file_and_row(tmp_path: Path, labels: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"labeled_patients.csv, .*{says}"):
        read_ehrshot_labels(release(tmp_path, labels=labels), "guo_los")


def test_an_absent_task_names_those_there_are_and_splits_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labels for 'guo_icu'; it has guo_los"):
        read_ehrshot_labels(release(tmp_path), "guo_icu")
    with pytest.raises(InputError, match=r"person_id_map.csv, rows 1 and 2: one subject is in two splits"):
        open_ehrshot(release(tmp_path, splits="train,1\ntest,1\n"))
    with pytest.raises(InputError, match=r"no ehrshot.csv under it"):
        open_ehrshot(tmp_path / "EHRSHOT_ASSETS" / "splits")


def test_ages_come_from_the_birth_of_the_person(tmp_path: Path) -> None:
    timeline = next(
        timeline for _, timeline in open_ehrshot(release(tmp_path)).timelines() if timeline.has(np.array([1]))[0]
    )
    born = timeline.born(np.array([1]))
    assert born.tolist() == [int(np.datetime64(datetime(1960, 5, 1), "us").astype(int))]


def test_a_patient_is_one_however_events_labels_and_splits_spell_the_number(tmp_path: Path) -> None:
    folder = release(
        tmp_path,
        events="".join((PERSON + VISIT).format(p=patient) for patient in ("0001", "2.0", "3")),
        labels=(
            "1.0,2020-01-05 23:59:00,boolean,yes\n002,2020-01-05T23:59,boolean,0\n 3"
            " ,2020-01-05T23:59:00,boolean,False\n"
        ),
        splits="training,1.0\nvalidation,2\nheld_out,03\n",
    )
    cases, _ = read_ehr(EhrFiles(ehrshot=folder, task="guo_los"))
    assert [(case.provenance["subject"], case.split, case.truth["value"]) for case in cases] == [
        (1, "train", 1),
        (2, "tuning", 0),
        (3, "held_out", 0),
    ]


def test_a_value_that_is_a_spelling_of_nothing_is_no_result_and_0_is_one(tmp_path: Path) -> None:
    rows = "".join(f"3,1,2020-01-05 1{place}:00:00,,LOINC/{place},{value},{unit},7,measurement\n" for place, (value, unit) in enumerate(
        [("NaN", "NULL"), ("inf", ""), ("NULL", "mg/dL"), ("0", "mg/dL"), ("None", "")]
    ))  # fmt: skip
    folder = release(tmp_path, events=PERSON.format(p=1) + rows, labels="1,2020-01-05T23:59:00,boolean,True\n")
    (filled,), _ = with_histories(read_ehr(EhrFiles(ehrshot=folder, task="guo_los"))[0], History(kinds=["labs"]))
    assert (
        filled.fields["history"].split("\n")[1]
        == "today: LOINC/0; LOINC/1; LOINC/2 mg/dL; LOINC/3 0 mg/dL; LOINC/4 None"
    )


def test_a_label_file_without_rows_or_labels_is_said_to_have_none(tmp_path: Path) -> None:
    folder = release(tmp_path, labels="\n")
    with pytest.raises(InputError, match="is empty: it has a header but no labels"):
        read_ehrshot_labels(folder, "guo_los")
    with pytest.raises(InputError, match="column 'value': no row has a label"):
        read_ehrshot_labels(release(tmp_path, labels="1,2020-01-05T23:59:00,boolean,NaN\n"), "guo_los")


def test_a_day_without_a_time_is_an_event_at_its_beginning(tmp_path: Path) -> None:
    events = "".join(
        (PERSON + VISIT + LAB + "5,{p},2020-01-05,,ICD10CM/I10,,,7,condition_occurrence\n").format(p=patient)
        for patient in (1, 2, 3)
    )
    cases, _ = read_ehr(EhrFiles(ehrshot=release(tmp_path, events), task="guo_los"))
    filled, _ = with_histories(cases, History(kinds=["diagnoses"]))
    assert filled[0].fields["history"].endswith("today: ICD10CM/I10")
