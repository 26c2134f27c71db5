"""Tables of accuracy: arms, paired differences, transfer sets, seeds, categories, strata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
from ehrmind.runs.records import Accuracy, ArmResult, PairResult
from ehrmind.statistics import wilson

Shares = Mapping[str, Mapping[str, Accuracy | None]]  # by group of cases and arm; None where an arm has none


def arms(figures: Figures) -> Table:
    """All arms under every decoding and scorer."""
    views = list(figures.results.views())
    headline = figures.results.decoding
    rows: Rows = []
    for arm in figures.arms:
        mark, found = figures.scored.get(arm), figures.results.arms[arm]
        rows.append(
            [
                arm_name(arm),
                *(accuracy(view.arms.get(arm)) for _, _, view in views),
                number(found.correct),
                number(found.unparsed),
                percent(mark.truncated) if mark else ABSENT,
                number(mark.length if mark else None),
            ]
        )
    n = figures.results.arms[figures.arms[0]].n
    titles = [f"{decoding}, {SCORER_NAMES.get(scorer, scorer)}" for decoding, scorer, _ in views]
    caption = (
        f"Share of {n:,} held-out cases answered right, with 95 % intervals over patients. The columns after the "
        f"shares are of {headline} decoding; malformed answers count as wrong."
    )
    return Table(caption, ["Arm", *titles, "Right", "Malformed", "Cut at the limit", "Tokens an answer"], rows)


def pairs(figures: Figures) -> Table | None:
    """Differences between arms on the same cases; None where there is one arm only."""
    if not figures.results.pairs:
        return None
    views = list(figures.results.views())
    rows: Rows = [
        [pair_name(pair), *(difference(view.pairs.get(pair)) for _, _, view in views)] for pair in figures.results.pairs
    ]
    titles = [f"{decoding}, {SCORER_NAMES.get(scorer, scorer)}" for decoding, scorer, _ in views]
    caption = (
        "Differences in points on the same cases, with 95 % intervals over patients and p of the exact two-sided "
        "sign-flip test (McNemar's where every patient has one case). The second p is adjusted for the number of "
        "pairs (Holm)."
    )
    return Table(caption, ["Pair", *titles], rows)


def difference(pair: PairResult | None) -> Cell:
    """A difference in points with its interval and p; a dash where there is none."""
    if pair is None:
        return Cell(ABSENT)
    low, high = pair.ci95
    tone = "good" if low > 0 else "warn" if high < 0 else ""
    adjusted = "" if pair.p_holm is None else f", adjusted {p_value(pair.p_holm)}"
    return Cell(points(pair.difference), f"{interval(pair.ci95)}; {p_value(pair.p)}{adjusted}", tone)


def transfer(figures: Figures) -> Table | None:
    """Every arm on the transfer sets; None where the recipe names none."""
    sets = figures.results.transfer
    if not sets:
        return None
    rows: Rows = []
    for name, found in sets.items():
        cells = [accuracy(found.arms.get(arm)) for arm in figures.arms]
        rows.append([name, number(next(iter(found.arms.values())).n), *cells])
    caption = (
        "The same arms on cases of other tasks or families, which this run did not train on, "
        f"{figures.results.decoding} decoding: share answered right, with 95 % intervals over patients."
    )
    return Table(caption, ["Transfer", "Cases", *map(arm_name, figures.arms)], rows)


def seeds(figures: Figures) -> Table | None:
    """The accuracy of every seed; None where the run has one seed."""
    if not figures.results.seeds:
        return None
    rows: Rows = [
        [arm_name(arm), *map(percent, row.per_seed), accuracy(row), f"{100 * row.sd:.1f}"]
        for arm, row in figures.results.arms.items()
        if row.sd is not None
    ]
    caption = (
        "The recipe under several seeds, each a run of its own under seeds/. Intervals allow for other patients and "
        "for other seeds. The spread is the standard deviation between seeds, in points."
    )
    return Table(caption, ["Arm", *(f"seed {seed}" for seed in figures.results.seeds), "Mean", "Spread"], rows)


def by_category(figures: Figures) -> Table:
    caption = "Held-out accuracy by category, with 95 % intervals."
    return accuracy_table(caption, "Category", categories(figures), figures.arms)


def by_stratum(figures: Figures) -> Table:
    """The baselines have columns too."""
    baselines = {name: row.by_stratum for name, row in figures.results.baseline_accuracy.items()}
    shares = {
        stratum: {**by_arm, **{name: of.get(stratum) for name, of in baselines.items()}}
        for stratum, by_arm in strata(figures).items()
    }
    caption = "Held-out accuracy by stratum, with 95 % intervals."
    return accuracy_table(caption, "Stratum", shares, [*figures.arms, *baselines])


def accuracy_table(caption: str, title: str, shares: Shares, names: Sequence[str]) -> Table:
    """A row per group of cases, a column per arm or baseline."""
    rows: Rows = [
        [group, number(max(row.n for row in found.values() if row)), *(accuracy(found[name]) for name in names)]
        for group, found in shares.items()
    ]
    return Table(caption, [title, "Cases", *map(arm_name, names)], rows)


def categories(figures: Figures) -> Shares:
    return shares_by(figures, lambda arm: arm.by_category)


def strata(figures: Figures) -> Shares:
    return shares_by(figures, lambda arm: arm.by_stratum)


def shares_by(figures: Figures, groups: Callable[[ArmResult], Mapping[str, Accuracy]]) -> Shares:
    """The accuracy of every arm in every group of cases."""
    found = {arm: groups(figures.results.arms[arm]) for arm in figures.arms}
    names = sorted({name for by_group in found.values() for name in by_group})
    return {name: {arm: by_group.get(name) for arm, by_group in found.items()} for name in names}


def pooled(figures: Figures, arm: str, strata: Sequence[str]) -> Accuracy:
    """The accuracy of an arm on several strata together; cases count as independent."""
    found = [share for stratum, share in figures.results.arms[arm].by_stratum.items() if stratum in strata]
    n, correct = sum(share.n for share in found), sum(share.correct for share in found)
    low, high = wilson(correct, n)
    share = correct / max(1, n)
    return Accuracy(n=n, correct=correct, accuracy=share, ci95=(low, high), groups=n, interval="wilson")
