"""Tables of accuracy: arms, paired differences, transfer sets, seeds, categories, strata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ehrmind.report.formatting import (
    ABSENT,
    SCORER_NAMES,
    Cell,
    Rows,
    Table,
    accuracy,
    arm_name,
    interval,
    number,
    p_value,
    pair_name,
    percent,
    points,
)
from ehrmind.report.reading import Figures
from ehrmind.statistics import wilson


def arms(figures: Figures) -> Table:
    """All arms under every decoding and scorer."""
    views = figures.views()
    headline = views[0][0]
    rows: Rows = []
    for arm in figures.arms:
        mark = figures.marks.get(f"evaluate-{arm}-{headline}", {})
        scored = figures.results["arms"][arm]
        rows.append(
            [
                arm_name(arm),
                *(accuracy(view["arms"].get(arm)) for _, _, view in views),
                number(scored["correct"]),
                number(scored["unparsed"]),
                percent(mark["truncated"]) if "truncated" in mark else ABSENT,
                number(mark.get("length")),
            ]
        )
    n = next(iter(figures.results["arms"].values()))["n"]
    titles = [f"{decoding}, {SCORER_NAMES.get(scorer, scorer)}" for decoding, scorer, _ in views]
    caption = (
        f"Share of {n:,} held-out cases answered right, with 95 % intervals over patients. The columns after the "
        f"shares are of {headline} decoding; malformed answers count as wrong."
    )
    return Table(caption, ["Arm", *titles, "Right", "Malformed", "Cut at the limit", "Tokens an answer"], rows)


def pairs(figures: Figures) -> Table | None:
    """Differences between arms on the same cases; None where there is one arm only."""
    if not figures.results["pairs"]:
        return None
    views = figures.views()
    rows: Rows = [
        [pair_name(pair), *(_difference(view["pairs"].get(pair)) for _, _, view in views)]
        for pair in figures.results["pairs"]
    ]
    titles = [f"{decoding}, {SCORER_NAMES.get(scorer, scorer)}" for decoding, scorer, _ in views]
    caption = (
        "Differences in points on the same cases, with 95 % intervals over patients and p of the exact two-sided "
        "sign-flip test (McNemar's where every patient has one case). The second p is adjusted for the number of "
        "pairs (Holm)."
    )
    return Table(caption, ["Pair", *titles], rows)


def _difference(figure: Mapping[str, Any] | None) -> Cell:
    if figure is None:
        return Cell(ABSENT)
    low, high = figure["ci95"]
    tone = "good" if low > 0 else "warn" if high < 0 else ""
    adjusted = f", adjusted {p_value(figure['p_holm'])}" if "p_holm" in figure else ""
    return Cell(points(figure["difference"]), f"{interval([low, high])}; {p_value(figure['p'])}{adjusted}", tone)


def transfer(figures: Figures) -> Table | None:
    """Every arm on the transfer sets; None where the recipe names none."""
    places = figures.results.get("transfer")
    if not places:
        return None
    rows: Rows = []
    for name, found in places.items():
        cells = [accuracy(found["arms"].get(arm)) for arm in figures.arms]
        rows.append([name, number(next(iter(found["arms"].values()))["n"]), *cells])
    caption = (
        "The same arms on cases of other tasks or families, which this run did not train on, "
        f"{figures.results['decoding']} decoding: share answered right, with 95 % intervals over patients."
    )
    return Table(caption, ["Transfer", "Cases", *map(arm_name, figures.arms)], rows)


def seeds(figures: Figures) -> Table | None:
    """The accuracy of every seed; None where the run has one seed."""
    chosen = figures.results.get("seeds")
    if not chosen:
        return None
    rows: Rows = [
        [arm_name(arm), *(percent(share) for share in row["per_seed"]), accuracy(row), f"{100 * row['sd']:.1f}"]
        for arm, row in figures.results["arms"].items()
        if "per_seed" in row
    ]
    caption = (
        "The recipe under several seeds, each a run of its own under seeds/. Intervals allow for other patients and "
        "for other seeds. The spread is the standard deviation between seeds, in points."
    )
    return Table(caption, ["Arm", *(f"seed {seed}" for seed in chosen), "Mean", "Spread"], rows)


def by_category(figures: Figures) -> Table:
    return by_arm(
        figures, "Held-out accuracy by category, with 95 % intervals.", "Category", shares_by(figures, "by_category")
    )


def by_stratum(figures: Figures) -> Table:
    return by_arm(
        figures, "Held-out accuracy by stratum, with 95 % intervals.", "Stratum", shares_by(figures, "by_stratum")
    )


def by_arm(figures: Figures, caption: str, title: str, shares: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """A row per group of cases, a column per arm."""
    rows: Rows = [
        [group, number(max(row["n"] for row in of.values())), *(accuracy(of[arm]) for arm in figures.arms)]
        for group, of in shares.items()
    ]
    return Table(caption, [title, "Cases", *map(arm_name, figures.arms)], rows)


def shares_by(figures: Figures, *path: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """{group: {arm: accuracy}} under these keys of results.json; empty where it has none."""
    shares: dict[str, dict[str, Mapping[str, Any]]] = {}
    for arm, row in figures.results["arms"].items():
        for name in path:
            row = row.get(name, {})
        for group, figure in row.items():
            shares.setdefault(group, {})[arm] = figure
    return {group: {arm: shares[group].get(arm, {"n": 0}) for arm in figures.arms} for group in sorted(shares)}


def pooled(figures: Figures, arm: str, strata: list[str]) -> dict[str, Any]:
    """The accuracy of an arm on several strata together; cases count as independent."""
    found = figures.results["arms"][arm]["by_stratum"]
    n = sum(found[stratum]["n"] for stratum in strata if stratum in found)
    correct = sum(found[stratum]["correct"] for stratum in strata if stratum in found)
    return {"n": n, "correct": correct, "accuracy": correct / max(1, n), "ci95": wilson(correct, n)}
