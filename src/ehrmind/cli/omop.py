"""Command line: turns OMOP tables into a MEDS data set."""

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
        str | None, typer.Option(help="Name of the data set; by default the one in CDM_SOURCE.", show_default=False)
    ] = None,
    day_end: Annotated[
        bool,
        typer.Option("--day-end", help="Date events without a time of day to the end of that day, except visits."),
    ] = False,
    decimal: Annotated[
        DecimalName | None,
        typer.Option(
            help="Decimal mark of numbers stored as text, if their column leaves it open.", show_default=False
        ),
    ] = None,
    dates: Annotated[
        DatesName | None,
        typer.Option(help="How to read days such as 05/04/2019, if their column leaves it open.", show_default=False),
    ] = None,
    ignore_zones: Annotated[
        bool, typer.Option("--ignore-zones", help="Ignore time zones and read the clock time as local.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn OMOP tables into a MEDS data set.

    Takes CSV, parquet or Arrow, as files, part files or folders. Rows left out are counted.
    """
    from ehrmind.data.omop import convert_omop

    said: dict[str, Any] = {
        "decimal": decimal and decimal.value,
        "dates": dates and dates.value,
        "ignore_zones": ignore_zones,
    }
    counts = convert_omop(source, out, name=name, day_end=day_end, **said)
    typer.echo(json.dumps(counts.to_dict(), indent=2) if as_json else "\n".join([*counts.lines(), f"wrote {out}"]))
