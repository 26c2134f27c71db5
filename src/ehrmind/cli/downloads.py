"""Command line: asks before a model is downloaded from the hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ehrmind.types import InputError

if TYPE_CHECKING:
    from ehrmind.config import Recipe
    from ehrmind.runs import Run

Online = Annotated[
    bool,
    typer.Option("--online", help="Allow downloads from the hub (data.online=true). A model's size is shown first."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Download the model without asking.")]


def agree(recipe: Recipe, run: Run, *, yes: bool, here: bool) -> str | None:
    """Asks before the recipe's model is downloaded, and downloads it if it is used `here`.

    Returns the commit that the run takes: its own if it is resumed, else the one that the hub names
    now; None if the model comes from no hub. Raises InputError.
    """
    name = recipe.model.name
    if not recipe.data.online or name is None or Path(name).is_dir():
        return None
    from ehrmind.engines.local.hub_model import download, find_on_hub
    from ehrmind.stages.provenance import at_commit, commit_of

    found = find_on_hub(at_commit(recipe, commit_of(run)).model)
    if found.missing:
        typer.echo(found.line(), err=True)
        if not yes:
            if not sys.stdin.isatty():
                raise InputError("Nobody is there to be asked, so nothing was downloaded; --yes answers beforehand.")
            typer.confirm("Download it?", abort=True, err=True)
        if here:
            download(found)
    return found.commit
