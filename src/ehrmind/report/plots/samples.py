"""Plots of repeated samples: pass@k and majority@k, calibration and coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ehrmind.report.formatting import arm_name
from ehrmind.report.plots.drawing import WIDTH, marker_of, place_of
from ehrmind.report.plots.svg import ARMS, RULE
from ehrmind.report.reading import Figures
from ehrmind.report.tables.samples import curves, repeated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def samples(figures: Figures) -> Figure | None:
    """pass@k and majority@k against k, which doubles."""
    found = repeated(figures)
    if not found:
        return None
    figure, axes = _pair(("any of k right (pass@k)", "majority of k right"))
    for arm, row in found.items():
        for one, points in zip(axes, curves(row).values(), strict=True):
            look, ks = _look(arm), [point.k for point in points]
            one.plot(ks, [point.value for point in points], label=arm_name(arm), **look)
            low, high = zip(*(point.ci95 for point in points), strict=True)
            one.fill_between(ks, low, high, color=look["color"], alpha=0.12, linewidth=0)
            one.set_xscale("log", base=2)
            one.set_xticks(ks, [str(k) for k in ks])
            one.set_xlabel("samples k")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def agreement(figures: Figures) -> Figure | None:
    """The share right against agreement, and against the share of questions answered."""
    found = repeated(figures)
    if not found:
        return None
    figure, axes = _pair(("right, by agreement among samples", "right, by share of questions answered"))
    axes[0].plot([0, 1], [0, 1], color=RULE, linewidth=1)
    for arm, row in found.items():
        look, bins, points = _look(arm), row.calibration.bins, row.coverage.points
        axes[0].plot([one.confidence for one in bins], [one.right for one in bins], label=arm_name(arm), **look)
        axes[1].plot([point.coverage for point in points], [point.accuracy for point in points], **look)
    for one in axes:
        one.set_xlim(-0.02, 1.02)
        one.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _look(arm: str) -> Any:
    place = place_of(arm)
    return {"color": ARMS[place], "marker": marker_of(arm), "markersize": 4.5}


def _pair(titles: tuple[str, str]) -> tuple[Figure, list[Axes]]:
    """Two plots side by side with shares on the y axis."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = list(figure.subplots(1, 2))
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title)
        one.set_ylim(-0.02, 1.02)
        one.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    return figure, axes
