"""Runs `ehrmind predict` on a cluster: the workers share the questions of every batch, as in a
run's evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ehrmind.cluster.joined import joined
from ehrmind.cluster.workers import on_gpu, work
from ehrmind.config import Cluster, parse_section
from ehrmind.predict.predict import ask
from ehrmind.runs.lock import WAIT_FOR_WORKERS, lent, only_writer
from ehrmind.runs.predictions import Predictions, holds_work, refuse_used


def predict_on_cluster(
    address: str, workers: int | None, model: str, data: Path, out: Path, asked: dict[str, Any], *, resume: bool
) -> Predictions:
    """Runs `ask` on the workers of a cluster.

    Every node must see model, cases and `out` under these paths. Raises InputError.
    """
    settings = parse_section(
        Cluster, {"address": address, **({} if workers is None else {"workers": workers})}, "--cluster"
    )
    refuse_used(out, resume=resume)
    places = {"model": str(Path(model).resolve()), "data": str(data.resolve()), "out": str(out.resolve())}
    with (
        only_writer(out, holds_work, wait=WAIT_FOR_WORKERS),
        joined(settings) as cluster,
        lent(out, wait=WAIT_FOR_WORKERS),
    ):
        work(settings, on_gpu("auto", settings.workers), _predict, {**places, "asked": asked}, cluster)
    return Predictions(out)


def _predict(config: dict[str, Any]) -> None:
    """Runs in each worker. A first start and a restart both continue with what is there."""
    with only_writer(Path(config["out"]), wait=WAIT_FOR_WORKERS):
        ask(config["model"], Path(config["data"]), Path(config["out"]), **config["asked"], resume=True)
