"""Command line: prediction from coded histories, read from MEDS or EHRSHOT files."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ehrmind.cli.cases import AsJson, say_counts
from ehrmind.files import clear_leftovers, written_whole
from ehrmind.types import InputError


def synthetic_ehr(
    subjects: Annotated[int, typer.Option(min=1, max=100_000_000, help="How many subjects.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The MEDS data set to write; a new folder.", show_default=False)
    ],
    seed: Annotated[int, typer.Option(help="A shard depends on the seed and its number only.")] = 0,
    events: Annotated[int, typer.Option(min=20, max=1_000_000, help="Events per subject, on average.")] = 400,
    labels: Annotated[int, typer.Option(min=1, max=1_000_000, help="Labels per subject and task, at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Generate a synthetic MEDS data set with three label tasks.

    It has correlated diseases, results, drugs and visits, and no patient behind them.
    """
    from ehrmind.data.synthetic.cohort import write_cohort

    clear_leftovers(out.parent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty; name a new folder.")
    with written_whole(out) as partial:
        counts = write_cohort(partial, subjects, seed=seed, events_per_subject=events, labels_per_subject=labels)
    said = [f"generated {counts['subjects']:,} subjects with {counts['events']:,} events"]
    said += [f"{n:,} labels in labels/{task}" for task, n in counts["labels"].items()]
    typer.echo(json.dumps(counts, indent=2) if as_json else "\n".join([*said, f"wrote {out}"]))


class SplitHistoriesBy(StrEnum):
    """Ways to split labels, as choices of an option."""

    subject = "subject"
    time = "time"
    site = "site"


# Options of `ehr` that need more than one line. They are named so that its signature stays
# readable.
AcesTask = Annotated[
    Path | None,
    typer.Option(metavar="TASK.yaml", help="An ACES task file that makes the labels, instead of --labels."),
]
Ehrshot = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The EHRSHOT release, instead of --meds and --labels; --task names the labels."),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        help="The task's name, by default the label folder's or the ACES file's; chooses one from a folder of several.",
        show_default=False,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="The column of the labels, if a label file fills several.", show_default=False),
]
LabelsFrom = Annotated[
    int | None,
    typer.Option(min=0, max=1, help="The lowest grade, if a laboratory task's grades are never 0.", show_default=False),
]
Boundary = Annotated[
    list[datetime] | None,
    typer.Option(
        formats=["%Y-%m-%d"],
        metavar="DAY",
        help="For --split-by time: the days on which tuning and held_out begin; give two.",
        show_default=False,
    ),
]
SiteColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="For --split-by site: the column of the site in the event shards.", show_default=False
    ),
]
HeldOutSites = Annotated[
    list[str] | None,
    typer.Option(metavar="SITE", help="For --split-by site: a held-out site; repeat for several.", show_default=False),
]
TuningSites = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SITE",
        help="For --split-by site: a tuning site; by default a share of train's subjects.",
        show_default=False,
    ),
]
Shares = Annotated[
    tuple[float, float, float],
    typer.Option(
        help="Shares of train, tuning and held_out: of subjects, if the data set has no splits; by time, of labels."
    ),
]
Balance = Annotated[
    float | None,
    typer.Option(
        min=1.0, help="In train, keep at most this many times the rarest label of each other label.", show_default=False
    ),
]
LeaveOutUnusable = Annotated[
    bool,
    typer.Option(
        "--leave-out-unusable", help="Leave out and count labels of unknown subjects, before birth or without a value."
    ),
]


def ehr(
    out: Annotated[Path, typer.Option(metavar="CASES.parquet", help="The Cases file to write.", show_default=False)],
    meds: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A MEDS data set, 0.3 or 0.4.", show_default=False)
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A MEDS label file, or a folder of them.", show_default=False)
    ] = None,
    aces: AcesTask = None,
    ehrshot: Ehrshot = None,
    task: TaskName = None,
    label_column: LabelColumn = None,
    labels_from: LabelsFrom = None,
    question: Annotated[
        str | None, typer.Option(help="The question, for a task without one of its own.", show_default=False)
    ] = None,
    split_by: Annotated[
        SplitHistoriesBy, typer.Option(help="What separates train from held_out.")
    ] = SplitHistoriesBy.subject,
    boundary: Boundary = None,
    site_column: SiteColumn = None,
    held_out_site: HeldOutSites = None,
    tuning_site: TuningSites = None,
    shares: Shares = (0.7, 0.1, 0.2),
    seed: Annotated[int, typer.Option(help="Seed of the split and the balance.")] = 0,
    balance: Balance = None,
    leave_out_unusable: LeaveOutUnusable = False,
    as_json: AsJson = False,
) -> None:
    """Turn labels over a MEDS data set, or EHRSHOT's files, into Cases.

    A case is a reference to a subject at a time; no subject is in two splits.

    The labels come from a file, or an ACES task file makes them.
    """
    from ehrmind.cli.options import section
    from ehrmind.config import EhrFiles
    from ehrmind.data import save_cases
    from ehrmind.data.ehr import read_ehr

    unusable = "leave_out" if leave_out_unusable else "refuse"
    if aces is not None and ehrshot is not None:
        raise InputError(
            "--aces reads MEDS data sets only; give --meds DIR with it, or --ehrshot DIR and --task NAME without it."
        )
    whole = (
        meds is not None and (labels is None) != (aces is None)
        if ehrshot is None
        else task is not None and not (meds or labels)
    )
    if not whole:
        raise InputError(
            "Give --meds DIR and one of --labels FILE and --aces TASK.yaml, or --ehrshot DIR and --task NAME."
        )
    given = {
        "meds": meds,
        "labels": labels,
        "aces": aces,
        "ehrshot": ehrshot,
        "task": task,
        "label_column": label_column,
        "labels_from": labels_from,
        "question": question,
        "shares": shares,
        "seed": seed,
        "balance": balance,
    }
    split: dict[str, object] = {
        "split_by": split_by.value,
        "boundaries": [day.date() for day in boundary] if boundary else None,
        "site_column": site_column,
    }
    split |= {"held_out_sites": held_out_site or [], "tuning_sites": tuning_site or []}
    files = section(EhrFiles, {**given, **split, "unusable": unusable}, "ehrmind data ehr", plural=("labels",))
    cases, counts = read_ehr(files)
    save_cases(cases, out)
    say_counts(counts, out, as_json)
