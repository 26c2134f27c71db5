"""Command line: the calculators."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ehrmind.cli.cases import AsJson, ConventionName


def calc(
    name: Annotated[
        str,
        typer.Argument(
            metavar="list|show|NAME", help="A calculator by name or MedCalc-Bench id; `list` names them all."
        ),
    ],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT=VALUE...", help="The patient's values, with units.")
    ] = None,
    convention: Annotated[
        ConventionName, typer.Option(help="Which convention of the calculator to use.")
    ] = ConventionName.published,
    as_json: AsJson = False,
) -> None:
    """Work one of the 55 calculators: value, steps and citation.

    ehrmind calc list

    ehrmind calc show creatinine-clearance

    ehrmind calc ckd-epi-gfr sex=female age=87 'creatinine=124 umol/L'
    """
    from ehrmind.calculators import cli_text

    given = values or []
    if name == "list":
        lines = cli_text.list_lines()
    elif name == "show":
        if len(given) != 1:
            raise typer.BadParameter("name one calculator, as in `ehrmind calc show sofa`")
        lines = cli_text.show_lines(given[0])
    else:
        result = cli_text.work(name, given, convention.value)
        lines = (
            iter([json.dumps(cli_text.as_dict(name, result), indent=2)])
            if as_json
            else cli_text.work_lines(name, result)
        )
    typer.echo("\n".join(lines))
