"""Makes Cases without answers for `ehrmind predict`, of notes, patients and trials, histories,
tables.

Their truth has the form of an answer (`kind`, and `labels`, `unit` or `calculator`) and is marked
`unanswered`. Such cases can be predicted, and neither learned from nor scored. All are `held_out`.
Columns of answers are ignored. Errors name file, row and column; no message quotes a cell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehrmind.calculators.catalogue import entry_by_name, unit_asked
from ehrmind.data.cases import Counts, FileRead
from ehrmind.data.cells import is_null_text
from ehrmind.data.demographics import age_and_sex
from ehrmind.data.ehr import open_data_set, references, usable
from ehrmind.data.ehr_labels import DAYS, GRADED, GRADES, YES_NO, label_table
from ehrmind.data.files import Table, read_table, sha256_of, stem
from ehrmind.data.identity import short_id
from ehrmind.data.label_files import task_name
from ehrmind.data.labels import label_form
from ehrmind.data.medcalc import NAME, NOTE, QUESTION, ROW_IDS
from ehrmind.data.splits import note_group
from ehrmind.data.subject_columns import moments, subject_numbers
from ehrmind.data.table import group_notes, named, question_of, rows_of, text_of
from ehrmind.data.trec.pairs import LABELS, collection_name, criteria_notes, pair_case
from ehrmind.data.trec.records import read_records
from ehrmind.data.trec.requests import pairs_to_ask
from ehrmind.data.trec.topics import read_topics
from ehrmind.labels import refuse_labels
from ehrmind.types import Case, InputError

if TYPE_CHECKING:
    import polars as pl

    from ehrmind.config import TableFile

Found = tuple[list[Case], Counts]
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Every(frozenset[str]):
    """Set that contains every trial."""

    def __contains__(self, name: object) -> bool:
        return True


def medcalc_to_ask(files: Sequence[Path]) -> Found:
    """Reads rows with a calculator's name, a note and a question, in MedCalc-Bench's columns."""
    cases: list[Case] = []
    read: list[FileRead] = []
    notes: Counter[str] = Counter()
    for path in files:
        table = read_table(path)
        notes.update(table.notes)
        if missing := [column for column in (NAME, NOTE, QUESTION) if column not in table.columns]:
            raise InputError(
                f"{path} has no column '{missing[0]}'; rows for a calculator have '{NAME}', '{NOTE}' and '{QUESTION}'."
            )
        cases += [_medcalc(table, path, number, row) for number, row in enumerate(table.rows, start=1)]
        read.append(FileRead(path.name, table.sha256, len(table.rows)))
    return _counted(cases, tuple(read), notes=dict(notes))


def _medcalc(table: Table, path: Path, number: int, row: dict[str, str]) -> Case:
    where = f"{path}, row {number}"
    try:
        calculator = entry_by_name(row[NAME].strip())
    except InputError:
        raise InputError(
            f"{where}, column '{NAME}': none of the 55 calculators; `ehrmind calc list` names them."
        ) from None
    for column in (NOTE, QUESTION):
        if is_null_text(row[column]):
            raise InputError(f"{where}, column '{column}': it is empty.")
    given = next((short_id(row[column]) for column in ROW_IDS if column in table.columns), "") or str(number)
    if not _ID.fullmatch(given):
        raise InputError(f"{where}: its id is not a number or a short id.")
    about: dict[str, Any] = {"kind": calculator.kind, "calculator": calculator.id, "unanswered": True}
    if calculator.kind in ("decimal", "integer"):
        about["unit"] = unit_asked(calculator.id, row[QUESTION])
    return Case(
        id=f"medcalc-{given}-{re.sub(r'[^A-Za-z0-9_.-]', '_', stem(path))}-{table.sha256[:6]}",
        family="medcalc",
        task=calculator.slug,
        stratum=f"medcalc/{calculator.category}/{calculator.slug}",
        split="held_out",
        group=note_group(row[NOTE]),
        fields={"note": row[NOTE], "question": row[QUESTION]},
        truth=about,
        provenance={"file": path.name, "row": number, **age_and_sex(row[NOTE])},
    )


def table_to_ask(file: TableFile) -> Found:
    """Reads the rows of a table. A column of answers is ignored."""
    table = rows_of(file, ("question", "record", "group", "id"))
    kind = {"number": "decimal"}.get(file.kind, file.kind)
    form = label_form(file.labels) if kind == "label" else {"kind": kind, "unit": file.unit, "unanswered": True}
    name = file.name or stem(file.path)
    cases = [
        Case(
            **named(file, table, name, number, row),
            family="table",
            task=name,
            stratum=f"table/{name}/{file.kind}",
            split="held_out",
            fields={"question": question_of(file, table, number, row), "record": text_of(row, file.record)},
            truth=form,
            provenance={"file": file.path.name, "row": number} | ({"grouped_by": file.group} if file.group else {}),
        )
        for number, row in enumerate(table.rows, start=1)
    ]
    return _counted(
        cases,
        (FileRead(file.path.name, table.sha256, len(cases)),),
        notes={**group_notes(file, table, cases), **table.notes},
    )


def trials_to_ask(
    topics: Path, records: Sequence[Path], pairs: Path | None = None, name: str | None = None, *, any_year: bool = False
) -> Found:
    """Pairs every patient with every trial of the records, or reads the pairs of a file.

    Such a file has `topic trial` on each line. A file of judgments fits too; its grades are
    ignored. Pairs whose trial is not in the records are left out and counted.
    """
    patients, topics_file = read_topics(topics)
    asked = None if pairs is None else pairs_to_ask(pairs, topics, patients, any_year=any_year)
    trials = read_records(records, _Every() if asked is None else {trial for _, trial in asked})
    if asked is None:
        found = [(topic, trial) for topic in patients.values() for trial in trials.by_id.values()]
    else:
        found = [(topic, trial) for topic, number in asked if (trial := trials.find(number)) is not None]
    absent = 0 if asked is None else len(asked) - len(found)
    if not found:
        raise InputError(f"None of the {absent:,} pairs has its trial's text in the records given; add the records.")
    # A file may name a trial by two of its numbers.
    once = {(topic.id, trial.id): (topic, trial) for topic, trial in found}
    collection, form = name or collection_name(topics), label_form(LABELS)
    cases = [pair_case(collection, topic, trial, form, split_by="patient") for topic, trial in once.values()]
    notes = {note: count for note, count in {**criteria_notes(cases), **trials.notes}.items() if count}
    left_out = {"the trial's text is not in the files": absent} if absent else {}
    return _counted(cases, (topics_file, *trials.files), left_out, notes)


def ehr_to_ask(
    folder: Path,
    times: Path,
    *,
    task: str | None = None,
    question: str | None = None,
    answers: Sequence[str] = (),
    leave_out_unusable: bool = False,
) -> Found:
    """Makes cases of a data set's subjects (MEDS or EHRSHOT) at the prediction times in a file.

    The file has `subject_id` and `prediction_time`. `answers` are the possible answers, lowest
    first. The default is no and yes, or the grades of an EHRSHOT laboratory task.
    """
    data, (asked, days) = open_data_set(folder), _times(times)
    name = task or task_name(times)
    words = tuple(answers) or (GRADES if name.startswith(GRADED) else YES_NO)
    refuse_labels(words)
    found = usable(data, asked, [times], "leave_out" if leave_out_unusable else "refuse")
    cases = [replace(case, split="held_out") for case in references(data, found.rows, name, question, words)]
    read = FileRead(times.name, sha256_of(times), asked.height)
    left_out = {reason: count for reason, count in found.left_out.items() if count}
    return _counted(cases, (read,), left_out, {**data.notes(), **found.notes, **({DAYS: days} if days else {})})


def _times(path: Path) -> tuple[pl.DataFrame, int]:
    """Returns (subject_id and prediction_time with a null value; how many times are days)."""
    import polars as pl

    rows = label_table(path)
    for column in ("subject_id", "prediction_time"):
        if column not in rows.columns:
            raise InputError(f"{path} has no column '{column}'; give subject_id and prediction_time.")
    subjects = subject_numbers(rows["subject_id"], path)
    times, days = moments(rows["prediction_time"], path)
    return pl.select(subject_id=subjects, prediction_time=times, value=pl.lit(None).cast(pl.Int64)), days


def _counted(
    cases: list[Case],
    files: tuple[FileRead, ...],
    left_out: dict[str, int] | None = None,
    notes: dict[str, int] | None = None,
) -> Found:
    if not cases:
        raise InputError("There is nothing to ask: no row of the files could be used.")
    seen: dict[str, Case] = {}
    for case in cases:
        if (first := seen.setdefault(case.id, case)) is not case:
            raise InputError(f"{first.place} and {case.place} have one id; ids must be unique.")
    about = {
        "without an answer, to be predicted": len(cases),
        "groups": len({case.group for case in cases}),
        **(notes or {}),
    }
    return cases, Counts(len(cases), left_out or {}, about, dict(Counter(case.stratum for case in cases)), files)
