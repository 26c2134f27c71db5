"""The plot of forgetting: each trained arm against base on general questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehrmind.report.formatting import arm_name
from ehrmind.report.plots.drawing import legend, marker_of, place_of, rows_of
from ehrmind.report.plots.svg import ARMS, MUTED, WARN
from ehrmind.report.reading import Figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forgetting(figures: Figures) -> Figure | None:
    """The difference from base with its interval, and the margin as a dashed line."""
    found = figures.results.forgetting
    if not found:
        return None
    figure, axes = rows_of(len(found.arms), height=0.4)
    for row, (arm, difference) in enumerate(found.arms.items()):
        place = place_of(arm)
        bounds = [100 * bound for bound in difference.ci95]
        axes.plot(bounds, [row, row], color=ARMS[place], linewidth=1.5, solid_capstyle="butt")
        axes.plot(100 * difference.difference, row, marker_of(arm), color=ARMS[place], markersize=6.5)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.axvline(-100 * found.margin, color=WARN, linewidth=1, linestyle="--", label="margin")
    axes.set_yticks(range(len(found.arms)), [arm_name(arm) for arm in found.arms])
    axes.set_ylim(len(found.arms) - 0.45, -0.55)
    axes.set_xlabel("points of accuracy against base, general questions")
    axes.grid(visible=False, axis="y")
    legend(axes, 1)
    return figure
