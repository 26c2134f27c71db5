"""Runs `ehrmind predict` on a cluster: the workers share the questions of every batch, as in a
run's evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ehrmind.cluster.joined import joined
from ehrmind.cluster.workers import on_gpu, work
from ehrmind.config import Cluster, parse_section
from ehrmind.predict.request import PredictRequest, ask
from ehrmind.runs.lock import WAIT_FOR_WORKERS, lent, only_writer
from ehrmind.runs.predictions import Predictions, holds_work, refuse_used


def predict_on_cluster(address: str, workers: int | None, request: PredictRequest) -> Predictions:
    """`ask` by the workers of a cluster. Every node sees the model, the cases and `out` under these
    paths. Raises InputError."""
    settings = parse_section(
        Cluster, {"address": address, **({} if workers is None else {"workers": workers})}, "--cluster"
    )
    out = request.out
    refuse_used(out, resume=request.resume)
    model, data = str(Path(request.model).resolve()), request.data.resolve()
    shared = replace(request, model=model, data=data, out=out.resolve(), resume=True)
    with (
        only_writer(out, holds_work, wait=WAIT_FOR_WORKERS),
        joined(settings) as cluster,
        lent(out, wait=WAIT_FOR_WORKERS),
    ):
        work(settings, on_gpu("auto", settings.workers), _predict, {"request": shared}, cluster)
    return Predictions(out)


def _predict(config: dict[str, Any]) -> None:
    """The work of one worker. Whether it is the first or replaces a lost one, it resumes what is
    there."""
    request: PredictRequest = config["request"]
    with only_writer(request.out, wait=WAIT_FOR_WORKERS):
        ask(request)
