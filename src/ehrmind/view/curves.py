"""The curves of a run while it goes: its metrics as few points, its alarms, the figures of what is finished. No record text passes here."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind.documents import read_json, read_yaml
from ehrmind.report.formatting import Cell, Table, arm_name
from ehrmind.report.plots.drawing import place_of
from ehrmind.report.plots.overview import running_mean
from ehrmind.report.reading import Figures, read_run
from ehrmind.report.tables import overview as tables
from ehrmind.report.tables import rlvr as rlvr_tables
from ehrmind.runs import Run
from ehrmind.runs.lines import lines_in
from ehrmind.types import InputError

MOST_POINTS = 400  # of a line; a longer one is drawn by the means of neighbours
SHARES = ("accuracy", "format_rate")
WARMUP = {"loss": "loss on response tokens", "gradient_norm": "gradient norm"}


def stamp(run: Run) -> str:
    """Changes when anything that `curves` shows may have changed."""
    names = ("metrics.jsonl", "alarms.jsonl", "results.json")
    files = [*(run.path / name for name in names), *sorted((run.path / "stages").glob("*.json"))]
    told = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        told.append((file.name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def curves(run: Run) -> dict[str, Any]:
    """{"reinforcement", "warmup": charts, "alarms": sentences, "tables": of the steps, "results": of a finished run, "said"}."""
    figures = so_far(run)
    learned = {arm: rows for arm, rows in figures.curves().items() if rows}
    warmup = {"sft": figures.metrics["warmup"]} if figures.metrics.get("warmup") else {}
    results, said = _results(run)
    stepped = [*tables.curves(figures), *([table] if (table := tables.warmup(figures)) else [])]
    return {
        "reinforcement": [
            _chart(figures, learned, name, title) for name, title in tables.CURVES.items() if name != "tuning_accuracy"
        ],
        "warmup": [_chart(figures, warmup, name, title) for name, title in WARMUP.items()],
        "alarms": rlvr_tables.alarms(figures),
        "tables": [as_dict(table) for table in stepped],
        "results": [as_dict(table) for table in results],
        "said": said,
    }


def so_far(run: Run) -> Figures:
    """What the report's tables need of a run that may not be finished. A line or mark that is being written is left for the next time."""
    metrics: dict[str, list[dict[str, Any]]] = {}
    for row in _lines(run.path / "metrics.jsonl"):
        if isinstance(row.get("stage"), str) and isinstance(row.get("step"), int) and isinstance(row.get("arm"), str):
            metrics.setdefault(row["stage"], []).append(row)
    marks = {mark.stem: found for mark in (run.path / "stages").glob("*.json") if (found := _mark(mark))}
    alarms = [row for row in _lines(run.path / "alarms.jsonl") if {"arm", "step", "alarm", "said"} <= row.keys()]
    ordered = {stage: sorted(rows, key=lambda row: row["step"]) for stage, rows in metrics.items()}
    return Figures({}, {"arms": dict.fromkeys(_arms(run)), "alarms": alarms}, None, None, None, ordered, marks, {})


def as_dict(table: Table) -> dict[str, Any]:
    def cell(value: str | Cell) -> list[str]:
        return [value, "", ""] if isinstance(value, str) else [value.text, value.note, value.tone]

    return {
        "caption": table.caption,
        "columns": list(table.columns),
        "rows": [[cell(value) for value in row] for row in table.rows],
    }


def _results(run: Run) -> tuple[list[Table], str]:
    """The tables of arms and pairs, or the sentence that says why there are none."""
    try:
        figures = read_run(run)
        pairs = tables.pairs(figures)
        return [tables.arms(figures), *([pairs] if pairs else [])], ""
    except InputError as error:
        return [], "" if not (run.path / "results.json").is_file() else str(error)
    except (LookupError, TypeError, ValueError, AttributeError):
        return [], "The results of this run are not of the form that this version writes."


def _chart(figures: Figures, runs: Mapping[str, Sequence[Mapping[str, Any]]], name: str, title: str) -> dict[str, Any]:
    """A line an arm: [step, value, running mean] by point; beside the share that is right, that on tuning cases as dots."""
    lines = []
    for arm, rows in runs.items():
        points = _thinned([(row["step"] + 1, row[name]) for row in rows if _is_number(row.get(name))])
        means = running_mean([value for _, value in points])
        dots = [(row["step"] + 1, row["tuning_accuracy"]) for row in rows if _is_number(row.get("tuning_accuracy"))]
        if points:
            line = [[step, value, mean] for (step, value), mean in zip(points, means, strict=True)]
            shown = {"arm": arm_name(arm), "place": place_of(figures, arm), "points": line}
            lines.append({**shown, "dots": dots if name == "accuracy" else []})
    return {"name": name, "title": title, "share": name in SHARES, "lines": lines}


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[float, float]]:
    every = math.ceil(len(points) / MOST_POINTS)
    if every <= 1:
        return points
    stretches = [points[place : place + every] for place in range(0, len(points), every)]
    return [(stretch[-1][0], sum(value for _, value in stretch) / len(stretch)) for stretch in stretches]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Every line that is as it was written; one that is being written is left for the next time."""
    try:
        return [line.row for line in lines_in(path) if line.row is not None]
    except OSError:
        return []


def _mark(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def _arms(run: Run) -> list[str]:
    try:
        return [str(arm) for arm in read_yaml(run.path / "recipe.yaml")["arms"]]
    except (InputError, KeyError, TypeError):
        return []
