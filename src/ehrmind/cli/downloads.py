"""Command line: asks before a model is downloaded from the hub."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ehrmind.types import InputError

Online = Annotated[
    bool,
    typer.Option("--online", help="Allow downloads from the hub (data.online=true). A model's size is shown first."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Download the model without asking.")]


def ask(offer: str, *, yes: bool) -> None:
    """Shows what a download brings and asks for leave. Raises InputError if there is no terminal,
    Abort for a no."""
    typer.echo(offer, err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("Nobody is there to be asked, so nothing was downloaded; --yes answers beforehand.")
        typer.confirm("Download it?", abort=True, err=True)
