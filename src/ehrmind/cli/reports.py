"""Command line: the verbs that look at run folders after the work is done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ehrmind.printable import printable
from ehrmind.types import InputError

MIB = 2**20
WIDTH = 300
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    with_text: Annotated[
        bool,
        typer.Option(
            "--with-text", help="Also write a browser of sampled rollouts, record text included, under protected/."
        ),
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            metavar="FILE.html",
            help="Also write a page that compares these runs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the page of each run, one standalone file; with --compare also a page of all."""
    from ehrmind.report import write_comparison, write_report

    for folder in folders:
        for page in write_report(folder, with_text=with_text):
            typer.echo(f"wrote {page}")
    if compare is not None:
        typer.echo(f"wrote {write_comparison(folders, compare)}")


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished run folders.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the matrix as JSON.", show_default=False)
    ] = None,
) -> None:
    """Compare runs: every arm of each run on every set of cases (train on one, test on all)."""
    from ehrmind.cli.tables import show_matrix
    from ehrmind.files import write_json
    from ehrmind.report.compare import matrix

    found = matrix(folders)
    show_matrix(found)
    if out is not None:
        write_json(out, found.to_dict())
        typer.echo(f"wrote {out}")
    if found.unread:
        raise InputError(f"The others are compared; {' '.join(found.unread)}")


def list_(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that holds run folders.")] = Path("runs"),
) -> None:
    """List the run folders in a folder: their recipes, how far they came, how much they protect."""
    from rich.console import Console
    from rich.table import Table

    from ehrmind.runs.index import list_runs

    table = Table()
    for name in ("run", "recipe", "state", "last stage", "protected"):
        table.add_column(name, overflow="fold")
    for summary in list_runs(root):
        state = "finished" if summary.finished else "not finished"
        if summary.problem:
            state = (
                f"cannot be read: {summary.problem.removeprefix(f'{summary.path}/').removeprefix(f'{summary.path}: ')}"
            )
        last = summary.stages[-1] if summary.stages else "none"
        table.add_row(*map(printable, (summary.path, summary.name, state, last)), _size(summary.protected_bytes))
    width = None if sys.stdout.isatty() else WIDTH  # a file or a pipe has no width of its own
    Console(markup=False, highlight=False, width=width).print(table)


def verify(folder: RunFolder) -> None:
    """Check that every stored file and line of a run folder is what was written.

    Names what is damaged, gone or unknown; the exit code is then 1.
    """
    from ehrmind.runs.verifying import verify as faults_of

    seen: list[int] = []

    def tell(name: str, size: int) -> None:
        seen.append(size)
        if size >= 64 * MIB:
            sys.stderr.write(f"proving {name} ({_size(size)})\n")

    found = 0
    for fault in faults_of(folder, tell):
        typer.echo(f"{fault.what}: {fault.name}")
        found += 1
    if found:
        typer.echo(
            f"{folder}: {found:,} faults; go on with the run by --resume, which says what it makes again, or restore "
            f"the files from a copy."
        )
        raise typer.Exit(1)
    typer.echo(f"{folder}: {len(seen):,} files, {_size(sum(seen))}, all as they were stored")


def purge(
    folder: RunFolder, yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False
) -> None:
    """Remove what a run protects (cases, rollouts, checkpoints, models). Its figures stay.

    Fails if anything is left.
    """
    from ehrmind.runs.protected import linked
    from ehrmind.runs.purge import purge as purge_run

    transfer = "".join(f", and what of it lies in {place}" for place in linked(folder / "protected"))
    if not yes:
        typer.confirm(
            f"Remove cases, rollouts, checkpoints and models of {folder}{transfer}, for good?", abort=True, err=True
        )
    typer.echo(f"removed {_size(purge_run(folder))} of {folder}{transfer}")


def _size(count: int) -> str:
    return f"{count / MIB:,.1f} MiB"
