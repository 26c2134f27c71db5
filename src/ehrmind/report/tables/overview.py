"""Figures of a run -> the tables of the page. Every plot has its table here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ehrmind.report.formatting import (
    ABSENT,
    SCORER_NAMES,
    Cell,
    Table,
    accuracy,
    arm_name,
    duration,
    interval,
    number,
    p_value,
    pair_name,
    percent,
    points,
)
from ehrmind.report.reading import Figures, expected_stages
from ehrmind.statistics import wilson

CURVES = {
    "reward": "reward",
    "accuracy": "right",
    "format_rate": "well-formed",
    "length": "tokens an answer",
    "kl": "KL from the start",
    "entropy": "entropy",
    "zero_advantage_groups": "groups without signal",
    "tuning_accuracy": "right on tuning",
}
Rows = list[list[str | Cell]]
MOST_STEPS = 100  # rows of a learning curve's table; the plot shows every step


def arms(figures: Figures) -> Table:
    """All arms under every decoding and scorer."""
    views = figures.views()
    headline = views[0][0]
    rows: Rows = []
    for arm in figures.arms:
        mark = figures.marks.get(f"evaluate-{arm}-{headline}", {})
        shares = [accuracy(view["arms"].get(arm)) for _, _, view in views]
        cut = percent(mark["truncated"]) if "truncated" in mark else ABSENT
        scored = figures.results["arms"][arm]
        rows.append(
            [
                arm_name(arm),
                *shares,
                number(scored["correct"]),
                number(scored["unparsed"]),
                cut,
                number(mark.get("length")),
            ]
        )
    n = next(iter(figures.results["arms"].values()))["n"]
    titles = [f"{decoding}, {SCORER_NAMES.get(scorer, scorer)}" for decoding, scorer, _ in views]
    caption = (
        f"Share of {n:,} held-out cases answered right, with 95 % intervals over patients. The columns after the shares are of "
        f"{headline} decoding; malformed answers count as wrong."
    )
    return Table(caption, ["Arm", *titles, "Right", "Malformed", "Cut at the limit", "Tokens an answer"], rows)


def pairs(figures: Figures) -> Table | None:
    """Differences on the same cases; None where there is one arm only."""
    if not figures.results["pairs"]:
        return None
    views = figures.views()
    rows: Rows = [
        [pair_name(pair), *(_difference(view["pairs"].get(pair)) for _, _, view in views)]
        for pair in figures.results["pairs"]
    ]
    titles = [f"{decoding}, {SCORER_NAMES.get(scorer, scorer)}" for decoding, scorer, _ in views]
    caption = (
        "Differences in points on the same cases, with 95 % intervals over patients and the exact test of flipped signs (McNemar's where "
        "every patient has one case), two-sided; behind it p adjusted for the number of pairs (Holm)."
    )
    return Table(caption, ["Pair", *titles], rows)


def _difference(figure: Mapping[str, Any] | None) -> Cell:
    if figure is None:
        return Cell(ABSENT)
    low, high = figure["ci95"]
    tone = "good" if low > 0 else "warn" if high < 0 else ""
    adjusted = f", adjusted {p_value(figure['p_holm'])}" if "p_holm" in figure else ""
    return Cell(points(figure["difference"]), f"{interval([low, high])}; {p_value(figure['p'])}{adjusted}", tone)


def by_category(figures: Figures) -> Table:
    caption = "Held-out accuracy by category, with 95 % intervals."
    return Table(caption, ["Category", "Cases", *map(arm_name, figures.arms)], _grouped(figures, 2))


def by_stratum(figures: Figures) -> Table:
    caption = "Held-out accuracy by stratum, with 95 % intervals."
    return Table(caption, ["Stratum", "Cases", *map(arm_name, figures.arms)], _grouped(figures, None))


def shares_by(figures: Figures, depth: int | None) -> dict[str, dict[str, dict[str, Any]]]:
    """{stratum cut to its first `depth` keys: {arm: n, correct, accuracy, ci95}}."""
    stored = {None: "by_stratum", 2: "by_category"}[depth]
    if all(stored in row for row in figures.results["arms"].values()):  # with intervals of their own
        labels = sorted({label for row in figures.results["arms"].values() for label in row[stored]})
        nothing = {"n": 0, "correct": 0}
        return {
            label: {arm: figures.results["arms"][arm][stored].get(label, nothing) for arm in figures.arms}
            for label in labels
        }
    members: dict[str, list[str]] = defaultdict(list)
    for stratum in sorted({stratum for arm in figures.results["arms"].values() for stratum in arm["by_stratum"]}):
        members["/".join(stratum.split("/")[:depth])].append(stratum)
    return {label: {arm: pooled(figures, arm, strata) for arm in figures.arms} for label, strata in members.items()}


def _grouped(figures: Figures, depth: int | None) -> Rows:
    return [
        [label, number(max(share["n"] for share in shares.values())), *(accuracy(share) for share in shares.values())]
        for label, shares in shares_by(figures, depth).items()
    ]


def _shares(figures: Figures, strata: list[str]) -> list[Cell]:
    return [accuracy(pooled(figures, arm, strata)) for arm in figures.arms]


def pooled(figures: Figures, arm: str, strata: list[str]) -> dict[str, Any]:
    found = figures.results["arms"][arm]["by_stratum"]
    n = sum(found[stratum]["n"] for stratum in strata if stratum in found)
    correct = sum(found[stratum]["correct"] for stratum in strata if stratum in found)
    return {"n": n, "correct": correct, "accuracy": correct / max(1, n), "ci95": wilson(correct, n)}


def curves(figures: Figures) -> list[Table]:
    return [
        _steps(rows, list(CURVES), list(CURVES.values()), f"RLVR of the arm {arm_name(arm)}, step by step")
        for arm, rows in figures.curves().items()
    ]


def warmup(figures: Figures) -> Table | None:
    rows = figures.metrics.get("warmup")
    return (
        _steps(rows, ["loss", "gradient_norm", "learning_rate"], ["loss", "gradient norm", "learning rate"], "Warm-up")
        if rows
        else None
    )


def _steps(rows: list[dict[str, Any]], names: list[str], titles: list[str], what: str) -> Table:
    """Evenly spread steps, the last one and those that were scored on tuning always among them."""
    every = max(1, -(-len(rows) // MOST_STEPS))
    shown = [
        row
        for place, row in enumerate(rows)
        if place % every == 0 or place == len(rows) - 1 or "tuning_accuracy" in row
    ]
    caption = f"{what}{'' if every == 1 else f' (one step in {every}, and those scored on tuning)'}."
    return Table(
        caption,
        ["Step", *titles],
        [[number(row["step"] + 1), *(number(row.get(name)) for name in names)] for row in shown],
    )


def seconds(figures: Figures) -> Table:
    spent = figures.results["seconds"]
    order = list(expected_stages(figures.recipe))
    stages = sorted(spent, key=lambda stage: order.index(stage) if stage in order else -1)
    rows = [*([stage, duration(spent[stage])] for stage in stages), ["all", duration(sum(spent.values()))]]
    return Table("Time by stage (of its last attempt, where it was resumed).", ["Stage", "Time"], rows)


def scorings(figures: Figures) -> Table:
    """Held-out cases are to be scored once per arm, decoding and seed; this is how often they were."""
    counted: Counter[tuple[str, str, int]] = Counter()
    last: dict[tuple[str, str, int], float] = {}
    for scoring in figures.results["held_out_scorings"]:
        key = (scoring["arm"], scoring["decoding"], scoring["seed"])
        counted[key] += 1
        last[key] = max(last.get(key, 0.0), scoring["time"])
    rows: Rows = [
        [
            arm_name(arm),
            how,
            str(seed),
            Cell(str(times), tone="warn" if times > 1 else ""),
            moment(last[arm, how, seed]),
        ]
        for (arm, how, seed), times in counted.items()
    ]
    caption = "How often the held-out cases were scored: once per arm, decoding and seed is right, an interrupted scoring counts too."
    return Table(caption, ["Arm", "Decoding", "Seed", "Times", "Last"], rows)


def provenance(figures: Figures) -> Table:
    rows = [list(pair) for pair in flattened(figures.provenance)]
    return Table("Versions, seeds and digests this run's figures depend on.", ["What", "Value"], rows)


def flattened(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and values. Counts by stratum are left out: the tables by stratum have them."""
    pairs: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, list):
            value = {str(place): item for place, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            pairs += [] if key == "by_stratum" else flattened(value, f"{prefix}{key}.")
        elif value is not None:
            pairs.append((f"{prefix}{key}", str(value)))
    return pairs


def moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
