"""Command line: the verbs that look at finished run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolders = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)]


def report(
    folders: RunFolders,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Also write a browser of sampled rollouts, record text included, under protected/.")
    ] = False,
) -> None:
    """Write the page of each run: table of arms, learning curves, results by stratum."""


def list_(root: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that holds run folders.")] = Path("runs")) -> None:
    """List the run folders of a folder: what they ran, how far they came, how much they hold."""


def purge(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]) -> None:
    """Remove what a run folder protects."""
