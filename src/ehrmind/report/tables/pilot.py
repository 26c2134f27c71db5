"""Tables of the pilot, of the plan made from it, and of what came of the plan."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ehrmind.report.formatting import ABSENT, Cell, Table, accuracy, arm_name, interval, number, percent, points
from ehrmind.report.reading import Figures
from ehrmind.report.tables.overview import pooled

Rows = list[list[str | Cell]]
KINDS = ("solid", "misapplied", "missing")
TONES = {"missing": "warn", "solid": "good"}


def pilot(figures: Figures) -> Table | None:
    if figures.pilot is None:
        return None
    k = figures.pilot["samples"]
    rows: Rows = []
    for stratum, row in [*figures.pilot["by_stratum"].items(), ("all together", figures.pilot["overall"])]:
        kind = row.get("kind", "")
        rows.append(
            [
                stratum,
                number(row["questions"]),
                Cell(percent(row["pass@1"]), interval(row["pass@1_ci95"])),
                Cell(percent(row["pass@k"]), interval(row["pass@k_ci95"])),
                Cell(percent(row["reliable@k"]), f"{row['needed']} of {k}; chance {percent(row['chance'])}"),
                f"{row['entropy']:.1f}",
                percent(row["format_rate"]),
                percent(row["truncated"]),
                Cell(kind, tone=TONES.get(kind, "")) if kind else Cell(ABSENT),
                row.get("cause") or ABSENT,
            ]
        )
    caption = (
        f"The base model on training questions before any training, {k} samples each. Luck is how often an answer to another question of "
        "the stratum would be right; a question is reliably solved when more samples are right than chance explains. Solid: pass@1 of "
        "80 % or more. Missing: fewer than one question in ten is reliably solved and pass@1 is hardly above chance, so that reinforcement "
        "alone has nothing to reinforce. "
        "Misapplied: between the two."
    )
    titles = [
        "Stratum",
        "Questions",
        "pass@1",
        f"pass@{k}",
        "Reliably solved",
        "Entropy (bits)",
        "Well-formed",
        "Cut at the limit",
        "Knowledge",
    ]
    return Table(caption, [*titles, "Fails at"], rows)


def interventions(figures: Figures) -> Table | None:
    """By stratum, what each kind of help did to pass@1."""
    if figures.pilot is None:
        return None
    strata = {
        stratum: row["interventions"]
        for stratum, row in figures.pilot["by_stratum"].items()
        if row.get("interventions")
    }
    names = list(dict.fromkeys(name for found in strata.values() for name in found))
    if not names:
        return None
    rows: Rows = [[stratum, *(_lift(found.get(name)) for name in names)] for stratum, found in strata.items()]
    caption = (
        "Where weak strata fail: the same questions with one thing taken off the model's hands, and by how many points pass@1 rises, with "
        "95 % intervals over patients. The first help from the left that lifts by 10 points or more, surely above 0, names the cause."
    )
    return Table(caption, ["Stratum", *(HELP[name] for name in names)], rows)


HELP = {
    "entities": "Entities given",
    "formula": "Formula given",
    "both": "Both given",
    "tool": "Calculator tool",
    "criteria": "Criteria one by one",
    "events": "Deciding events listed",
}


def _lift(found: dict[str, Any] | None) -> Cell:
    if found is None:
        return Cell(ABSENT)
    return Cell(points(found["lift"]), interval(found["ci95"]), "good" if found["lifts"] else "")


def foretold(figures: Figures) -> Table | None:
    """Held-out accuracy by what the pilot found."""
    if figures.pilot is None:
        return None
    strata = figures.pilot["by_stratum"]
    kinds: dict[str, list[str]] = defaultdict(list)
    for stratum in next(iter(figures.results["arms"].values()))["by_stratum"]:
        kinds["not in the pilot" if stratum not in strata else strata[stratum]["kind"]].append(stratum)
    rows: Rows = [
        [
            kind,
            number(len(kinds[kind])),
            number(pooled(figures, figures.arms[0], kinds[kind])["n"]),
            *(accuracy(pooled(figures, arm, kinds[kind])) for arm in figures.arms),
        ]
        for kind in (*KINDS, "not in the pilot")
        if kinds[kind]
    ]
    caption = "What the pilot foretold: held-out cases of the strata by what it found of them."
    return Table(caption, ["Knowledge", "Strata", "Cases", *map(arm_name, figures.arms)], rows)


def plan(figures: Figures) -> Table | None:
    """What is expected of RLVR alone, and what is to be warmed up."""
    if figures.plan is None:
        return None
    warm_up = figures.plan["warm_up"] or {"traces_per_stratum": {}, "traces": ""}
    rows: Rows = []
    for stratum, expected in figures.plan["expected"]["rlvr"].items():
        traces = warm_up["traces_per_stratum"].get(stratum)
        advice = Cell(f"{traces:,} traces", warm_up["traces"]) if traces else Cell(ABSENT)
        rows.append([stratum, Cell(points(expected["gain"]), interval([expected["low"], expected["high"]])), advice])
    followed = "followed" if figures.recipe.get("stages") == "auto" else "not followed: the recipe says stages: all"
    caption = f"The plan made from the pilot ({followed}). {' '.join(figures.plan['because'])}"
    return Table(caption, ["Stratum", "Expected of RLVR alone, points", "Warm-up"], rows)


def gains(figures: Figures) -> Table | None:
    if figures.gains is None:
        return None
    found = figures.gains
    rows: Rows = [
        [
            stratum,
            row["kind"],
            number(row["n"]),
            Cell(points(row["predicted"]), interval([row["low"], row["high"]])),
            points(row["obtained"]),
        ]
        for stratum, row in found["by_stratum"].items()
    ]
    within = "" if found["r2_misapplied"] is None else f", {found['r2_misapplied']:.2f} within misapplied alone"
    fit = "" if found["r2"] is None else f" R² = 1 − SSE/SST = {found['r2']:.2f}{within}."
    caption = (
        "Gain of RLVR alone that the pilot predicted, and what was obtained on held-out cases "
        f"({found['decoding']} answers), in points.{fit}"
    )
    return Table(caption, ["Stratum", "Knowledge", "Cases", "Predicted", "Obtained"], rows)
