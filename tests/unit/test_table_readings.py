"""A table's answers, labels, days, patients and gaps are read as meant, or refused with row and
column; what was decided is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from openpyxl import Workbook
from pydantic import ValidationError

from ehrmind.config import TableFile, parse_recipe
from ehrmind.data import load_cases, save_cases
from ehrmind.data.table import read_table_cases
from ehrmind.data.unanswered import table_to_ask
from ehrmind.stages.data import read_splits
from ehrmind.types import Case, InputError
from tests.new_rows import ehrmind

GRADES = ["I", "II", "III", "IV"]


def table(folder: Path, *answers: Any, name: str = "q.csv", **columns: list[Any]) -> Path:
    rows = {"question": [f"Question {n}?" for n in range(len(answers))], "answer": list(answers), **columns}
    frame = pl.DataFrame(rows)
    frame.write_parquet(folder / name) if name.endswith(".parquet") else frame.write_csv(folder / name)
    return folder / name


def read(path: Path, **settings: Any) -> list[Case]:
    return read_table_cases(TableFile(path=path, **settings))[0]


def truths(cases: list[Case]) -> list[Any]:
    return [case.truth["value"] for case in cases]


def test_decimal_commas_are_read_as_such_and_said_in_notes_and_provenance(tmp_path: Path) -> None:
    cases, counts = read_table_cases(
        TableFile(path=table(tmp_path, "93,3", "76,7", "4,25"), kind="number", tolerance=0.1)
    )
    assert truths(cases) == [93.3, 76.7, 4.25] and cases[0].truth["low"] == pytest.approx(83.97)
    assert counts.notes == {"groups": 3, "column 'answer' is read with a decimal comma": 3}
    assert [case.provenance["read"] for case in cases] == [{"decimal": "comma"}] * 3
    assert cases[1].provenance["cell"] == {"file": "q.csv", "row": 2, "column": "answer", "cell": "76,7"}


def test_a_doubtful_number_is_refused_until_the_recipe_says_its_decimal_mark(tmp_path: Path) -> None:
    path = table(tmp_path, "12", "1,234")
    with pytest.raises(
        InputError, match=r"q\.csv, row 2, column 'answer': two readings.*--decimal comma \(in a recipe `decimal`\)"
    ):
        read(path, kind="number")
    assert truths(read(path, kind="number", decimal="comma")) == [12.0, 1.234]
    assert truths(read(path, kind="number", decimal="point")) == [12.0, 1234.0]


def test_days_of_a_column_are_read_in_one_order_and_times_of_day_are_counted(tmp_path: Path) -> None:
    cases, counts = read_table_cases(TableFile(path=table(tmp_path, "01/02/2026", "31/01/2026 10:15"), kind="date"))
    assert truths(cases) == ["2026-02-01", "2026-01-31"] and cases[0].provenance["read"] == {"dates": "day-first"}
    assert "column 'answer' is read day-first" in counts.notes and any("time of day" in note for note in counts.notes)
    path = table(tmp_path, "01/02/2026")
    with pytest.raises(InputError, match=r"row 1, column 'answer': two readings.*--dates day-first"):
        read(path, kind="date")
    assert truths(read(path, kind="date", dates="month-first")) == ["2026-01-02"]


def test_grades_that_are_numbers_are_places_only_from_where_the_recipe_says(tmp_path: Path) -> None:
    path = table(tmp_path, 1, 2, 3)
    with pytest.raises(InputError, match=r"row 1, column 'answer': a number where labels are words.*--labels-from"):
        read(path, kind="label", labels=GRADES)
    cases, counts = read_table_cases(TableFile(path=path, kind="label", labels=GRADES, labels_from=1))
    assert [case.truth["labels"][case.truth["value"]] for case in cases] == ["I", "II", "III"]
    assert (
        cases[0].provenance["read"] == {"labels_from": 1}
        and counts.notes["labels of column 'answer' that are numbers, counted from 1"] == 3
    )


def test_labels_of_a_float_column_are_the_whole_numbers_they_were(tmp_path: Path) -> None:
    path = table(tmp_path, 1.0, 2.0, 3.0, name="q.parquet")
    assert truths(read(path, kind="label", labels=["1", "2", "3"])) == [0, 1, 2]
    booleans = table(tmp_path, True, False, name="b.parquet")
    assert truths(read(booleans, kind="label", labels=["no", "yes"])) == [1, 0]


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "label", "labels": ["follow-up", "Follow up"]},
        {"kind": "label", "labels": ["not_relevant", "not relevant", "x"]},
        {"kind": "label", "labels": ["1", "1.0"]},
        {"kind": "label", "labels": ["a", " "]},
        {"kind": "label", "labels": ["1", "2"], "labels_from": 1},
        {"kind": "label", "labels": [False, True]},
        {"kind": "number", "labels_from": 1},
        {"kind": "label", "labels": ["a", "b"], "decimal": "comma"},
        {"kind": "number", "dates": "day-first"},
        {"kind": "number", "groups_of": "ward"},
    ],
)
def test_labels_that_meet_and_options_of_another_kind_are_refused_when_the_recipe_is_read(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        TableFile(path=Path("q.csv"), **settings)


def test_labels_that_yaml_made_numbers_of_are_words() -> None:
    assert TableFile.model_validate({"path": "q.csv", "kind": "label", "labels": [1, 2, "3"]}).labels == ["1", "2", "3"]


@pytest.mark.parametrize("nothing", ["", "NaN", "NULL", "NA", "\\N", "<NA>", "None", "inf", "#DIV/0!"])
def test_a_missing_answer_is_refused_and_never_a_value(tmp_path: Path, nothing: str) -> None:
    for settings in (
        {"kind": "number"},
        {"kind": "integer"},
        {"kind": "label", "labels": ["no", "yes"]},
        {"kind": "date"},
    ):
        if nothing == "inf" and settings["kind"] in ("label", "date"):
            continue
        good = {"number": "0", "integer": "0", "label": "no", "date": "1970-01-01"}[str(settings["kind"])]
        with pytest.raises(InputError, match="row 2, column 'answer': no answer"):
            read(table(tmp_path, good, nothing), **settings)
        assert truths(read(table(tmp_path, good), **settings)) in ([0], ["1970-01-01"])


def test_what_a_program_writes_for_nothing_is_no_record_no_worked_answer_and_no_hint(tmp_path: Path) -> None:
    more = {"note": ["NaN", "N/A", "text"], "why": ["NULL", "None", "because"], "hint": ["nan", "\\N", "look"]}
    path = table(tmp_path, 1, 2, 3, **more)
    file = TableFile(path=path, kind="number", record="note", rationale="why", hints={"hint": "hint"})
    cases, counts = read_table_cases(file)
    assert [case.fields["record"] for case in cases] == ["", "N/A", "text"]
    assert [case.rationale for case in cases] == [None, None, "because"]
    assert [case.provenance.get("hints") for case in cases] == [None, None, {"hint": "look"}]
    assert counts.notes["rows without a text in column 'note'"] == 1


def test_a_patient_is_one_group_however_a_file_spells_the_number(tmp_path: Path) -> None:
    more = {"patient": ["7", "007", " 7.0 ", "8", "Ｊ-9", "j‐9"]}
    cases, counts = read_table_cases(TableFile(path=table(tmp_path, *range(6), **more), kind="number", group="patient"))
    assert [case.group for case in cases] == ["7", "7", "7", "8", "j-9", "j-9"] and counts.notes["groups"] == 3
    assert counts.notes["groups that column 'patient' spells in several ways"] == 2
    with pytest.raises(InputError, match="row 2, column 'patient': no group"):
        read(table(tmp_path, 1, 2, patient=["7", "NaN"]), kind="number", group="patient")


def test_two_rows_whose_ids_are_one_number_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, 1, 2, name="q.csv", row=["7", "7.0"])
    for reads in (lambda file: read_table_cases(file), lambda file: table_to_ask(file)):
        with pytest.raises(InputError, match="rows 1 and 2, column 'row': the id is the same"):
            reads(TableFile(path=path, kind="number", id="row"))


def recipe_of(train: dict[str, Any], held_out: dict[str, Any]) -> Any:
    data = {"train": {"table": train}, "held_out": {"table": held_out}, "tuning": {"share_of_train": 0.3}}
    return parse_recipe({"data": data, "model": {"tiny": {}}})


@pytest.mark.parametrize("spelling", ["7001", "7001.0", " 7001", "07001"])
def test_a_patient_in_two_files_stops_the_run_unless_they_are_other_patients(tmp_path: Path, spelling: str) -> None:
    about = {"kind": "number", "group": "mrn"}
    train = table(tmp_path, *range(4), name="train.csv", mrn=["7001", "7002", "7003", "7004"])
    test = table(tmp_path, 5, 6, name="test.csv", mrn=[spelling, "9"])
    ours, theirs = {**about, "path": train, "shares": [1, 0, 0]}, {**about, "path": test, "shares": [0, 0, 1]}
    from ehrmind.data.splits import check_leaks

    def checked(held_out: dict[str, Any]) -> None:
        splits = read_splits(recipe_of(ours, held_out))[0]
        check_leaks(train=[*splits["train"], *splits["tuning"]], tuning=[], held_out=splits["held_out"])

    with pytest.raises(InputError, match=r"Leak: 1 group\(s\) of train"):
        checked(theirs)
    checked({**theirs, "groups_of": "the other ward"})


def test_split_words_of_other_tools_are_understood_and_others_refused(tmp_path: Path) -> None:
    words = ["Train", "TEST", "validation", "dev", "held-out", "tuning"]
    cases = read(table(tmp_path, *range(6), part=words), kind="number", split="part")
    assert [case.split for case in cases] == ["train", "held_out", "tuning", "tuning", "held_out", "tuning"]
    for word in ("0", "fold 1", ""):
        with pytest.raises(
            InputError, match="row 1, column 'part': a split is one of train, tuning, held_out; test is held_out"
        ):
            read(table(tmp_path, 1, part=[word]), kind="number", split="part")


def test_the_command_line_says_how_answers_were_read_and_takes_the_same_decisions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.csv").write_text("question;answer;mrn\na;1.234;7\nb;2.5;8\n".replace("2.5", "12.345"))
    said = ["data", "table", "q.csv", "--kind", "number", "--out", "c.parquet", "--group", "mrn", "--groups-of", "ward"]
    assert ehrmind(*said) == 2 and "--decimal comma" in capsys.readouterr().err
    assert (
        ehrmind(*said, "--decimal", "comma") == 0
        and "note 2: column 'answer' is read with a decimal comma" in capsys.readouterr().out
    )
    assert [(case.truth["value"], case.group) for case in load_cases("c.parquet")] == [
        (1234.0, "ward-7"),
        (12345.0, "ward-8"),
    ]
    (tmp_path / "g.csv").write_text("question,answer\na,1\nb,4\n")
    labels = [part for grade in GRADES for part in ("--label", grade)]
    assert (
        ehrmind("data", "table", "g.csv", "--kind", "label", *labels, "--labels-from", "1", "--out", "g.parquet") == 0
    )
    assert truths(load_cases("g.parquet")) == [0, 3]
    assert ehrmind("data", "table", "g.csv", "--kind", "label", "--label", "a-b", "--label", "a b", "--out", "x") == 2
    assert "'a-b' and 'a b' are one and the same" in capsys.readouterr().err


def test_rows_to_be_predicted_are_named_and_grouped_as_in_training(tmp_path: Path) -> None:
    path = table(tmp_path, 1, 2, name="new.csv", mrn=["7.0", "8"], note=["NaN", "text"])
    cases, counts = table_to_ask(TableFile(path=path, kind="number", group="mrn", record="note"))
    assert [case.group for case in cases] == ["7", "8"] and cases[0].fields["record"] == ""
    assert counts.notes["rows without a text in column 'note'"] == 1
    with pytest.raises(InputError, match="row 2, column 'mrn': no group"):
        table_to_ask(TableFile(path=table(tmp_path, 1, 2, mrn=["7", "NULL"]), kind="number", group="mrn"))


def test_a_sheet_of_several_is_named_by_the_recipe(tmp_path: Path) -> None:
    made = Workbook()
    for row in (["question", "answer"], ["a", 1.5]):
        made.active.append(row)
    made.create_sheet("Codes").append(["x"])
    made.save(tmp_path / "q.xlsx")
    with pytest.raises(
        InputError, match=r"several sheets \(Sheet, Codes\); name one with --sheet \(in a recipe `sheet`\)"
    ):
        read(tmp_path / "q.xlsx", kind="number")
    assert truths(read(tmp_path / "q.xlsx", kind="number", sheet="Sheet")) == [1.5]


def test_cases_keep_their_groups_at_rest(tmp_path: Path) -> None:
    cases = read(table(tmp_path, 1, 2, mrn=["7.0", "8"]), kind="number", group="mrn")
    save_cases(cases, tmp_path / "c.parquet")
    assert load_cases(tmp_path / "c.parquet") == cases
