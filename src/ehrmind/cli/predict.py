"""Command line: a model answers new cases."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ehrmind.cli.offline import stay_offline
from ehrmind.types import InputError

if TYPE_CHECKING:
    from ehrmind.runs.predictions import Predictions


class FormatName(StrEnum):
    """Formats of predictions, as choices of an option."""

    parquet = "parquet"
    jsonl = "jsonl"


Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="URL of a served model (`vllm serve`, `transformers serve`), or a YAML file like a recipe's endpoints.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Run on a Ray cluster: HOST:PORT, or local:2 for two nodes on this machine.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Workers on the cluster; must divide `shards`. By default one per local node.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="How to ask, for example decoding.max_new_tokens=512.", show_default=False
    ),
]


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run folder, a model directory, or a served model's name.")
    ],
    cases: Annotated[
        Path,
        typer.Argument(metavar="CASES.parquet", help="Cases, for example from `ehrmind data new`.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to make; it holds record text.", show_default=False)
    ],
    overrides: Overrides = None,
    arm: Annotated[
        str | None,
        typer.Option(
            metavar="ARM",
            help="The run's arm; by default the first of sft_rlvr, rlvr, sft and base.",
            show_default=False,
        ),
    ] = None,
    endpoint: Endpoint = None,
    served: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="The served model's name; MODEL then only says how to ask.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Answers per case; the commonest counts, and their agreement is the confidence.")
    ] = 1,
    abstain_below: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Abstain if probability or agreement is lower.", show_default=False),
    ] = None,
    form: Annotated[FormatName, typer.Option("--format", help="Format of the predictions.")] = FormatName.parquet,
    page: Annotated[bool, typer.Option("--page", help="Also write a page to read.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue in a folder of the same model, cases and settings.")
    ] = False,
    any_task: Annotated[
        bool,
        typer.Option("--any-task", help="Also answer cases of families and tasks that the model's run did not have."),
    ] = False,
    cluster: Cluster = None,
    workers: Workers = None,
) -> None:
    """Answer new cases: answer, confidence, thinking, and which of its values are in the record."""
    stay_offline(online=False)
    from ehrmind.predict.request import PredictRequest, ask
    from ehrmind.runs.lock import only_writer
    from ehrmind.runs.predictions import holds_work
    from ehrmind.world import is_restarted, joined

    request = PredictRequest(
        model=model,
        data=cases,
        out=out,
        arm=arm,
        endpoint=endpoint,
        served=served,
        samples=samples,
        abstain_below=abstain_below,
        overrides=overrides or [],
        form=form.value,
        any_task=any_task,
        resume=resume,
    )
    if cluster is not None:
        from ehrmind.cluster.predict import predict_on_cluster

        if endpoint is not None:
            raise InputError(
                "--endpoint and --cluster exclude each other: a served model is asked by one process; leave one of "
                "them out."
            )
        failed = _show(predict_on_cluster(cluster, workers, request), out, page=page)
    else:
        with joined("cpu" if endpoint else "auto") as world, only_writer(out, holds_work):
            found = ask(replace(request, resume=resume or is_restarted()))
            failed = world.from_first(lambda: _show(found, out, page=page))
    if failed:
        raise typer.Exit(1)


def _show(found: Predictions, out: Path, *, page: bool) -> bool:
    """Prints the predictions and writes the page. True if none of at least `TELLING` cases was
    answered."""
    from ehrmind.runs.predictions import TELLING

    for line in found.lines():
        typer.echo(line)
    if page:
        from ehrmind.report.prediction_page import write_prediction_page

        typer.echo(f"wrote {write_prediction_page(out)}")
    if warning := found.warning():
        typer.echo(warning, err=True)
    return warning is not None and found.provenance().counts.cases >= TELLING
