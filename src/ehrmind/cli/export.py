"""Command line: exports models from run folders, pushes them to a hub on request, and exports data
and reward for other trainers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ehrmind.cli.offline import stay_offline
from ehrmind.types import InputError

RunOrCases = Annotated[
    Path,
    typer.Argument(metavar="RUN|CASES", help="A run folder, or a Cases file from `ehrmind data`.", show_default=False),
]
NewFolder = Annotated[
    Path, typer.Option(metavar="DIR", help="The folder to make; it holds record text.", show_default=False)
]
Start = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="The model that training starts from; by default the run's own.",
        show_default=False,
    ),
]
StartArm = Annotated[
    str | None,
    typer.Option(
        "--arm", metavar="ARM", help="The run's arm to start from; by default sft, or else base.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Recipe keys to change, for example rlvr.samples=8.", show_default=False
    ),
]


def model(
    where: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run folder, or a model directory.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model directory to write.", show_default=False)],
    arm: Annotated[
        str | None,
        typer.Option(
            metavar="ARM",
            help="The run's arm; by default the first of sft_rlvr, rlvr, sft and base.",
            show_default=False,
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge an adapter into its base model (models of a run are merged).")
    ] = False,
    licence: Annotated[str, typer.Option(help="The model's licence, for the card.")] = "other",
) -> None:
    """Write a model directory for `transformers` with a model card. Nothing is sent anywhere."""
    stay_offline(online=False)
    from ehrmind.export.model import described, export_model
    from ehrmind.report.model_card.card import model_card

    chosen, about = described(where, arm)
    card = model_card(about, chosen.run, name=out.resolve().name, licence=licence)
    typer.echo(
        f"wrote {export_model(chosen, about, out, card=card, merge=merge)}; its README.md says what people must still "
        f"write"
    )


def push(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder from `ehrmind export model`.", show_default=False)
    ],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository on the hub.", show_default=False)
    ],
    yes_upload: Annotated[bool, typer.Option("--yes-upload", help="Send without asking.")] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make the repository public; it is private otherwise.")
    ] = False,
) -> None:
    """Send an exported model to a hub.

    Refused if it was trained on restricted data, or if this machine is offline.
    """
    stay_offline(online=True)
    from ehrmind.export.model import push_model, refuse_push

    about = refuse_push(folder)
    if not yes_upload:
        if not sys.stdin.isatty():
            raise InputError("Nobody is there to be asked, so nothing was sent; --yes-upload answers beforehand.")
        learned = ", ".join(about.trained_on or ["nothing"])
        typer.confirm(f"Send {folder}, trained on {learned}, to {repository} on the hub?", abort=True, err=True)
    typer.echo(f"sent: {push_model(folder, repository, public=public)}")


def verl(
    where: RunOrCases, out: NewFolder, overrides: Overrides = None, model: Start = None, arm: StartArm = None
) -> None:
    """Write parquet files, a launch script and our verifier as the reward, for verl."""
    _for_trainer("verl", where, out, overrides, model, arm)


def trl(
    where: RunOrCases, out: NewFolder, overrides: Overrides = None, model: Start = None, arm: StartArm = None
) -> None:
    """Write a data set, a launch script and our verifier as the reward, for TRL."""
    _for_trainer("trl", where, out, overrides, model, arm)


def _for_trainer(
    trainer: str, where: Path, out: Path, overrides: list[str] | None, model: str | None, arm: str | None
) -> None:
    stay_offline(online=False)
    from ehrmind.export.trainers import export_for

    for line in export_for(trainer, where, out, overrides=overrides or (), model=model, arm=arm):
        typer.echo(line)
