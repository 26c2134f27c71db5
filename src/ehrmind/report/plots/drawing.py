"""Building blocks of the plots: rows and lanes, intervals, axes of shares, legends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from ehrmind.report.formatting import Scored, arm_name
from ehrmind.report.plots.svg import ARMS, PAPER, RULE, STYLE, to_svg
from ehrmind.report.reading import Training
from ehrmind.report.tables.results import Shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 8.6  # inches; the page scales it


def drawn(figures: T, plots: Mapping[str, Callable[[T], Figure | None]]) -> dict[str, str]:
    """SVG by name in the page's style, without the plots that return None."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        made = {name: plot(figures) for name, plot in plots.items()}
        return {name: to_svg(figure, name) for name, figure in made.items() if figure is not None}


def by_group(training: Training, shares: Shares) -> Figure:
    """One row per group of cases, one lane per arm."""
    count = len(training.arms)
    figure, axes = rows_of(len(shares), height=0.16 * count + 0.14)
    for lane, arm in enumerate(training.arms):
        for row, group in enumerate(shares.values()):
            interval(axes, row + (lane - (count - 1) / 2) * 0.8 / count, group[arm], lane, size=4.5)
        axes.plot([], [], MARKERS[lane % len(MARKERS)], color=ARMS[lane % len(ARMS)], label=arm_name(arm))
    legend(axes, count)
    for row in range(1, len(shares)):
        axes.axhline(row - 0.5, color=RULE, linewidth=0.6)
    return share_axis(figure, axes, short(shares), "held-out cases answered right")


def interval(
    axes: Axes, place: float, scored: Scored | None, lane: int, *, hollow: bool = False, size: float = 6.5
) -> None:
    """Draws an accuracy with its interval at height `place`; nothing where no case was scored."""
    if scored is None or not scored.n:
        return
    low, high = scored.ci95
    colour = ARMS[lane % len(ARMS)]
    axes.plot([low, high], [place, place], color=colour, linewidth=1.5, solid_capstyle="butt")
    face = PAPER if hollow else colour
    axes.plot(scored.accuracy, place, MARKERS[lane % len(MARKERS)], color=colour, markerfacecolor=face, markersize=size)


def rows_of(count: int, height: float = 0.32) -> tuple[Figure, Axes]:
    """A figure that is high enough for `count` rows."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, height * count + 1.05), layout="constrained")
    return figure, figure.subplots()


def share_axis(figure: Figure, axes: Axes, labels: Sequence[str], title: str) -> Figure:
    """Labels the rows and marks the x axis in percent."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.set_xlim(-0.015, 1.015)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(title)
    axes.grid(visible=False, axis="y")
    return figure


def legend(axes: Axes, columns: int) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handletextpad=0.3, columnspacing=1.4
    )


def short(strata: Iterable[str]) -> list[str]:
    """Names of strata, without the family where all share one."""
    labels = list(strata)
    families = {label.partition("/")[0] for label in labels}
    return [label.partition("/")[2] or label for label in labels] if len(families) == 1 else labels


def place_of(arms: Sequence[str], arm: str) -> int:
    """The number of an arm's colour; an arm that was not scored takes the last one."""
    return arms.index(arm) % len(ARMS) if arm in arms else len(ARMS) - 1
