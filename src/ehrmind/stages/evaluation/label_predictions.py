"""Predictions for coded histories in the schema that meds-evaluation's command reads; written
without that package.

A row is a subject at a prediction time, so the files are protected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ehrmind import tasks
from ehrmind.runs import Run
from ehrmind.types import Case

if TYPE_CHECKING:
    import polars as pl


def write_predictions(
    run: Run,
    scored: str,
    cases: Sequence[Case],
    answers: Sequence[Any],
    probabilities: Sequence[Sequence[float] | None],
) -> None:
    """Writes a file for every task of coded histories among `cases`."""
    for task, frame in prediction_frames(cases, answers, probabilities):
        run.write_predictions(scored, task, frame)


def prediction_frames(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yields (task, its rows) of coded histories.

    True is a label above the first. The probability is its risk, the same that `results.json`
    measures; from one half on, True is predicted. The schema has single precision, so risks that
    differ by less than 6e-8 become ties, but a risk below one half stays below. The column
    `boolean_value` is null for cases without a known label, and absent if no label is known."""
    import polars as pl

    by_task: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        if case.family == "ehr":
            by_task[case.task].append(place)
    for task, places in by_task.items():
        mine = [cases[place] for place in places]
        risks = tasks.ehr.risks([answers[place] for place in places], [probabilities[place] for place in places])
        columns: dict[str, tuple[Any, list[Any]]] = {
            "subject_id": (pl.Int64, [case.provenance["subject"] for case in mine]),
            "prediction_time": (pl.Datetime("us"), [datetime.fromisoformat(case.provenance["as_of"]) for case in mine]),
            "boolean_value": (pl.Boolean, [case.truth["value"] > 0 if case.is_answered else None for case in mine]),
            "predicted_boolean_value": (pl.Boolean, [risk >= 0.5 for risk in risks]),
            "predicted_boolean_probability": (pl.Float32, _single(risks)),
        }
        if not any(case.is_answered for case in mine):
            del columns["boolean_value"]
        yield task, pl.DataFrame([pl.Series(name, values, dtype) for name, (dtype, values) in columns.items()])


def _single(risks: Sequence[float]) -> list[float]:
    """Rounds risks to single precision and keeps each on its side of one half."""
    import numpy as np

    half = np.float32(0.5)
    single = np.asarray(risks, dtype=np.float32)
    found: list[float] = np.where(
        (np.asarray(risks) < 0.5) & (single >= half), np.nextafter(half, np.float32(0)), single
    ).tolist()
    return found
