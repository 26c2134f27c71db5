"""Command line: patient-trial matching, from TREC's files or synthetic."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ehrmind.cli.cases import AsJson, DifficultyName, SplitName, say_counts


class SplitBy(StrEnum):
    """Units that no two splits share, as choices of an option."""

    patient = "patient"
    pair = "pair"


def trials(
    topics: Annotated[
        Path, typer.Option(metavar="FILE", help="Patients: TREC XML or queries.jsonl.", show_default=False)
    ],
    qrels: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Judgments: TREC's four columns, or TSV with a header.", show_default=False),
    ],
    trials: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE",
            help="Trial records: .xml, a folder or .zip of them, .json (API v2), .jsonl, .parquet; repeat.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="CASES.parquet", help="The Cases file to write.", show_default=False)],
    more_trials: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="More trial records.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the collection; by default the topics file's.", show_default=False)
    ] = None,
    split_by: Annotated[
        SplitBy, typer.Option(help="Split by patient, or by pair: then a patient has pairs in every split.")
    ] = SplitBy.patient,
    shares: Annotated[
        tuple[float, float, float], typer.Option(help="Shares of patients or pairs: train, tuning, held_out.")
    ] = (0.7, 0.1, 0.2),
    seed: Annotated[int, typer.Option(help="Seed of the split and the balance.")] = 0,
    balance: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            help="In train, keep at most this many times the rarest label of each other label.",
            show_default=False,
        ),
    ] = None,
    any_year: Annotated[
        bool, typer.Option("--any-year", help="Accept topics and judgments that name different years.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn judged pairs of patient and trial into Cases, split by patient.

    Pairs whose trial text is absent are counted.
    """
    from ehrmind.cli.options import section
    from ehrmind.config import TrialFiles
    from ehrmind.data import save_cases
    from ehrmind.data.trec import read_trials

    given = [*trials, *(more_trials or ())]
    said = {"topics": topics, "qrels": qrels, "trials": given, "name": name, "split_by": split_by.value}
    said |= {"shares": shares, "seed": seed, "balance": balance, "any_year": any_year}
    files = section(TrialFiles, said, "ehrmind data trials")
    cases, counts = read_trials(files)
    save_cases(cases, out)
    say_counts(counts, out, as_json)


def synthetic_trials(
    n: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many pairs, five per patient.")],
    out: Annotated[Path, typer.Option(metavar="CASES.parquet", help="The Cases file to write.", show_default=False)],
    seed: Annotated[
        int, typer.Option(help="Case i depends on the seed and i only; give every split its own seed.")
    ] = 0,
    split: Annotated[SplitName, typer.Option(help="What the cases may be used for.")] = SplitName.train,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only criteria of this kind; repeat for several.", show_default=False)
    ] = None,
    difficulty: Annotated[DifficultyName, typer.Option(help="How hard the notes are to read.")] = DifficultyName.medium,
    as_json: AsJson = False,
) -> None:
    """Generate synthetic patients and trials, labelled by the generator's own logic."""
    from collections import Counter

    from ehrmind.data import save_cases
    from ehrmind.data.cases import Counts
    from ehrmind.data.labels import labels_by_split
    from ehrmind.data.synthetic.trials import synthetic_trials

    cases = synthetic_trials(n, seed, split.value, kind or (), difficulty=difficulty.value)
    save_cases(cases, out)
    counts = Counts(len(cases), by_stratum=Counter(case.stratum for case in cases), by_split=labels_by_split(cases))
    say_counts(counts, out, as_json)
