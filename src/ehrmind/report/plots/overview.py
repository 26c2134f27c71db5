"""Figures of a run -> plots as inline SVG, drawn by matplotlib.

Why matplotlib: it writes static SVG without a browser, a server or a script in the page, so that a page of eight plots stays near
300 kB where an interactive library alone brings 4 MB of JavaScript that a reviewer of a hospital has to clear. What is lost, hovering,
the table beside every plot makes up for. Colours are written as names of the page's own, so plots follow its light and dark dress.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ehrmind.report.formatting import arm_name
from ehrmind.report.plots.drawing import (
    MARKERS,
    WIDTH,
    by_group,
    drawn,
    interval,
    legend,
    place_of,
    rows_of,
    share_axis,
    short,
)
from ehrmind.report.plots.svg import ARMS, INK, MUTED, PAPER, RULE, WARN
from ehrmind.report.reading import Figures
from ehrmind.report.tables.overview import CURVES, shares_by
from ehrmind.report.tables.rlvr import chosen, strata_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plots(figures: Figures) -> dict[str, str]:
    """SVG by name: arms, pilot, curves, asked, warmup, categories, strata; without those that this run has nothing for."""
    return drawn(
        figures,
        {
            "arms": _arms,
            "pilot": _pilot,
            "gains": _gains,
            "curves": _curves,
            "asked": _asked,
            "warmup": _warmup,
            "categories": _categories,
            "strata": _strata,
        },
    )


def _arms(figures: Figures) -> Figure:
    """Accuracy of every arm with its interval: the headline filled, the other decoding hollow."""
    views = [view for view in figures.views() if view[1] == figures.results["scorer"]]
    figure, axes = rows_of(len(figures.arms), height=0.55)
    for lane, (decoding, _, view) in enumerate(views):
        for row, arm in enumerate(figures.arms):
            place = row + (lane - (len(views) - 1) / 2) * 0.28
            interval(axes, place, view["arms"][arm], row, hollow=lane > 0)
        axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER if lane else MUTED, label=decoding)
    if len(views) > 1:
        legend(axes, len(views))
    return share_axis(figure, axes, [arm_name(arm) for arm in figures.arms], "held-out cases answered right")


def _pilot(figures: Figures) -> Figure | None:
    """From pass@1 to pass@k, stratum by stratum; those without any right sample are marked."""
    if figures.pilot is None or not figures.pilot["by_stratum"]:
        return None
    strata = figures.pilot["by_stratum"]
    figure, axes = rows_of(len(strata))
    for row, found in enumerate(strata.values()):
        missing = found["kind"] == "missing"
        colour = WARN if missing else INK
        axes.plot([found["pass@1"], found["pass@k"]], [row, row], color=colour, linewidth=1.6, solid_capstyle="round")
        axes.plot(found["pass@1"], row, "o", color=colour, markerfacecolor=PAPER, markersize=6)
        axes.plot(found["pass@k"], row, "o", color=colour, markersize=6)
        if missing:
            axes.annotate(
                "missing", (0, row), (8, 0), textcoords="offset points", va="center", color=WARN, fontsize=8.5
            )
    axes.plot([], [], "o", color=INK, markerfacecolor=PAPER, label="pass@1")
    axes.plot([], [], "o", color=INK, label=f"pass@{figures.pilot['samples']}")
    legend(axes, 2)
    return share_axis(figure, axes, short(strata), "training questions, before training")


def _gains(figures: Figures) -> Figure | None:
    """Predicted across, obtained up; a marker a kind of stratum."""
    if figures.gains is None or not figures.gains["by_stratum"]:
        return None
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH * 0.6, WIDTH * 0.5), layout="constrained")
    axes = figure.subplots()
    rows = figures.gains["by_stratum"].values()
    axes.axline((0, 0), slope=1, color=RULE, linewidth=1)
    for place, kind in enumerate(("solid", "misapplied", "missing")):
        chosen = [row for row in rows if row["kind"] == kind]
        if chosen:
            across, up = ([100 * row[name] for row in chosen] for name in ("predicted", "obtained"))
            axes.plot(across, up, MARKERS[place], color=ARMS[place], markersize=5.5, label=kind)
    axes.set_xlabel("predicted gain, points")
    axes.set_ylabel("obtained gain, points")
    legend(axes, 3)
    return figure


def _curves(figures: Figures) -> Figure | None:
    """Small multiples: each step faint, their running mean strong; tuning as points on the share that is right."""
    runs = {arm: rows for arm, rows in figures.curves().items() if rows}
    names = [
        name
        for name in CURVES
        if name != "tuning_accuracy" and any(name in row for rows in runs.values() for row in rows)
    ]
    if not runs or not names:
        return None
    from matplotlib.figure import Figure as MatplotlibFigure

    lines = math.ceil(len(names) / 2)
    figure = MatplotlibFigure(figsize=(WIDTH, 1.85 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, 2, squeeze=False, sharex=True)
    for axes, name in zip(grid.flat, names, strict=False):
        axes.set_title(CURVES[name])
        for arm, rows in runs.items():
            _line(axes, rows, name, place_of(figures, arm))
        if name == "accuracy":
            _tuning(axes, runs, figures)
        if name in ("accuracy", "format_rate"):
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True)
    if any("tuning_accuracy" in row for rows in runs.values() for row in rows) and "accuracy" in names:
        grid.flat[0].plot([], [], "o", color=MUTED, markerfacecolor=PAPER, label="right on tuning cases (greedy)")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, place: int) -> None:
    steps = [row["step"] + 1 for row in rows]
    values = [_finite(row.get(name)) for row in rows]
    means = running_mean(values)
    axes.plot(steps, values, color=ARMS[place], linewidth=0.8, alpha=0.35)
    axes.plot(
        steps,
        means,
        color=ARMS[place],
        linewidth=1.8,
        label=arm_name(str(rows[0]["arm"])),
        marker="o" if len(rows) == 1 else None,
    )


def _tuning(axes: Axes, runs: Mapping[str, Sequence[Mapping[str, Any]]], figures: Figures) -> None:
    for arm, rows in runs.items():
        scored = [row for row in rows if "tuning_accuracy" in row]
        place = place_of(figures, arm)
        steps, shares = [row["step"] + 1 for row in scored], [_finite(row["tuning_accuracy"]) for row in scored]
        axes.plot(steps, shares, MARKERS[place], color=ARMS[place], markerfacecolor=PAPER, markersize=5.5)


def _asked(figures: Figures) -> Figure | None:
    """From a stratum's share of train to its share of the questions asked; None where the recipe leaves that to train."""
    marks = chosen(figures)
    if not marks:
        return None
    strata = strata_of(marks)
    figure, axes = rows_of(len(strata), height=0.2 * len(marks) + 0.14)
    for lane, (arm, mark) in enumerate(marks.items()):
        held, asked = mark["in_train_by_stratum"], mark["asked_by_stratum"]
        colour = ARMS[place_of(figures, arm)]
        for row, stratum in enumerate(strata):
            place = row + (lane - (len(marks) - 1) / 2) * 0.3
            shares = [counts.get(stratum, 0) / max(1, sum(counts.values())) for counts in (held, asked)]
            axes.plot(shares, [place, place], color=colour, linewidth=1.4)
            axes.plot(shares[0], place, "o", color=colour, markerfacecolor=PAPER, markersize=5.5)
            axes.plot(shares[1], place, "o", color=colour, markersize=5.5)
        axes.plot([], [], "o", color=colour, label=arm_name(arm))
    legend(axes, len(marks))
    return share_axis(figure, axes, short(dict.fromkeys(strata)), "of the questions")


def _warmup(figures: Figures) -> Figure | None:
    rows = figures.metrics.get("warmup")
    if not rows:
        return None
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, 2.0), layout="constrained")
    axes = figure.subplots()
    _line(axes, rows, "loss", place_of(figures, "sft"))
    axes.set_title("loss on response tokens")
    axes.set_xlabel("step")
    axes.locator_params(axis="x", integer=True)
    return figure


def _categories(figures: Figures) -> Figure:
    return by_group(figures, shares_by(figures, 2))


def _strata(figures: Figures) -> Figure:
    return by_group(figures, shares_by(figures, None))


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def running_mean(values: Sequence[float]) -> list[float]:
    """Centred over about a tenth of the steps; what is no number is left out of it."""
    reach = len(values) // 20
    windows = [values[max(0, place - reach) : place + reach + 1] for place in range(len(values))]
    windows = [[value for value in window if math.isfinite(value)] for window in windows]
    return [sum(window) / len(window) if window else math.nan for window in windows]
