"""Plots of training: curves of RLVR and warm-up, and the questions that were asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ehrmind.report.formatting import arm_name
from ehrmind.report.plots.drawing import WIDTH, legend, marker_of, place_of, rows_of, share_axis, short
from ehrmind.report.plots.svg import ARMS, MUTED, PAPER
from ehrmind.report.reading import Figures, Metrics
from ehrmind.report.tables.learning import CURVES, curriculum_marks, strata_of
from ehrmind.runs.records import StepMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(figures: Figures) -> Figure | None:
    """Small multiples: each step faint, the running mean strong; accuracy on tuning as points."""
    runs = {arm: rows for arm, rows in figures.curves().items() if rows}
    names = [
        name
        for name in CURVES
        if name != "tuning_accuracy" and any(name in row.values for rows in runs.values() for row in rows)
    ]
    if not runs or not names:
        return None
    from matplotlib.figure import Figure as MatplotlibFigure

    lines = math.ceil(len(names) / 2)
    figure = MatplotlibFigure(figsize=(WIDTH, 1.85 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, 2, squeeze=False, sharex=True)
    for axes, name in zip(grid.flat, names, strict=False):
        asked = f", of {figures.recipe.rlvr.questions_per_step}" if name == "zero_advantage_groups" else ""
        axes.set_title(f"{CURVES[name]}{asked}")
        for arm, rows in runs.items():
            _line(axes, rows, name, place_of(arm))
        if name == "accuracy":
            _tuning(axes, runs)
        if name in ("accuracy", "format_rate"):
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
            axes.set_ylim(bottom=0)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True)
    if any("tuning_accuracy" in row.values for rows in runs.values() for row in rows) and "accuracy" in names:
        grid.flat[0].plot([], [], "o", color=MUTED, markerfacecolor=PAPER, label="right on tuning cases (greedy)")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


def _line(axes: Axes, rows: Sequence[StepMetrics], name: str, place: int) -> None:
    steps = [row.step + 1 for row in rows]
    values = [_finite(row.values.get(name)) for row in rows]
    means = running_mean(values)
    axes.plot(steps, values, color=ARMS[place], linewidth=0.8, alpha=0.35)
    axes.plot(
        steps,
        means,
        color=ARMS[place],
        linewidth=1.8,
        label=arm_name(rows[0].arm),
        marker="o" if len(rows) == 1 else None,
    )


def _tuning(axes: Axes, runs: Metrics) -> None:
    for arm, rows in runs.items():
        scored = [row for row in rows if "tuning_accuracy" in row.values]
        place = place_of(arm)
        steps, shares = [row.step + 1 for row in scored], [_finite(row.values["tuning_accuracy"]) for row in scored]
        axes.plot(steps, shares, marker_of(arm), color=ARMS[place], markerfacecolor=PAPER, markersize=5.5)


def questions(figures: Figures) -> Figure | None:
    """Each stratum's share of train and of the questions asked; None without a curriculum."""
    marks = curriculum_marks(figures)
    if not marks:
        return None
    strata = strata_of(marks)
    figure, axes = rows_of(len(strata), height=0.2 * len(marks) + 0.14)
    for lane, (arm, mark) in enumerate(marks.items()):
        held, asked = mark.in_train_by_stratum, mark.asked_by_stratum
        colour = ARMS[place_of(arm)]
        for row, stratum in enumerate(strata):
            place = row + (lane - (len(marks) - 1) / 2) * 0.3
            shares = [counts.get(stratum, 0) / max(1, sum(counts.values())) for counts in (held, asked)]
            axes.plot(shares, [place, place], color=colour, linewidth=1.4)
            axes.plot(shares[0], place, "o", color=colour, markerfacecolor=PAPER, markersize=5.5)
            axes.plot(shares[1], place, "o", color=colour, markersize=5.5)
        axes.plot([], [], "o", color=colour, label=arm_name(arm))
    legend(axes, len(marks))
    return share_axis(figure, axes, short(strata), "of the questions")


def warmup(figures: Figures) -> Figure | None:
    rows = figures.metrics.get("warmup")
    if not rows:
        return None
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, 2.0), layout="constrained")
    axes = figure.subplots()
    _line(axes, rows, "loss", place_of("sft"))
    if all(row.values.get("loss", 0) > 0 for row in rows):
        axes.set_yscale("log")
    axes.set_title("loss on response tokens")
    axes.set_xlabel("step")
    axes.locator_params(axis="x", integer=True)
    return figure


def _finite(value: float | None) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def running_mean(values: Sequence[float]) -> list[float]:
    """A centred mean over about a tenth of the steps; values that are not finite are left out."""
    reach = len(values) // 20
    windows = [values[max(0, place - reach) : place + reach + 1] for place in range(len(values))]
    windows = [[value for value in window if math.isfinite(value)] for window in windows]
    return [sum(window) / len(window) if window else math.nan for window in windows]
