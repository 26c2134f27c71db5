"""Building blocks of the plots: rows and lanes, intervals, axes of shares, legends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar
from zlib import crc32

from ehrmind.report.formatting import ARM_NAMES, VARIANT_NAMES, Scored, arm_name
from ehrmind.report.plots.svg import ARMS, PAPER, RULE, STYLE, to_svg
from ehrmind.report.reading import Training
from ehrmind.report.tables.results import Shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")
# An arm looks the same on every page and in the view, whatever other arms a run has. Its model
# gives the colour, its prompt variant the marker. Baselines and endpoints have a colour each.
MODELS = ("base", "rlvr", "sft", "sft_rlvr")
MARKERS = ("o", "s", "^", "D")  # of the models
OTHER_MARKERS = ("v", "P", "X", "*", "<", ">")  # of variants, baselines and endpoints
BASELINE, ENDPOINT = 4, 5  # numbers of colours
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
            interval(axes, row + (lane - (count - 1) / 2) * 0.8 / count, group[arm], arm, size=4.5)
        axes.plot([], [], marker_of(arm), color=ARMS[place_of(arm)], label=arm_name(arm))
    legend(axes, count)
    for row in range(1, len(shares)):
        axes.axhline(row - 0.5, color=RULE, linewidth=0.6)
    return share_axis(figure, axes, short(shares), "held-out cases answered right")


def interval(
    axes: Axes, place: float, scored: Scored | None, arm: str, *, hollow: bool = False, size: float = 6.5
) -> None:
    """Draws an accuracy with its interval at height `place`; nothing where no case was scored."""
    if scored is None or not scored.n:
        return
    low, high = scored.ci95
    colour = ARMS[place_of(arm)]
    axes.plot([low, high], [place, place], color=colour, linewidth=1.5, solid_capstyle="butt")
    face = PAPER if hollow else colour
    axes.plot(scored.accuracy, place, marker_of(arm), color=colour, markerfacecolor=face, markersize=size)


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


def place_of(arm: str) -> int:
    """The number of the colour of an arm, a baseline or an endpoint."""
    if (model := _model(arm)) is not None:
        return MODELS.index(model)
    return BASELINE if arm in ARM_NAMES else ENDPOINT


def marker_of(arm: str) -> str:
    """The marker of an arm, a baseline or an endpoint."""
    model = _model(arm)
    if model == arm:
        return MARKERS[MODELS.index(arm)]
    if model is not None:
        return OTHER_MARKERS[list(VARIANT_NAMES).index(arm.removeprefix(f"{model}_"))]
    known = [name for name in ARM_NAMES if name not in MODELS]
    place = known.index(arm) if arm in known else crc32(arm.encode())  # a user chose an endpoint's name
    return OTHER_MARKERS[place % len(OTHER_MARKERS)]


def _model(arm: str) -> str | None:
    """The model of an arm; None for a baseline or an endpoint."""
    arms = ((model, f"{model}_{variant}") for model in MODELS for variant in VARIANT_NAMES)
    return arm if arm in MODELS else next((model for model, name in arms if name == arm), None)
