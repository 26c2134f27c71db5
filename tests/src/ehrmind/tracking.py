"""Curves for TensorBoard, on request (`tracking.tensorboard: true`): made from metrics.jsonl when the run ends."""

from __future__ import annotations

from ehrmind.files import sync_tree
from ehrmind.runs import Run
from ehrmind.types import InputError


def write_tensorboard(run: Run) -> None:
    """Write `RUN/tensorboard/<stage>/` anew from the run's metrics. Figures only."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("tracking.tensorboard needs TensorBoard: pip install 'ehrmind[tracking]', or set it to false.") from None
    folder = run.path / "tensorboard"
    run.remove("tensorboard")
    writers: dict[str, SummaryWriter] = {}
    for row in run.metrics():
        writer = writers.setdefault(row["stage"], SummaryWriter(str(folder / row["stage"])))
        for name, value in row.items():
            if name not in ("stage", "arm", "step", "time"):
                writer.add_scalar(name, value, row["step"], walltime=row["time"])
    for writer in writers.values():
        writer.close()
    if writers:
        sync_tree(folder)
        run.manifest.add("tensorboard")
