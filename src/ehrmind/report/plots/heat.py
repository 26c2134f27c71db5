"""Heat maps: arms by set of cases, gains by set of cases, and which label was answered as which.

A field's figure stands in it, so that shade is never the only bearer of it; fields are vector shapes in the page's own colours.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ehrmind.report.formatting import ABSENT, arm_name, percent
from ehrmind.report.plots.drawing import WIDTH, drawn
from ehrmind.report.plots.svg import ARMS, INK, MUTED, WARN
from ehrmind.report.reading import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MORE, LESS = ARMS[2], WARN
DEEPEST = 0.5  # opacity: ink stays readable on it in light and in dark
FULL_GAIN = 0.5  # a gain of so much has the deepest shade
ACROSS = 80  # characters of the columns' names side by side
MOST_TASKS = 6  # of the confusion plot; the tables have all
Fields = Sequence[
    Sequence[tuple[float, str] | None]
]  # shade from −1 to 1, and what is written; None where nothing was scored


def heat_plots(figures: Figures) -> dict[str, str]:
    """SVG by name: places (every arm on every set of cases), confusion; without those that this run has nothing for."""
    return drawn(figures, {"places": _places, "confusion": _confusion})


def heat(
    rows: Sequence[str], columns: Sequence[str], fields: Fields, outlined: Collection[tuple[int, int]] = ()
) -> Figure:
    """One heat map; `outlined` are the (row, column) that are framed."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, 0.36 * len(rows) + 1.0), layout="constrained")
    _fill(figure.subplots(), rows, columns, fields, outlined)
    return figure


def share_field(figure: Mapping[str, Any] | None) -> tuple[float, str] | None:
    return (figure["accuracy"], percent(figure["accuracy"])) if figure and figure["n"] else None


def gain_field(gain: Mapping[str, Any] | None) -> tuple[float, str] | None:
    if gain is None:
        return None
    return max(-1.0, min(1.0, gain["difference"] / FULL_GAIN)), f"{100 * gain['difference']:+.1f}".replace("-", "−")


def _fill(
    axes: Axes, rows: Sequence[str], columns: Sequence[str], fields: Fields, outlined: Collection[tuple[int, int]] = ()
) -> None:
    from matplotlib.patches import Rectangle

    for row, line in enumerate(fields):
        for column, field in enumerate(line):
            if field is None:
                axes.text(column, row, ABSENT, ha="center", va="center", color=MUTED)
                continue
            shade, text = field
            corner, colour = (column - 0.5, row - 0.5), MORE if shade >= 0 else LESS
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=DEEPEST * abs(shade), linewidth=0))
            axes.text(column, row, text, ha="center", va="center", color=INK)
    for row, column in outlined:
        axes.add_patch(Rectangle((column - 0.47, row - 0.42), 0.94, 0.84, fill=False, edgecolor=INK, linewidth=1.2))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [_folded(name, max(8, ACROSS // len(columns))) for name in columns])
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)


def _folded(name: str, width: int) -> str:
    """On lines of so many characters; a name breaks at its underscores too."""
    return "\n".join(textwrap.wrap(name.replace("_", " "), width)) or name


def _places(figures: Figures) -> Figure | None:
    """The held-out cases and those elsewhere side by side."""
    transfer = figures.results.get("transfer")
    if not transfer:
        return None
    places = {"held-out": figures.results["arms"], **{name: found["arms"] for name, found in transfer.items()}}
    fields = [[share_field(arms.get(arm)) for arms in places.values()] for arm in figures.arms]
    return heat(list(map(arm_name, figures.arms)), list(places), fields, [(row, 0) for row in range(len(figures.arms))])


def _confusion(figures: Figures) -> Figure | None:
    """A row a task, a map an arm: truth down, answer across, shades by the share of each truth."""
    measured = {arm: figures.results["arms"][arm].get("measures", {}) for arm in figures.arms}
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
            row, first = measured[arm][task], arm == arms[0]
            axes.set_axis_on()
            axes.set_title(f"{task}: {arm_name(arm)}" if len(tasks) > 1 else arm_name(arm))
            fields = [[(count / max(1, sum(counts)), str(count)) for count in counts] for counts in row["confusion"]]
            _fill(axes, row["labels"] if first else [""] * len(row["labels"]), [*row["labels"], "malformed"], fields)
            axes.tick_params(axis="x", labelsize=8, labelrotation=30)
    return figure
