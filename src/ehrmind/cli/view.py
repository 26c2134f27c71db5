"""Command line: the live view of run folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ehrmind.cli.errors import is_sigterm
from ehrmind.types import InputError

SHORTEST = 16


def view(
    root: Annotated[
        Path, typer.Argument(metavar="[RUNS]", help="The folder that holds run folders, or one run folder.")
    ] = Path("runs"),
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port on this machine; 0 takes any free one.")
    ] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="TEXT", help="The token that viewers need, instead of a random one.", show_default=False
        ),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Ask for no token: everyone on this machine may look.")
    ] = False,
) -> None:
    """Show runs in a browser while they go: curves, rollouts, groups, differences. Ctrl-C ends it.

    The view is for this machine only and changes nothing.
    """
    if no_token and token is not None:
        raise InputError("--token and --no-token exclude each other; give one of them.")
    if token is not None and not re.fullmatch(rf"[A-Za-z0-9_-]{{{SHORTEST},200}}", token):
        raise InputError(
            f"A token is {SHORTEST} to 200 letters, digits, - and _, so that nobody guesses it and an address can hold "
            f"it."
        )
    try:
        from ehrmind.view.server import new_token, serve
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise InputError("The view needs starlette and uvicorn: pip install 'ehrmind[view]'.") from None
    if no_token:
        typer.echo(
            "no token is asked for: everybody who can log in to this machine can read the records of these runs",
            err=True,
        )
    try:
        serve(root, port, None if no_token else token or new_token(), lambda address: typer.echo(f"open {address}"))
    except (KeyboardInterrupt, SystemExit) as ended:
        if isinstance(ended, SystemExit) and not is_sigterm(ended):
            raise
        typer.echo("the view has ended")
