"""Tables of the pilot, of the plan made from it, and of the gains that followed."""

from __future__ import annotations

from collections import defaultdict

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table, accuracy, arm_name, interval, number, percent, points
from ehrmind.report.reading import Figures, Piloted
from ehrmind.report.tables.results import pooled
from ehrmind.runs.records import Lift, PilotFigures, Plan, StratumDiagnosis

KINDS = ("solid", "misapplied", "missing")
FEWEST = 5  # strata of which an R² is shown; of fewer it is chance
TONES = {"missing": "warn", "solid": "good"}
INTERVENTIONS = {
    "entities": "Entities given",
    "formula": "Formula given",
    "both": "Both given",
    "tool": "Calculator tool",
    "criteria": "Criteria one by one",
    "events": "Deciding events listed",
}


def pilot(figures: Piloted) -> Table | None:
    if figures.pilot is None:
        return None
    k = figures.pilot.samples
    rows: Rows = [_row(stratum, found, k) for stratum, found in figures.pilot.by_stratum.items()]
    rows += [_row("all together", figures.pilot.overall, k)] if figures.pilot.overall else []
    caption = (
        f"The base model on training questions before any training, {k} samples each. The chance level is how often an"
        " answer to another question of the stratum would be right; a question is reliably solved when more samples"
        " are right than chance explains. Solid: pass@1 of 80 % or more. Missing: fewer than one question in ten is"
        " reliably solved and pass@1 is hardly above chance, so that reinforcement alone has nothing to reinforce."
        " Misapplied: between the two."
    )
    titles = ["Stratum", "Questions", "pass@1", f"pass@{k}", "Reliably solved", "Entropy (bits)", "Well-formed"]
    return Table(caption, [*titles, "Cut at the limit", "Knowledge", "Fails at"], rows)


def _row(stratum: str, found: PilotFigures, k: int) -> list[str | Cell]:
    kind, cause = (found.kind, found.cause) if isinstance(found, StratumDiagnosis) else ("", None)
    return [
        stratum,
        number(found.questions),
        Cell(percent(found.pass_at_1), interval(found.pass_at_1_ci95)),
        Cell(percent(found.pass_at_k), interval(found.pass_at_k_ci95)),
        Cell(percent(found.reliable_at_k), f"{found.needed} of {k}; chance {percent(found.chance)}"),
        f"{found.entropy:.1f}",
        percent(found.format_rate),
        percent(found.truncated),
        Cell(kind, tone=TONES.get(kind, "")) if kind else Cell(ABSENT),
        cause or ABSENT,
    ]


def interventions(figures: Piloted) -> Table | None:
    """The lift of pass@1 by each intervention, stratum by stratum."""
    if figures.pilot is None:
        return None
    strata = {stratum: row.interventions for stratum, row in figures.pilot.by_stratum.items() if row.interventions}
    names = list(dict.fromkeys(name for found in strata.values() for name in found))
    if not names:
        return None
    rows: Rows = [[stratum, *(_lift(found.get(name)) for name in names)] for stratum, found in strata.items()]
    caption = (
        "Where weak strata fail: the same questions with one hint given, and by how many points pass@1 rises, with 95 %"
        " intervals over patients. The first hint from the left that lifts by 10 points or more, surely above 0, names"
        " the cause."
    )
    return Table(caption, ["Stratum", *(INTERVENTIONS[name] for name in names)], rows)


def _lift(found: Lift | None) -> Cell:
    if found is None:
        return Cell(ABSENT)
    return Cell(points(found.lift), interval(found.ci95), "good" if found.lifts else "")


def predicted(figures: Figures) -> Table | None:
    """Held-out accuracy by the knowledge that the pilot found."""
    if figures.pilot is None:
        return None
    strata = figures.pilot.by_stratum
    kinds: dict[str, list[str]] = defaultdict(list)
    for stratum in figures.results.arms[figures.arms[0]].by_stratum:
        kinds["not in the pilot" if stratum not in strata else strata[stratum].kind].append(stratum)
    rows: Rows = [
        [
            kind,
            number(len(kinds[kind])),
            number(pooled(figures, figures.arms[0], kinds[kind]).n),
            *(accuracy(pooled(figures, arm, kinds[kind])) for arm in figures.arms),
        ]
        for kind in (*KINDS, "not in the pilot")
        if kinds[kind]
    ]
    caption = "What the pilot predicted: held-out accuracy by the knowledge that it found in each stratum."
    return Table(caption, ["Knowledge", "Strata", "Cases", *map(arm_name, figures.arms)], rows)


def plan(figures: Piloted) -> Table | None:
    """The gain expected of RLVR alone, and the warm-up that is advised."""
    if figures.plan is None:
        return None
    warm_up = figures.plan.warm_up
    rows: Rows = []
    for stratum, expected in figures.plan.expected.rlvr.items():
        traces = warm_up.traces_per_stratum.get(stratum) if warm_up else None
        advice = Cell(f"{traces:,} traces", warm_up.traces) if warm_up and traces else Cell(ABSENT)
        rows.append([stratum, Cell(points(expected.gain), interval((expected.low, expected.high))), advice])
    followed = "followed" if figures.recipe.stages == "auto" else "not followed: the recipe says stages: all"
    caption = f"The plan made from the pilot ({followed}). {' '.join(figures.plan.because)}"
    return Table(caption, ["Stratum", "Expected of RLVR alone, points", "Warm-up"], rows)


def plan_sentences(found: Plan) -> list[str]:
    """The reasons of the plan, and what to train."""
    if found.warm_up is None:
        return [*found.because, "Train: RLVR from the base model."]
    traces = found.warm_up.traces_per_stratum
    answers = f"{sum(traces.values()):,} worked answers ({found.warm_up.traces}) in {len(traces)} strata"
    return [*found.because, f"Train: a warm-up on {answers}, then RLVR."]


def gains(figures: Figures) -> Table | None:
    """The gain of RLVR alone as predicted and as obtained."""
    if figures.gains is None:
        return None
    found = figures.gains
    rows: Rows = [
        [
            stratum,
            row.kind,
            number(row.n),
            Cell(points(row.predicted), interval((row.low, row.high))),
            points(row.obtained),
        ]
        for stratum, row in found.by_stratum.items()
    ]
    misapplied = sum(row.kind == "misapplied" for row in found.by_stratum.values())
    within, fit = "", ""
    if found.r2_misapplied is not None and misapplied >= FEWEST:
        within = f", {found.r2_misapplied:.2f} within misapplied alone"
    if len(found.by_stratum) < FEWEST:
        fit = f" {len(found.by_stratum)} strata are too few for an R²."
    elif found.r2 is not None:
        fit = f" R² = 1 − SSE/SST = {found.r2:.2f}{within}."
    caption = (
        "Gain of RLVR alone that the pilot predicted, and what was obtained on held-out cases "
        f"({found.decoding} answers), in points.{fit}"
    )
    return Table(caption, ["Stratum", "Knowledge", "Cases", "Predicted", "Obtained"], rows)
