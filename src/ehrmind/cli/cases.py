"""Command line: the verbs that make Cases and prove them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ehrmind.cli.offline import stay_offline
from ehrmind.printable import printable
from ehrmind.types import InputError

if TYPE_CHECKING:
    from ehrmind.data.cases import Counts
    from ehrmind.verify.audit import CheckReport

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def say_counts(counts: Counts, out: Path, as_json: bool) -> None:
    """Prints what became of every row, and where the Cases are."""
    typer.echo(
        json.dumps(counts.to_dict(), indent=2)
        if as_json
        else "\n".join([*map(printable, counts.lines()), f"wrote {out}"])
    )


class SplitName(StrEnum):
    """Splits as choices of an option."""

    train = "train"
    tuning = "tuning"
    held_out = "held_out"


def medcalc(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="MedCalc-Bench rows in any form of table, or a hub data set's id."),
    ],
    out: Annotated[Path, typer.Option(metavar="CASES.parquet", help="The Cases file to write.", show_default=False)],
    split: Annotated[SplitName, typer.Option(help="What the rows may be used for.")] = SplitName.train,
    online: Annotated[bool, typer.Option("--online", help="Allow a download from the hub.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="The hub data set's commit, tag or branch.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn MedCalc-Bench rows into Cases. Every row is kept, counted as left out, or refused."""
    stay_offline(online)
    from ehrmind.data import save_cases
    from ehrmind.data.medcalc import read_medcalc

    cases, counts = read_medcalc(files, split=split.value, online=online, revision=revision)
    save_cases(cases, out)
    say_counts(counts, out, as_json)


class KindName(StrEnum):
    """Kinds of answers in a table, as choices of an option."""

    number = "number"
    integer = "integer"
    date = "date"
    label = "label"


class DecimalName(StrEnum):
    """Decimal marks as choices of an option."""

    point = "point"
    comma = "comma"


class DatesName(StrEnum):
    """Orders of day and month as choices of an option."""

    day_first = "day-first"
    month_first = "month-first"


GroupsOf = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The namespace of the group numbers, if another table uses the same numbers for other groups.",
        show_default=False,
    ),
]
Sheet = Annotated[
    str | None, typer.Option(metavar="NAME", help="The sheet of an .xlsx file that has several.", show_default=False)
]


def table(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, TSV, .xlsx, parquet or JSON lines.", show_default=False)
    ],
    kind: Annotated[KindName, typer.Option(help="The kind of the answers.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="CASES.parquet", help="The Cases file to write.", show_default=False)],
    question: Annotated[str, typer.Option(metavar="COLUMN", help="The column of questions.")] = "question",
    answer: Annotated[str, typer.Option(metavar="COLUMN", help="The column of answers.")] = "answer",
    label: Annotated[
        list[str] | None,
        typer.Option(help="A label, for --kind label; repeat, in the order of their numbers.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Accepted deviation as a share of the answer, for --kind number.")
    ] = 0.0,
    record: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column of the text that the question is about.", show_default=False),
    ] = None,
    rationale: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of worked answers.", show_default=False)
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The column of the patient or note, which never crosses splits.", show_default=False
        ),
    ] = None,
    decimal: Annotated[
        DecimalName | None,
        typer.Option(help="The answers' decimal mark, if the answers leave it open.", show_default=False),
    ] = None,
    dates: Annotated[
        DatesName | None, typer.Option(help="How to read 01/02/2026, if the answers leave it open.", show_default=False)
    ] = None,
    labels_from: Annotated[
        int | None,
        typer.Option(
            min=0, max=1, help="Answers may be label numbers; the first label has this number.", show_default=False
        ),
    ] = None,
    groups_of: GroupsOf = None,
    sheet: Sheet = None,
    as_json: AsJson = False,
) -> None:
    """Turn a table of questions and answers into Cases (more settings: `data.source.table`)."""
    from ehrmind.cli.options import section
    from ehrmind.config import TableFile
    from ehrmind.data import save_cases
    from ehrmind.data.table import read_table_cases

    if (kind is KindName.label) != bool(label) or (tolerance and kind is not KindName.number):
        raise InputError("--kind label needs --label, once for each; --tolerance is for --kind number.")
    columns = {"question": question, "answer": answer, "record": record, "rationale": rationale, "group": group}
    readings = {
        "decimal": decimal and decimal.value,
        "dates": dates and dates.value,
        "labels_from": labels_from,
        "groups_of": groups_of,
    }
    said = {
        "path": path,
        "sheet": sheet,
        "kind": kind.value,
        "labels": label or [],
        "tolerance": tolerance,
        **columns,
        **readings,
    }
    file = section(TableFile, said, "ehrmind data table")
    cases, counts = read_table_cases(file)
    save_cases(cases, out)
    say_counts(counts, out, as_json)


