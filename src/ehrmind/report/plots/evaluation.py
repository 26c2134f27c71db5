"""The plots beside `evaluation_tables`, drawn as those of `plots`."""

from __future__ import annotations

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
)
from ehrmind.report.plots.svg import ARMS, MUTED, RULE, WARN
from ehrmind.report.reading import Figures
from ehrmind.report.tables.evaluation import VARIANTS, parts, people, repeated
from ehrmind.report.tables.labels import calibrated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def evaluation_plots(figures: Figures) -> dict[str, str]:
    """SVG by name; without those that this run has nothing for."""
    return drawn(
        figures,
        {
            "risks": _risks,
            "samples": _samples,
            "agreement": _agreement,
            "seen": _seen,
            "subgroups": _subgroups,
            "forgetting": _forgetting,
            "seeds": _seeds,
        },
    )


def _pair(titles: tuple[str, str]) -> tuple[Figure, list[Axes]]:
    """Two plots side by side whose heights are shares."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = list(figure.subplots(1, 2))
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title)
        one.set_ylim(-0.02, 1.02)
        one.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    return figure, axes


def _risks(figures: Figures) -> Figure | None:
    """How often a predicted risk came true, by tenths of it; a plot a task, with the line where both are equal."""
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
            place = place_of(figures, name)
            across, up = ([tenth[key] for tenth in bins] for key in ("risk", "observed"))
            axes.plot(
                across,
                up,
                color=ARMS[place],
                marker=MARKERS[place],
                markersize=4.5,
                linewidth=1.4,
                label=arm_name(name),
            )
        axes.set_xlabel("predicted risk")
        axes.set_ylabel("came true")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    for axes in grid[len(found) :]:
        axes.set_axis_off()
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _samples(figures: Figures) -> Figure | None:
    """pass@k and majority@k against k, which doubles."""
    found = repeated(figures)
    if not found:
        return None
    figure, axes = _pair(("any of k right (pass@k)", "majority of k right"))
    for one, variant_name in zip(axes, VARIANTS, strict=True):
        for arm, row in found.items():
            place, ks = place_of(figures, arm), [point["k"] for point in row[variant_name]]
            one.plot(
                ks,
                [point["value"] for point in row[variant_name]],
                color=ARMS[place],
                marker=MARKERS[place],
                markersize=4.5,
                label=arm_name(arm),
            )
            low, high = zip(*(point["ci95"] for point in row[variant_name]), strict=True)
            one.fill_between(ks, low, high, color=ARMS[place], alpha=0.12, linewidth=0)
        one.set_xscale("log", base=2)
        one.set_xticks(ks, [str(k) for k in ks])
        one.set_xlabel("samples k")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _agreement(figures: Figures) -> Figure | None:
    """Share right against agreement, and against the share of questions answered."""
    found = repeated(figures)
    if not found:
        return None
    figure, axes = _pair(("right, by agreement among samples", "right, by share of questions answered"))
    axes[0].plot([0, 1], [0, 1], color=RULE, linewidth=1)
    for arm, row in found.items():
        look: Any = {
            "color": ARMS[place_of(figures, arm)],
            "marker": MARKERS[place_of(figures, arm)],
            "markersize": 4.5,
        }
        bins, points = row["calibration"]["bins"], row["coverage"]["points"]
        axes[0].plot(
            [bin_["confidence"] for bin_ in bins], [bin_["right"] for bin_ in bins], label=arm_name(arm), **look
        )
        axes[1].plot([point["coverage"] for point in points], [point["accuracy"] for point in points], **look)
    for one in axes:
        one.set_xlim(-0.02, 1.02)
        one.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _seen(figures: Figures) -> Figure | None:
    shares = parts(figures, "by_seen")
    return by_group(figures, shares) if "unseen" in shares else None


def _subgroups(figures: Figures) -> Figure | None:
    shares = people(figures)
    return by_group(figures, shares) if shares else None


def _forgetting(figures: Figures) -> Figure | None:
    """Difference from base on general questions, and the margin."""
    found = figures.results.get("forgetting")
    if not found:
        return None
    figure, axes = rows_of(len(found["arms"]), height=0.4)
    for row, (arm, difference) in enumerate(found["arms"].items()):
        colour = ARMS[place_of(figures, arm)]
        axes.plot(
            [100 * bound for bound in difference["ci95"]],
            [row, row],
            color=colour,
            linewidth=1.5,
            solid_capstyle="butt",
        )
        axes.plot(100 * difference["difference"], row, MARKERS[place_of(figures, arm)], color=colour, markersize=6.5)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.axvline(-100 * found["margin"], color=WARN, linewidth=1, linestyle="--", label="margin")
    axes.set_yticks(range(len(found["arms"])), [arm_name(arm) for arm in found["arms"]])
    axes.set_ylim(len(found["arms"]) - 0.45, -0.55)
    axes.set_xlabel("points of accuracy against base, general questions")
    axes.grid(visible=False, axis="y")
    legend(axes, 1)
    return figure


def _seeds(figures: Figures) -> Figure | None:
    """Every seed's figure faint, their mean with its interval."""
    if not figures.results.get("seeds"):
        return None
    figure, axes = rows_of(len(figures.arms), height=0.4)
    for row, arm in enumerate(figures.arms):
        found = figures.results["arms"][arm]
        shares = found.get("per_seed", [])
        axes.plot(shares, [row + 0.22] * len(shares), "|", color=ARMS[place_of(figures, arm)], markersize=8, alpha=0.7)
        interval(axes, row, found, row)
    return share_axis(figure, axes, [arm_name(arm) for arm in figures.arms], "held-out cases answered right")
