"""Plots of the pilot, and of predicted against obtained gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehrmind.report.plots.drawing import WIDTH, legend, rows_of, share_axis, short
from ehrmind.report.plots.svg import INK, MUTED, PAPER, RULE, WARN
from ehrmind.report.reading import Figures, Piloted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"solid": (INK, "o"), "misapplied": (MUTED, "s"), "missing": (WARN, "^")}  # no arm's colours


def pilot(figures: Piloted) -> Figure | None:
    """A line from pass@1 to pass@k per stratum; missing strata are marked."""
    if figures.pilot is None or not figures.pilot.by_stratum:
        return None
    strata = figures.pilot.by_stratum
    figure, axes = rows_of(len(strata))
    for row, found in enumerate(strata.values()):
        missing = found.kind == "missing"
        colour = WARN if missing else INK
        axes.plot([found.pass_at_1, found.pass_at_k], [row, row], color=colour, linewidth=1.6, solid_capstyle="round")
        axes.plot(found.pass_at_1, row, "o", color=colour, markerfacecolor=PAPER, markersize=6)
        axes.plot(found.pass_at_k, row, "o", color=colour, markersize=6)
        if missing:
            axes.annotate(
                "missing", (0, row), (8, 0), textcoords="offset points", va="center", color=WARN, fontsize=8.5
            )
    axes.plot([], [], "o", color=INK, markerfacecolor=PAPER, label="pass@1")
    axes.plot([], [], "o", color=INK, label=f"pass@{figures.pilot.samples}")
    legend(axes, 2)
    return share_axis(figure, axes, short(strata), "training questions, before training")


def gains(figures: Figures) -> Figure | None:
    """The predicted gain across, the obtained gain up; a marker per kind of stratum."""
    if figures.gains is None or not figures.gains.by_stratum:
        return None
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH * 0.6, WIDTH * 0.5), layout="constrained")
    axes = figure.subplots()
    rows = figures.gains.by_stratum.values()
    axes.axline((0, 0), slope=1, color=RULE, linewidth=1)
    for kind, (colour, marker) in KINDS.items():
        chosen = [row for row in rows if row.kind == kind]
        if chosen:
            across, up = [100 * row.predicted for row in chosen], [100 * row.obtained for row in chosen]
            axes.plot(across, up, marker, color=colour, markersize=5.5, label=kind)
    axes.set_xlabel("predicted gain, points")
    axes.set_ylabel("obtained gain, points")
    legend(axes, 3)
    return figure
