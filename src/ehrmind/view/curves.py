"""The figures of a run while it goes: curves as few points, alarms, and results at the end.

No record text passes here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from ehrmind.documents import read_json, read_yaml
from ehrmind.report.formatting import Cell, Table, arm_name
from ehrmind.report.plots.drawing import place_of
from ehrmind.report.plots.learning import running_mean
from ehrmind.report.reading import Metrics, Training, by_stage, read_run
from ehrmind.report.tables import learning, results
from ehrmind.runs import Run
from ehrmind.runs.lines import lines_in
from ehrmind.runs.records import Alarm, RlvrMark, StageKey, StepMetrics
from ehrmind.types import InputError

MOST_POINTS = 400  # of a line; a longer one is drawn by the means of neighbours
SHARES = ("accuracy", "format_rate")
WARMUP = {"loss": "loss on response tokens", "gradient_norm": "gradient norm"}


class ShownTable(TypedDict):
    """A table of the report; a cell is [text, note, tone]."""

    caption: str
    columns: list[str]
    rows: list[list[list[str]]]


class Line(TypedDict):
    """An arm's curve: [step, value, running mean] by point, and the accuracy on tuning as dots."""

    arm: str
    place: int
    points: list[list[float]]
    dots: list[tuple[int, float]]


class Chart(TypedDict):
    name: str
    title: str
    share: bool
    lines: list[Line]


class Curves(TypedDict):
    """The JSON of the page; `said` tells why there are no results, if that is an error."""

    reinforcement: list[Chart]
    warmup: list[Chart]
    alarms: list[str]
    tables: list[ShownTable]
    results: list[ShownTable]
    said: str


def stamp(run: Run) -> str:
    """Changes whenever something that `curves` shows may have changed."""
    names = ("metrics.jsonl", "alarms.jsonl", "results.json")
    files = [*(run.path / name for name in names), *sorted((run.path / "stages").glob("*.json"))]
    seen = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        seen.append((file.name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def curves(run: Run) -> Curves:
    training = so_far(run)
    learned = {arm: rows for arm, rows in training.curves().items() if rows}
    warmup = {"sft": training.metrics["warmup"]} if training.metrics.get("warmup") else {}
    finished, said = _results(run)
    warmup_table = learning.warmup(training)
    steps = [*learning.curves(training), *([warmup_table] if warmup_table else [])]
    titles = {name: title for name, title in learning.CURVES.items() if name != "tuning_accuracy"}
    return {
        "reinforcement": [_chart(learned, name, title) for name, title in titles.items()],
        "warmup": [_chart(warmup, name, title) for name, title in WARMUP.items()],
        "alarms": learning.alarms(training),
        "tables": [as_json(table) for table in steps],
        "results": [as_json(table) for table in finished],
        "said": said,
    }


def so_far(run: Run) -> Training:
    """The training so far, without lines and marks that are being written."""
    metrics = [
        StepMetrics.from_dict(row)
        for row in _lines(run.path / "metrics.jsonl")
        if isinstance(row.get("stage"), str)
        and isinstance(row.get("step"), int)
        and isinstance(row.get("arm"), str)
        and isinstance(row.get("time"), int | float)
    ]
    alarms = [found for row in _lines(run.path / "alarms.jsonl") if (found := _alarm(row)) is not None]
    marks = {StageKey.parse(file.stem).arm: _rlvr_mark(file) for file in (run.path / "stages").glob("rlvr-*.json")}
    rlvr = {arm: mark for arm, mark in sorted(marks.items()) if mark is not None}
    return Training(arms=_arms(run), metrics=by_stage(metrics), alarms=alarms, rlvr=rlvr)


def as_json(table: Table) -> ShownTable:
    def cell(value: str | Cell) -> list[str]:
        return [value, "", ""] if isinstance(value, str) else [value.text, value.note, value.tone]

    rows = [[cell(value) for value in row] for row in table.rows]
    return {"caption": table.caption, "columns": list(table.columns), "rows": rows}


def _results(run: Run) -> tuple[list[Table], str]:
    """The tables of arms and pairs, or a sentence that says why there are none."""
    try:
        figures = read_run(run)
    except InputError as error:
        return [], str(error) if (run.path / "results.json").is_file() else ""
    pairs = results.pairs(figures)
    return [results.arms(figures), *([pairs] if pairs else [])], ""


def _chart(runs: Metrics, name: str, title: str) -> Chart:
    """A line per arm; the chart of accuracy also has the accuracy on tuning as dots."""
    lines: list[Line] = []
    for arm, rows in runs.items():
        points = _thinned(_points(rows, name))
        means = running_mean([value for _, value in points])
        if points:
            lines.append(
                {
                    "arm": arm_name(arm),
                    "place": place_of(arm),
                    "points": [[step, value, mean] for (step, value), mean in zip(points, means, strict=True)],
                    "dots": _points(rows, "tuning_accuracy") if name == "accuracy" else [],
                }
            )
    return {"name": name, "title": title, "share": name in SHARES, "lines": lines}


def _points(rows: Sequence[StepMetrics], name: str) -> list[tuple[int, float]]:
    return [(row.step + 1, row.values[name]) for row in rows if _is_number(row.values.get(name))]


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    every = math.ceil(len(points) / MOST_POINTS)
    if every <= 1:
        return points
    stretches = [points[place : place + every] for place in range(0, len(points), every)]
    return [(stretch[-1][0], sum(value for _, value in stretch) / len(stretch)) for stretch in stretches]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _lines(path: Path) -> list[Mapping[str, object]]:
    """The lines that are whole; a line in the making is left for the next time."""
    try:
        return [line.row for line in lines_in(path) if line.row is not None]
    except OSError:
        return []


def _alarm(row: Mapping[str, object]) -> Alarm | None:
    try:
        return Alarm.from_dict(row, "alarms.jsonl")
    except InputError:
        return None


def _rlvr_mark(path: Path) -> RlvrMark | None:
    try:
        return RlvrMark.from_dict(read_json(path), str(path))
    except InputError:
        return None


def _arms(run: Run) -> list[str]:
    try:
        return [str(arm) for arm in read_yaml(run.path / "recipe.yaml")["arms"]]
    except (InputError, KeyError, TypeError):
        return []
