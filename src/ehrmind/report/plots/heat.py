"""Heat maps in the page's own colours.

Every field shows its figure, so that no reader depends on the shade.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from ehrmind.report.formatting import ABSENT, Scored, percent, points
from ehrmind.report.plots.drawing import WIDTH
from ehrmind.report.plots.svg import ARMS, INK, MUTED, WARN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MORE, LESS = ARMS[2], WARN
DEEPEST = 0.5  # opacity: ink stays readable on it in light and in dark
FULL_GAIN = 0.5  # the gain from which on the shade is deepest
ACROSS = 80  # characters for the names of all columns
# (shade from −1 to 1, text) of every field; None where nothing was scored
Fields = Sequence[Sequence[tuple[float, str] | None]]


class Difference(Protocol):
    @property
    def difference(self) -> float: ...


def heat(
    rows: Sequence[str], columns: Sequence[str], fields: Fields, outlined: Collection[tuple[int, int]] = ()
) -> Figure:
    """One heat map; `outlined` lists the (row, column) of fields with a frame."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, 0.36 * len(rows) + 1.0), layout="constrained")
    fill(figure.subplots(), rows, columns, fields, outlined)
    return figure


def share_field(scored: Scored | None) -> tuple[float, str] | None:
    return (scored.accuracy, percent(scored.accuracy)) if scored and scored.n else None


def gain_field(gain: Difference | None) -> tuple[float, str] | None:
    return None if gain is None else (max(-1.0, min(1.0, gain.difference / FULL_GAIN)), points(gain.difference))


def fill(
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
    """Breaks a name into lines of `width` characters, at underscores too."""
    return "\n".join(textwrap.wrap(name.replace("_", " "), width)) or name
