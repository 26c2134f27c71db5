"""Labels that an ACES task file makes: the same as computed without ACES, over shards, with what is
wrong said in one sentence.
"""

from __future__ import annotations

import json
import logging
import random
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from pydantic import ValidationError

from ehrmind.cli import main
from ehrmind.config import EhrFiles, load_recipe
from ehrmind.data import load_cases
from ehrmind.data.aces import VISIBLE_LABEL
from ehrmind.data.ehr import read_ehr
from ehrmind.tasks.ehr import question
from ehrmind.types import InputError
from ehrmind.verify.audit import check_cases
from tests.meds_data import SCHEMA, START

pytest.importorskip("aces")

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
ADMISSION, DISCHARGE, DEATH, SECRET = "Admission", "Discharge", "MEDS_DEATH", "Canary-of-the-record"
PREDICATES = """\
predicates:
  admission: {code: Admission}
  discharge: {code: {regex: "^Disch"}}
  death: {code: MEDS_DEATH}
  discharge_or_death: {expr: "or(discharge, death)"}
"""
READMISSION = f"""\
{PREDICATES}trigger: discharge
windows:
  input: {{start: null, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end}}
  target: {{start: input.end, end: start + 30d, start_inclusive: false, end_inclusive: true, label: admission}}
"""
DEATH_IN_HOSPITAL = f"""\
{PREDICATES}trigger: admission
windows:
  input: {{start: null, end: trigger + 24h, start_inclusive: true, end_inclusive: true, index_timestamp: end}}
  gap:
    start: trigger
    end: start + 48h
    start_inclusive: false
    end_inclusive: true
    has: {{admission: "(None, 0)", discharge: "(None, 0)", death: "(None, 0)"}}
  target: {{start: gap.end, end: start -> discharge_or_death, start_inclusive: false, end_inclusive: true, label: death}}
"""


class Stay(NamedTuple):
    """Events of one subject; `died` at its end."""

    subject: int
    begins: datetime
    ends: datetime
    died: bool


