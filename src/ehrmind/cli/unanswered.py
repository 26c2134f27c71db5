"""Command line: turns new rows without answers into Cases for `ehrmind predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ehrmind.cli.cases import AsJson, GroupsOf, KindName, Sheet, say_counts

if TYPE_CHECKING:
    from ehrmind.data.cases import Counts
    from ehrmind.types import Case

Out = Annotated[Path, typer.Option(metavar="CASES.parquet", help="The Cases file to write.", show_default=False)]
Restricted = Annotated[
    bool, typer.Option("--restricted", help="Never send these cases to a model outside this machine.")
]


def medcalc(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Rows with Calculator Name, Patient Note and Question.")
    ],
    out: Out,
    restricted: Restricted = False,
    as_json: AsJson = False,
) -> None:
    """Read notes and calculator questions from a table with MedCalc-Bench's column names."""
    from ehrmind.data.unanswered import medcalc_to_ask

    _save(medcalc_to_ask(files), out, restricted, as_json)


def table(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, TSV, .xlsx, parquet or JSON lines.", show_default=False)
    ],
    kind: Annotated[KindName, typer.Option(help="The kind of the answers.", show_default=False)],
    out: Out,
    question: Annotated[str, typer.Option(metavar="COLUMN", help="The column of questions.")] = "question",
    label: Annotated[
        list[str] | None,
        typer.Option(help="A label, for --kind label; repeat, in the order of their numbers.", show_default=False),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column of the text that the question is about.", show_default=False),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the patient or note.", show_default=False)
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="The column that names a row.", show_default=False)
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="The unit of the answers, if they are numbers with a unit.", show_default=False)
    ] = None,
    groups_of: GroupsOf = None,
    sheet: Sheet = None,
    restricted: Restricted = False,
    as_json: AsJson = False,
) -> None:
    """Read a table of questions."""
    from ehrmind.cli.options import section
    from ehrmind.config import TableFile
    from ehrmind.data.unanswered import table_to_ask

    columns = {
        "question": question,
        "record": record,
        "group": group,
        "id": id_,
        "unit": unit,
        "groups_of": groups_of,
        "sheet": sheet,
    }
    file = section(
        TableFile, {"path": path, "kind": kind.value, "labels": label or [], **columns}, "ehrmind data new table"
    )
    _save(table_to_ask(file), out, restricted, as_json)


def trials(
    topics: Annotated[
        Path, typer.Option(metavar="FILE", help="Patients: TREC XML or queries.jsonl.", show_default=False)
    ],
    trials: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE", help="Trial records, as `ehrmind data trials` takes them; repeat.", show_default=False
        ),
    ],
    out: Out,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only these pairs, one `topic trial` per line; by default every patient with every trial.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the collection; by default the topics file's.", show_default=False)
    ] = None,
    any_year: Annotated[
        bool, typer.Option("--any-year", help="Accept topics and pairs that name different years.")
    ] = False,
    restricted: Restricted = False,
    as_json: AsJson = False,
) -> None:
    """Read patients and trials and pair every patient with every trial, unless pairs are named."""
    from ehrmind.data.unanswered import trials_to_ask

    _save(trials_to_ask(topics, trials, pairs, name, any_year=any_year), out, restricted, as_json)


def ehr(
    meds: Annotated[
        Path, typer.Option(metavar="DIR", help="A MEDS data set, or EHRSHOT's folder.", show_default=False)
    ],
    times: Annotated[
        Path, typer.Option(metavar="FILE", help="Parquet of subject_id and prediction_time.", show_default=False)
    ],
    out: Out,
    task: Annotated[
        str | None, typer.Option(help="The task's name, as in training; by default the file's.", show_default=False)
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="The question, as in training, for a task without one of its own.")
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(help="A word to choose from, lowest first; repeat. By default no and yes.", show_default=False),
    ] = None,
    leave_out_unusable: Annotated[
        bool,
        typer.Option(
            "--leave-out-unusable",
            help="Leave out and count unknown subjects and times before birth instead of refusing.",
        ),
    ] = False,
    restricted: Restricted = False,
    as_json: AsJson = False,
) -> None:
    """Read subjects at prediction times. Only what is visible at that time is shown."""
    from ehrmind.data.unanswered import ehr_to_ask

    found = ehr_to_ask(
        meds, times, task=task, question=question, answers=answer or (), leave_out_unusable=leave_out_unusable
    )
    _save(found, out, restricted, as_json)


def _save(found: tuple[list[Case], Counts], out: Path, restricted: bool, as_json: bool) -> None:
    from dataclasses import replace

    from ehrmind.data import save_cases

    cases, counts = found
    save_cases(
        [replace(case, provenance={**case.provenance, "restricted": True}) if restricted else case for case in cases],
        out,
    )
    say_counts(counts, out, as_json)
