"""Command line: sends answers to clinicians for review and reads their verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.", show_default=False)]


def export(
    folder: RunFolder,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", metavar="ARM", help="Only this arm; may be given again.", show_default=False),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many answers.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
) -> None:
    """Write a sheet of sampled answers for a clinician, with record, thinking, verdict and audit.

    It holds record text.
    """
    from ehrmind.report.review.sheet import export_review

    file, count = export_review(folder, arm or (), n, seed)
    typer.echo(f"wrote {count} answers to {file}; it holds record text, so keep it where records may be")


def read(
    folder: RunFolder,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Filled-in sheets.", show_default=False)],
) -> None:
    """Read filled-in sheets; write agreement with verifier and audit to RUN/review.json."""
    from ehrmind.report.review.verdicts import read_reviews

    found = read_reviews(folder, files)
    typer.echo(f"{found.reviewed} verdicts by {found.reviewers} on {found.answers} of {found.sampled} answers")
    for one, name in ((found.answer, "answer, with the verifier"), (found.reasoning, "reasoning, with the audit")):
        if one.n:
            kappa = "–" if one.kappa is None else f"{one.kappa:.2f}"
            typer.echo(f"{name}: {one.agree} of {one.n} agree, kappa {kappa}")
    typer.echo(f"wrote {folder / 'review.json'}; `ehrmind report {folder}` shows it")