class DifficultyName(StrEnum):
    """Difficulties of a synthetic note, as choices of an option."""

    easy = "easy"
    medium = "medium"
    hard = "hard"


class ConventionName(StrEnum):
    """Conventions of the calculators, as choices of an option."""

    published = "published"
    medcalc = "medcalc"
    medcalc_verified = "medcalc-verified"


def audit(
    rows: Annotated[
        Path, typer.Argument(metavar="ROWS", help="MedCalc-Bench rows with their entities, in any form of table.")
    ],
    convention: Annotated[
        ConventionName, typer.Option(help="Which convention of the calculators to use.")
    ] = ConventionName.published,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="CORRECTED.csv",
            help="The corrected copy; ROWS-recomputed.csv in this folder by default.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every row's label by the published formula, and write a corrected copy.

    The report says where labels differ and why.
    """
    from ehrmind.data.files import stem
    from ehrmind.data.relabel import audit_rows, write_corrected

    found = audit_rows(rows, convention.value)
    target = out or Path(f"{stem(rows)}-recomputed.csv")
    write_corrected(rows, found, target)
    if as_json:
        typer.echo(json.dumps(found.to_dict() | {"corrected": str(target)}, indent=2))
    else:
        typer.echo("\n".join([*found.lines(), f"wrote {target}"]))


def synthetic_medcalc(
    n: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many cases; the calculators take turns.")],
    out: Annotated[Path, typer.Option(metavar="CASES.parquet", help="The Cases file to write.", show_default=False)],
    seed: Annotated[
        int, typer.Option(help="Case i depends on the seed and i only; give every split its own seed.")
    ] = 0,
    split: Annotated[SplitName, typer.Option(help="What the cases may be used for.")] = SplitName.train,
    calculator: Annotated[
        list[str] | None, typer.Option(help="Only this calculator; repeat for several.", show_default=False)
    ] = None,
    difficulty: Annotated[DifficultyName, typer.Option(help="How hard the notes are to read.")] = DifficultyName.medium,
    manner: Annotated[
        list[str] | None, typer.Option(help="Only this manner of note; repeat for several.", show_default=False)
    ] = None,
    style: Annotated[
        list[str] | None, typer.Option(help="Only this style of worked answer; repeat for several.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Generate synthetic MedCalc cases: notes, and truth and worked answer by the calculators."""
    from collections import Counter

    from ehrmind.data import save_cases
    from ehrmind.data.cases import Counts
    from ehrmind.data.synthetic import synthetic_cases

    looks = {"manners": manner or (), "styles": style or ()}
    cases = synthetic_cases(n, seed, split.value, calculator or (), difficulty=difficulty.value, **looks)
    save_cases(cases, out)
    counts = Counts(len(cases), by_stratum=Counter(case.stratum for case in cases))
    said = [f"generated {len(cases):,} cases of {len({case.task for case in cases})} calculators", f"wrote {out}"]
    typer.echo(json.dumps(counts.to_dict(), indent=2) if as_json else "\n".join(said))


def check(
    cases: Annotated[
        Path,
        typer.Argument(metavar="CASES.parquet", help="A Cases file written by `ehrmind data`.", show_default=False),
    ],
    think: Annotated[bool, typer.Option(help="Expect a <think> block in answers.")] = True,
    as_json: AsJson = False,
) -> None:
    """Prove the verifier on a data set, without a model.

    Every gold answer must earn full marks, and no corruption of it may.

    Compare the rows that it shows with your files: how labels were read cannot be proven.
    """
    from ehrmind.data import load_cases
    from ehrmind.verify.audit import check_cases

    report = check_cases(load_cases(cases), think=think)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report)
    raise typer.Exit(0 if report.ok else 1)


def _print(report: CheckReport) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(f"gold responses with full marks:        {report.gold.passed:,} of {report.gold.total:,}")
    console.print(f"corrupted responses with full marks:   {report.corrupted.passed:,} of {report.corrupted.total:,}")
    if report.failures:
        table = Table(
            "case", "stratum", "what", "reason", title=f"the first {len(report.failures)} that came out wrong"
        )
        for failure in report.failures:
            table.add_row(*map(printable, (failure["case"], failure["stratum"], failure["what"], failure["reason"])))
        console.print(table)
    table = Table(
        "case", "read from", "cell", "answer", title=f"{len(report.drawn)} random rows next to their source cells"
    )
    for row in report.drawn:
        table.add_row(*map(printable, (row["case"], row["from"], row["cell"], row["read_as"])))
    console.print(table)
    if report.ok:
        console.print(
            "Proven: the verifier on these cases. Every right answer earns full marks, and no wrong one that was tried."
        )
        console.print(
            "Not proven: that the labels were read from your files as you meant them. Compare the rows above with the "
            "files."
        )
    else:
        console.print("Not proven: the verifier is wrong about the answers listed above.")
