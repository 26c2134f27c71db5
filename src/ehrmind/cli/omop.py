"""Command line: OMOP tables become a MEDS data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ehrmind.cli.cases import AsJson, DatesName, DecimalName


def omop(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder or zip of OMOP CDM 5.3 or 5.4 tables.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(metavar="MEDS", help="The MEDS data set to write; a new folder.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the data set; what CDM_SOURCE says by default.", show_default=False)
    ] = None,
    day_end: Annotated[
        bool,
        typer.Option(
            "--day-end", help="What has a date and no time of day is known at the end of that day; but visits."
        ),
    ] = False,
    decimal: Annotated[
        DecimalName | None,
        typer.Option(help="Of numbers that are texts, where their column leaves it open.", show_default=False),
    ] = None,
    dates: Annotated[
        DatesName | None,
        typer.Option(help="Of days such as 05/04/2019, where their column leaves it open.", show_default=False),
    ] = None,
    ignore_zones: Annotated[
        bool, typer.Option("--ignore-zones", help="Take the clock of times with a zone as the local one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn OMOP tables (CSV, parquet or Arrow; files, part files or folders) into a MEDS data set; no row is lost in silence."""
    from ehrmind.data.omop import convert_omop

    said: dict[str, Any] = {
        "decimal": decimal and decimal.value,
        "dates": dates and dates.value,
        "ignore_zones": ignore_zones,
    }
    counts = convert_omop(source, out, name=name, day_end=day_end, **said)
    typer.echo(json.dumps(counts.to_dict(), indent=2) if as_json else "\n".join([*counts.lines(), f"wrote {out}"]))
