"""Writes curves for TensorBoard, on request (`tracking.tensorboard: true`), from metrics.jsonl when
the run ends.

TensorBoard's own writer puts the machine's name into every file name. This one writes one file per
stage that says nothing about the machine. The same metrics always give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from ehrmind.runs import Run
from ehrmind.runs.records import StepMetrics
from ehrmind.types import InputError

FILE = "events.out.tfevents.ehrmind"  # TensorBoard looks for the second and third word


def write_tensorboard(run: Run) -> None:
    """Rewrites `RUN/tensorboard/<stage>/` from the run's metrics. It writes figures only."""
    try:
        import tensorboard  # noqa: F401 - whether it is installed
    except ImportError:
        raise InputError(
            "tracking.tensorboard needs TensorBoard: pip install 'ehrmind[tracking]', or set it to false."
        ) from None
    run.remove("tensorboard")
    by_stage: dict[str, list[StepMetrics]] = {}
    for row in run.metrics():
        by_stage.setdefault(row.stage, []).append(row)
    for stage, rows in by_stage.items():
        run.put(f"tensorboard/{stage}/{FILE}", _events(rows))


def _events(rows: Sequence[StepMetrics]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=rows[0].time, file_version="brain.Event:2").SerializeToString())
    for row in rows:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.values.items()]
        writer.write(Event(wall_time=row.time, step=row.step, summary=Summary(value=values)).SerializeToString())
    return buffer.getvalue()