def stays(subjects: int = 80) -> list[Stay]:
    """One to five a subject, hours to days long, days to months apart; some end in death."""
    made = []
    for subject in range(1, subjects + 1):
        draw = random.Random(subject)
        at = START + draw.randint(0, 99) * DAY
        for _ in range(draw.randint(1, 5)):
            ends = at + draw.randint(5, 240) * HOUR
            made.append(Stay(subject, at, ends, draw.random() < 0.2))
            if made[-1].died:
                break
            at = ends + draw.choice([1, 2, 20, 30, 31, 90]) * DAY
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four shards; the admission and what ends it, and a result in between."""
    rows: list[tuple[Any, ...]] = []
    for subject, begins, ends, died in stays():
        rows.append((subject, begins, ADMISSION, None, None, None, None))
        rows.append((subject, begins + 2 * HOUR, "LOINC/2823-3", 4.5, SECRET, "mmol/L", None))
        rows.append((subject, ends, DEATH if died else DISCHARGE, None, None, None, None))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    for shard in range(4):
        (tmp_path / "meds" / "data" / str(shard)).mkdir(parents=True)
        mine = frame.filter(pl.col("subject_id") % 4 == shard).sort("subject_id", "time", maintain_order=True)
        mine.write_parquet(tmp_path / "meds" / "data" / str(shard) / "0.parquet")
    return tmp_path / "meds"


def task(folder: Path, text: str, name: str = "my_task.yaml") -> Path:
    path = folder.parent / name
    path.write_text(text, encoding="utf-8")
    return path


def found(folder: Path, path: Path) -> set[tuple[int, str, int]]:
    cases, counts = read_ehr(EhrFiles(meds=folder, aces=path))
    assert counts.kept == len(cases) and VISIBLE_LABEL not in counts.notes
    return {(case.provenance["subject"], case.provenance["as_of"], case.truth["value"]) for case in cases}


def test_readmissions_are_those_counted_without_aces(folder: Path) -> None:
    expected = {
        (stay.subject, stay.ends.isoformat(), int(any(
            other.subject == stay.subject and stay.ends < other.begins <= stay.ends + 30 * DAY for other in stays()
        )))
        for stay in stays() if not stay.died
    }  # fmt: skip
    assert {value for *_, value in expected} == {0, 1} and len(expected) > 100
    assert found(folder, task(folder, READMISSION)) == expected


def test_a_window_that_is_offset_means_the_same_in_every_shard(folder: Path) -> None:
    expected = {
        (stay.subject, (stay.begins + DAY).isoformat(), int(stay.died))
        for stay in stays()
        if stay.ends > stay.begins + 48 * HOUR
    }
    assert {value for *_, value in expected} == {0, 1} and len(expected) > 100
    assert found(folder, task(folder, DEATH_IN_HOSPITAL)) == expected


def test_a_label_that_occurs_more_than_once_is_yes(folder: Path) -> None:
    often = READMISSION.replace("30d", "300d")
    cases, counts = read_ehr(EhrFiles(meds=folder, aces=task(folder, often)))
    again = [sum(a.subject == b.subject and a.ends < b.begins for b in stays()) for a in stays() if not a.died]
    assert max(again) > 1 and cases[0].truth["labels"] == ["no", "yes"]
    assert (
        sum(case.truth["value"] for case in cases)
        == sum(times > 0 for times in again)
        == sum(s["yes"] for s in counts.by_split.values())
    )


@pytest.mark.slow
def test_the_files_that_acess_own_command_writes_give_the_same_labels(folder: Path) -> None:
    import subprocess

    path = task(folder, READMISSION)
    labels = folder / "labels" / "readmission"
    for shard in range(4):
        named = [
            f"data.path={folder}/data/{shard}/0.parquet",
            "data.standard=meds",
            f"cohort_dir={folder.parent}",
            "cohort_name=my_task",
        ]
        named += [
            f"config_path={path}",
            f"output_filepath={labels}/{shard}.parquet",
            f"hydra.run.dir={folder.parent}/hydra",
        ]
        subprocess.run(
            [Path(sys.executable).parent / "aces-cli", *named], check=True, capture_output=True, cwd=folder.parent
        )
    written = pl.read_parquet(labels / "0.parquet")
    assert [written[name].is_null().all() for name in ("integer_value", "float_value", "categorical_value")] == [
        True
    ] * 3
    theirs, _ = read_ehr(EhrFiles(meds=folder, labels=labels, task="my_task"))
    ours, _ = read_ehr(EhrFiles(meds=folder, aces=path))
    for case in theirs:
        del case.provenance["cell"]  # type: ignore[attr-defined]
    assert sorted(theirs, key=lambda case: case.id) == sorted(ours, key=lambda case: case.id)


def test_the_task_is_named_and_asked_by_its_file_and_the_file_is_recorded(folder: Path) -> None:
    import hashlib

    path = task(folder, READMISSION, "back_in_30_days.yaml")
    cases, counts = read_ehr(EhrFiles(meds=folder, aces=path))
    assert (cases[0].task, cases[0].stratum) == ("back_in_30_days", "ehr/meds/back_in_30_days")
    assert "'back in 30 days'" in question(cases[0])
    (read,) = counts.files
    assert (read.name, read.rows) == (path.name, len(cases)) and read.sha256 == hashlib.sha256(
        path.read_bytes()
    ).hexdigest()
    named, _ = read_ehr(EhrFiles(meds=folder, aces=path, task="mine", question="Will the patient be back?"))
    assert named[0].task == "mine" and question(named[0]).startswith(
        "Will the patient be back? Answer with one of: no, yes"
    )
    assert check_cases(named).ok


def test_cases_come_in_the_same_order_every_time(folder: Path) -> None:
    path = task(folder, DEATH_IN_HOSPITAL)
    first, again = (read_ehr(EhrFiles(meds=folder, aces=path))[0] for _ in range(2))
    assert first == again == sorted(first, key=lambda case: (case.provenance["subject"], case.provenance["as_of"]))


@pytest.mark.parametrize(
    ("text", "window", "earlier"),
    [
        (READMISSION, "end: start + 30d, start_inclusive: false", "end: start + 30d, start_inclusive: true"),
        (DEATH_IN_HOSPITAL, "end: trigger + 24h", "end: trigger + 72h"),
    ],
)
def test_labels_whose_window_is_visible_are_counted_in_a_note(
    folder: Path, text: str, window: str, earlier: str
) -> None:
    assert window in text
    cases, counts = read_ehr(EhrFiles(meds=folder, aces=task(folder, text.replace(window, earlier))))
    assert counts.notes[VISIBLE_LABEL] == len(cases) > 90


NO_TASK = "is no ACES task file: "
WRONG = [
    (READMISSION, "predicates: [", f"{NO_TASK}ParserError"),
    (READMISSION, "just a sentence", f"{NO_TASK}.*a mapping with predicates"),
    (READMISSION, PREDICATES, f"{NO_TASK}KeyError: trigger"),
    ("trigger: discharge", "trigger: home", f"{NO_TASK}KeyError: .*'home'"),
    ("label: admission", "label: relapse", f"{NO_TASK}KeyError: .*'relapse'"),
    ("input.end, end: start", "inputs.end, end: start", f"{NO_TASK}KeyError: .*'inputs'"),
    ("start + 30d", "start + a while", NO_TASK),
    ("label: admission", "labels: admission", f"{NO_TASK}TypeError: .*'labels'"),
    (", label: admission", "", "defines no label"),
    (", index_timestamp: end", "", "defines no prediction time"),
    (
        "{code: MEDS_DEATH}",
        '{expr: "and(discharge_or_death, admission)"}',
        f"{NO_TASK}CycleError: .*discharge_or_death",
    ),
    ("^Disch", "^Disch(", "predicate 'discharge': ComputeError: regex"),
    ("{code: Admission}", "{code: Admission, ward: A}", "predicate 'admission': ColumnNotFoundError: .*ward"),
    ("^Disch", "^Home", "nobody in .* meets this task"),
]


@pytest.mark.parametrize(("right", "wrong", "sentence"), WRONG)
def test_what_is_wrong_with_a_task_file_is_one_sentence_that_names_it(
    folder: Path, right: str, wrong: str, sentence: str
) -> None:
    assert right in READMISSION
    with pytest.raises(InputError, match=rf"my_task\.yaml\b.*{sentence}") as error:
        read_ehr(EhrFiles(meds=folder, aces=task(folder, READMISSION.replace(right, wrong))))
    assert "\n" not in str(error.value) and SECRET not in str(error.value)


LAUGHS = "\n".join(
    ["x0: &a0 [x,x,x,x,x,x,x,x,x]"] + [f"x{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
)


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("predicates:", f"{LAUGHS}\npredicates:", "more than 30,000 values"),
        ("{code: MEDS_DEATH}", "&d {code: *d}", "holds itself"),
        ("{code: MEDS_DEATH}", f"{{code: {'[' * 9000}{']' * 9000}}}", "deep in each other"),
        ("start + 48h", "start + 1000000000000000000 days", "gap, end: more than 1,000,000 days"),
        ("start + 48h", "start + 999999999 days", "gap, end: more than 1,000,000 days"),
        ("start + 48h", f"start + {'9' * 150}.5 weeks", "gap, end: more than 1,000,000 days"),
        ("start + 48h", f"start + {'1d ' * 5000}", "at most 200"),
        (
            "windows:",
            "windows:\n" + "".join(f"  w{i}: {{start: trigger, end: start + 1d}}\n" for i in range(200)),
            "at most 100",
        ),
        ("trigger + 24h", "trigger - 1000000000000000000000 h", "input, end: more than 1,000,000 days"),
    ],
)
def test_a_task_without_end_is_refused_at_once(folder: Path, right: str, wrong: str, sentence: str) -> None:
    path = task(folder, DEATH_IN_HOSPITAL.replace(right, wrong, 1))
    with pytest.raises(InputError, match=sentence) as refused:
        found(folder, path)
    assert str(refused.value).startswith(str(path)) and len(str(refused.value)) < 500


@pytest.mark.parametrize("span", ["100000d", "1000 days", "2 weeks", "36500 days"])
def test_a_long_window_is_ordinary(folder: Path, span: str) -> None:
    assert found(folder, task(folder, READMISSION.replace("30d", span)))


def test_a_code_that_nobody_has_labels_everyone_no(folder: Path) -> None:
    assert {value for *_, value in found(folder, task(folder, READMISSION.replace("Admission", "Intake")))} == {0}


def test_a_file_that_is_not_there_or_not_yaml_is_a_clear_sentence(folder: Path) -> None:
    with pytest.raises(InputError, match=r"There is no ACES task file at .*absent\.yaml"):
        read_ehr(EhrFiles(meds=folder, aces=folder / "absent.yaml"))
    with pytest.raises(InputError, match=r"my_task\.json is no ACES task file: .*'\.yaml'"):
        read_ehr(EhrFiles(meds=folder, aces=task(folder, READMISSION, "my_task.json")))


def test_a_broken_shard_is_said_as_for_any_other_label(folder: Path) -> None:
    shard = folder / "data" / "2" / "0.parquet"
    pl.read_parquet(shard).reverse().write_parquet(shard)
    with pytest.raises(InputError, match=r"2/0\.parquet, row \d+: earlier than"):
        read_ehr(EhrFiles(meds=folder, aces=task(folder, READMISSION)))


def test_without_es_aces_one_sentence_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = task(folder, READMISSION)
    for module in [name for name in sys.modules if name.partition(".")[0] == "aces"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "aces", None)
    with pytest.raises(
        InputError, match=r"my_task\.yaml is an ACES task file, which needs es-aces: pip install 'ehrmind\[ehr\]'\."
    ):
        read_ehr(EhrFiles(meds=folder, aces=path))


def test_nothing_is_logged_printed_or_written(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = task(folder, DEATH_IN_HOSPITAL)
    monkeypatch.chdir(folder.parent)
    before = sorted(folder.parent.rglob("*"))
    with caplog.at_level(logging.DEBUG):
        read_ehr(EhrFiles(meds=folder, aces=path))
    assert capfd.readouterr() == ("", "") and not [
        record for record in caplog.records if record.name.startswith("aces")
    ]
    assert sorted(folder.parent.rglob("*")) == before
    assert logging.getLogger("aces").level == logging.NOTSET  # another's own use of ACES logs as before


def test_ehrshot_files_are_refused_because_aces_reads_meds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = task(folder, READMISSION)
    with pytest.raises(ValidationError, match="aces reads MEDS data sets only"):
        EhrFiles(ehrshot=folder, aces=path, task="x")
    with pytest.raises(ValidationError, match="one of labels and aces"):
        EhrFiles(meds=folder, labels=folder, aces=path)
    with pytest.raises(SystemExit):
        main(
            [
                "data",
                "ehr",
                "--ehrshot",
                str(folder),
                "--task",
                "x",
                "--aces",
                str(path),
                "--out",
                str(folder / "cases.parquet"),
            ]
        )
    assert "--aces reads MEDS data sets only" in capsys.readouterr().err


def test_the_command_writes_the_cases_that_a_recipe_reads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ehrmind.stages.data import read_splits

    path = task(folder, READMISSION)
    with pytest.raises(SystemExit) as left:
        main(
            [
                "data",
                "ehr",
                "--meds",
                str(folder),
                "--aces",
                str(path),
                "--out",
                str(folder.parent / "cases.parquet"),
                "--json",
            ]
        )
    counts = json.loads(capsys.readouterr().out)
    assert left.value.code == 0 and counts["files"][0]["name"] == "my_task.yaml"
    recipe = folder.parent / "recipe.yaml"
    recipe.write_text(
        "data: {source: {ehr: {meds: meds, aces: my_task.yaml}}, tuning: {}, held_out: {}}\nmodel: {name: x}\n"
    )
    splits, _, _ = read_splits(load_recipe(recipe))
    assert sorted(case.id for cases in splits.values() for case in cases) == sorted(
        case.id for case in load_cases(folder.parent / "cases.parquet")
    )


def test_the_recipe_that_ships_takes_a_task_file_in_place_of_a_label_file(folder: Path, repository: Path) -> None:
    path = task(folder, READMISSION)
    named = [f"data.source.ehr.meds={folder}", "data.source.ehr.labels=null", f"data.source.ehr.aces={path}"]
    held_out = load_recipe(repository / "recipes" / "ehr.yaml", named).data.held_out.ehr
    assert held_out is not None and (held_out.meds, held_out.labels, held_out.aces) == (folder, None, path)
