"""Plots of answers that are labels: calibration of risks, and which label was answered as which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ehrmind.report.formatting import arm_name
from ehrmind.report.plots.drawing import WIDTH, marker_of, place_of
from ehrmind.report.plots.heat import fill
from ehrmind.report.plots.svg import ARMS, RULE
from ehrmind.report.reading import Figures
from ehrmind.report.tables.labels import calibrated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TASKS = 6  # of the confusion plot; the tables have all


def risks(figures: Figures) -> Figure | None:
    """A calibration curve per task, by tenths of the predicted risk."""
    found = list(calibrated(figures).items())
    if not found:
        return None
    from matplotlib.figure import Figure as MatplotlibFigure

    lines = -(-len(found) // 2)
    figure = MatplotlibFigure(figsize=(WIDTH, 2.9 * lines + 0.3), layout="constrained")
    grid = list(figure.subplots(lines, 2, squeeze=False).flat)
    for axes, (task, curves) in zip(grid, found, strict=False):
        axes.set_title(task)
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
        for name, bins in curves.items():
            place = place_of(name)
            look: Any = {"color": ARMS[place], "marker": marker_of(name), "markersize": 4.5, "linewidth": 1.4}
            axes.plot([tenth.risk for tenth in bins], [tenth.observed for tenth in bins], label=arm_name(name), **look)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("predicted risk")
        axes.set_ylabel("came true")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    for axes in grid[len(found) :]:
        axes.set_axis_off()
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def confusion(figures: Figures) -> Figure | None:
    """A row per task, a map per arm: truth down, answer across, shaded by the share of truth."""
    measured = {arm: figures.results.arms[arm].measures for arm in figures.arms}
    arms = [arm for arm in figures.arms if measured[arm]][:4]
    tasks = list(dict.fromkeys(task for arm in arms for task in measured[arm]))[:MOST_TASKS]
    if not tasks:
        return None
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, 2.4 * len(tasks)), layout="constrained")
    grid = figure.subplots(len(tasks), max(2, len(arms)), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, task in zip(grid, tasks, strict=True):
        for axes, arm in zip(line, arms, strict=False):
            if task not in measured[arm]:
                continue
            row = measured[arm][task]
            axes.set_axis_on()
            axes.set_title(f"{task}: {arm_name(arm)}" if len(tasks) > 1 else arm_name(arm))
            fields = [[(count / max(1, sum(counts)), str(count)) for count in counts] for counts in row.confusion]
            fill(axes, row.labels if arm == arms[0] else [""] * len(row.labels), [*row.labels, "malformed"], fields)
            axes.tick_params(axis="x", labelsize=8, labelrotation=30)
    return figure
