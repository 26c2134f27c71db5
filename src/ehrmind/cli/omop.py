"""Command line: OMOP tables become a MEDS data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ehrmind.cli.cases import AsJson


def omop(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder or zip of OMOP CDM 5.3 or 5.4 tables.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="MEDS", help="The MEDS data set to write; a new folder.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Of the data set; what CDM_SOURCE says by default.", show_default=False)] = None,
    day_end: Annotated[
        bool, typer.Option("--day-end", help="What has a date and no time of day is known at the end of that day; but visits.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn OMOP tables (CSV, CSV.gz or parquet, one file each) into a MEDS data set; every row is kept, counted, or refused by name."""
    from ehrmind.sources.omop import convert_omop

    counts = convert_omop(source, out, name=name, day_end=day_end)
    typer.echo(json.dumps(counts.to_dict(), indent=2) if as_json else "\n".join([*counts.lines(), f"wrote {out}"]))
