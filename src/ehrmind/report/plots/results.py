"""Plots of accuracy: arms, seeds, transfer sets, and groups of held-out cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehrmind.report.formatting import arm_name
from ehrmind.report.plots.drawing import by_group, interval, legend, place_of, rows_of, share_axis
from ehrmind.report.plots.heat import heat, share_field
from ehrmind.report.plots.svg import ARMS, MUTED, PAPER
from ehrmind.report.reading import Figures
from ehrmind.report.tables.results import categories as category_shares
from ehrmind.report.tables.results import strata as stratum_shares
from ehrmind.report.tables.subgroups import seen_shares, subgroup_shares

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def arms(figures: Figures) -> Figure:
    """Accuracy of every arm with its interval: the headline filled, the other decoding hollow."""
    views = [view for view in figures.results.views() if view[1] == figures.results.scorer]
    figure, axes = rows_of(len(figures.arms), height=0.55)
    for lane, (decoding, _, view) in enumerate(views):
        for row, arm in enumerate(figures.arms):
            place = row + (lane - (len(views) - 1) / 2) * 0.28
            interval(axes, place, view.arms.get(arm), arm, hollow=lane > 0)
        axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER if lane else MUTED, label=decoding)
    if len(views) > 1:
        legend(axes, len(views))
    return share_axis(figure, axes, [arm_name(arm) for arm in figures.arms], "held-out cases answered right")


def seeds(figures: Figures) -> Figure | None:
    """The accuracy of every seed as a tick, and the mean with its interval."""
    if not figures.results.seeds:
        return None
    figure, axes = rows_of(len(figures.arms), height=0.4)
    for row, arm in enumerate(figures.arms):
        found = figures.results.arms[arm]
        heights, colour = [row + 0.22] * len(found.per_seed), ARMS[place_of(arm)]
        axes.plot(found.per_seed, heights, "|", color=colour, markersize=8, alpha=0.7)
        interval(axes, row, found, arm)
    return share_axis(figure, axes, [arm_name(arm) for arm in figures.arms], "held-out cases answered right")


def transfer(figures: Figures) -> Figure | None:
    """A heat map of every arm on the held-out cases and on the transfer sets."""
    if not figures.results.transfer:
        return None
    sets = {"held-out": figures.results.arms, **{name: found.arms for name, found in figures.results.transfer.items()}}
    fields = [[share_field(arms.get(arm)) for arms in sets.values()] for arm in figures.arms]
    return heat(list(map(arm_name, figures.arms)), list(sets), fields, [(row, 0) for row in range(len(figures.arms))])


def categories(figures: Figures) -> Figure:
    return by_group(figures, category_shares(figures))


def strata(figures: Figures) -> Figure:
    return by_group(figures, stratum_shares(figures))


def seen(figures: Figures) -> Figure | None:
    shares = seen_shares(figures)
    return by_group(figures, shares) if shares else None


def subgroups(figures: Figures) -> Figure | None:
    shares = subgroup_shares(figures)
    return by_group(figures, shares) if shares else None
